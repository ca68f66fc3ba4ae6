/**
 * /v1/microvms/{id}/console: the guest's serial console, bytes both ways.
 *
 * Any number of readers, each with the kept history first if it asks; any number of writers, whose bytes meet
 * in the order they arrive while the guest reads, and else in larger pieces of each. A client that does not keep
 * up is closed with 1013, and so is a writer whose guest does not read: the guest itself never waits for a client.
 *
 * A client that sends much keeps less than UNREAD_BYTES_MAX under way: {"type":"taken","bytes":N} tells it how
 * many bytes of its input the guest has read, in all.
 *
 * A text message changes the size of the guest's terminal. A serial line has none, so this reaches guests that
 * speak frames (actors/guest-stdio-frames.ts), which is seen in what they last wrote; others do not notice.
 */
import { Compile } from "typebox/compile";
import { encodeFrame, FRAME_WINSIZE, FrameParser } from "../../actors/guest-stdio-frames.js";
import { KeptBytes } from "../../actors/kept-bytes.js";
import { isEstaloError } from "../../errors.js";
import type { SocketPeer, SocketSession } from "../http.js";
import {
  CLOSE_NORMAL,
  CLOSE_NOT_FOUND,
  CLOSE_POLICY,
  CLOSE_TOO_SLOW,
  CLOSE_WRONG_STATE,
} from "./close-codes.js";
import type { DoorFleet, LiveMicrovm } from "./fleet.js";
import { ConsoleResize } from "./stream-schemas.js";

/** Output kept for a client that is behind; more closes it. */
const PENDING_BYTES_MAX = 1024 * 1024;
/** Input of one client that the guest has not read yet; more closes it. */
const UNREAD_BYTES_MAX = 256 * 1024;
/** The same of all clients of a guest, those that have gone among them, and how many they are. */
const ALL_UNREAD_BYTES_MAX = 4 * 1024 * 1024;
const UNREAD_CLIENTS_MAX = 1024;
/** A client is told what the guest has read each time it is so much more: typing is never answered. */
const TAKEN_STEP_BYTES = 64 * 1024;
/** Of a message with output that waited. */
const MESSAGE_BYTES_MAX = 64 * 1024;
/** A resize message is much shorter. */
const TEXT_BYTES_MAX = 256;

const resizeSchema = Compile(ConsoleResize);

/** What the client asked for. */
export interface ConsoleOptions {
  /** Send what the console showed before, at most 64 KiB. */
  readonly history: boolean;
  /** Take input. */
  readonly write: boolean;
}

/** The session of one client at one microVM's console, which may be closed already. */
export function openConsole(
  fleet: DoorFleet,
  idOrName: string,
  options: ConsoleOptions,
  peer: SocketPeer,
): SocketSession {
  let live: LiveMicrovm | undefined;
  try {
    const { state } = fleet.get(idOrName);
    live = fleet.supervisor(idOrName);
    if (live === undefined && (state === "configured" || !options.history)) {
      peer.close(CLOSE_WRONG_STATE, `the microVM is ${state}: it has no console now`);
      return NO_SESSION;
    }
  } catch (error) {
    if (!isEstaloError(error) || error.code !== "ERR_ESTALO_NOT_FOUND") throw error;
    peer.close(CLOSE_NOT_FOUND, "there is no such microVM");
    return NO_SESSION;
  }
  if (live !== undefined) return new ConsoleSession(live, options, peer);
  const log = fleet.consoleLog(idOrName);
  if (log.length > 0) peer.send(log);
  peer.close(CLOSE_NORMAL, "the microVM has ended");
  return NO_SESSION;
}

const NO_SESSION: SocketSession = { onClose() {} };

/**
 * The clients of one microVM's console. They hear of its end from here: what is hung on its promise stays there
 * for the microVM's life, whether its client does or not.
 */
class ConsoleClients {
  static readonly #all = new WeakMap<LiveMicrovm, ConsoleClients>();
  /** Input that the guest has not read, and whose it is; what a client said stays when it goes. */
  unreadBytes = 0;
  unreadClients = 0;
  readonly #sessions = new Set<ConsoleSession>();
  #hasEnded = false;

  private constructor(live: LiveMicrovm) {
    void live.exited.then(() => {
      this.#hasEnded = true;
      for (const session of [...this.#sessions]) session.end();
    });
  }

  static of(live: LiveMicrovm): ConsoleClients {
    let clients = ConsoleClients.#all.get(live);
    if (clients === undefined) {
      clients = new ConsoleClients(live);
      ConsoleClients.#all.set(live, clients);
    }
    return clients;
  }

  add(session: ConsoleSession): void {
    this.#sessions.add(session);
    if (this.#hasEnded) queueMicrotask(() => session.end());
  }

  remove(session: ConsoleSession): void {
    this.#sessions.delete(session);
  }
}

class ConsoleSession implements SocketSession {
  readonly #live: LiveMicrovm;
  readonly #clients: ConsoleClients;
  readonly #peer: SocketPeer;
  readonly #canWrite: boolean;
  readonly #detach: () => void;
  /** Output for a client that is behind. */
  readonly #pending = new KeptBytes();
  /** Input for a guest that does not read, behind what the console has, and how much of it the client is to hear of. */
  readonly #waiting = new KeptBytes();
  #waitingInputBytes = 0;
  #isSending = false;
  #unreadBytes = 0;
  #takenBytes = 0;
  #toldBytes = 0;
  #isPaused = false;
  #isClosed = false;
  #hasEnded = false;

  constructor(live: LiveMicrovm, options: ConsoleOptions, peer: SocketPeer) {
    this.#live = live;
    this.#peer = peer;
    this.#canWrite = options.write;
    this.#detach = live.console.read((bytes) => this.#take(bytes), options.history);
    this.#clients = ConsoleClients.of(live);
    this.#clients.add(this);
  }

  /** The microVM has ended. */
  end(): void {
    this.#hasEnded = true;
    this.#finish();
  }

  onMessage(message: Uint8Array, isBinary: boolean): void {
    if (this.#isClosed) return;
    if (!isBinary) this.#takeText(message);
    else if (this.#canWrite) this.#write(message);
    else this.#close(CLOSE_POLICY, "open the console with write=true to send input");
  }

  onDrain(): void {
    this.#isPaused = false;
    const pending = this.#pending.take();
    for (let at = 0; at < pending.length; at += MESSAGE_BYTES_MAX) {
      this.#take(pending.subarray(at, at + MESSAGE_BYTES_MAX));
    }
    this.#tellTaken();
    this.#finish();
  }

  onClose(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#detach();
    this.#clients.remove(this);
    this.#pending.take();
  }

  #close(code: number, reason: string): void {
    if (this.#isClosed) return;
    this.onClose();
    this.#peer.close(code, reason);
  }

  #take(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    if (!this.#isPaused) {
      this.#isPaused = !this.#peer.send(bytes);
      return;
    }
    if (this.#pending.length + bytes.length > PENDING_BYTES_MAX) {
      this.#close(CLOSE_TOO_SLOW, "output is lost: this reader is too slow");
    } else {
      this.#pending.append(bytes);
    }
  }

  /** Closes when the guest is gone and its last output was sent. */
  #finish(): void {
    if (!this.#hasEnded || this.#isPaused) return;
    this.#close(CLOSE_NORMAL, "the microVM has ended");
  }

  /** @param inputBytes - how much of `bytes` the client sent, and wants to hear of */
  #write(bytes: Uint8Array, inputBytes = bytes.length): void {
    if (bytes.length === 0) return;
    const all = this.#clients;
    const ownBytes = this.#unreadBytes + bytes.length;
    const allBytes = all.unreadBytes + bytes.length;
    const clients = all.unreadClients + (this.#unreadBytes === 0 ? 1 : 0);
    if (
      ownBytes > UNREAD_BYTES_MAX ||
      allBytes > ALL_UNREAD_BYTES_MAX ||
      clients > UNREAD_CLIENTS_MAX
    ) {
      this.#close(CLOSE_TOO_SLOW, "the guest does not read its console");
      return;
    }
    this.#unreadBytes = ownBytes;
    all.unreadBytes = allBytes;
    all.unreadClients = clients;
    this.#waiting.append(bytes);
    this.#waitingInputBytes += inputBytes;
    this.#sendWaiting();
  }

  /** Also when the client has gone meanwhile: what it said last is for the guest. */
  #sendWaiting(): void {
    if (this.#isSending || this.#waiting.length === 0) return;
    const bytes = this.#waiting.take();
    const inputBytes = this.#waitingInputBytes;
    this.#waitingInputBytes = 0;
    const taken = () => {
      this.#isSending = false;
      this.#unreadBytes -= bytes.length;
      this.#clients.unreadBytes -= bytes.length;
      if (this.#unreadBytes === 0) this.#clients.unreadClients -= 1;
      this.#takenBytes += inputBytes;
      this.#tellTaken();
      this.#sendWaiting();
    };
    const { console } = this.#live;
    const sent = console.send(bytes);
    this.#isSending = console.hasInput;
    if (this.#isSending) void sent.then(taken);
    else taken();
  }

  #tellTaken(): void {
    if (this.#isClosed || this.#isPaused) return;
    if (this.#takenBytes - this.#toldBytes < TAKEN_STEP_BYTES) return;
    this.#toldBytes = this.#takenBytes;
    const message = { type: "taken", bytes: this.#takenBytes };
    this.#isPaused = !this.#peer.send(JSON.stringify(message));
  }

  #takeText(message: Uint8Array): void {
    const resize = message.length > TEXT_BYTES_MAX ? undefined : parseResize(message);
    if (resize === undefined || !this.#canWrite) {
      this.#close(
        CLOSE_POLICY,
        this.#canWrite
          ? 'a text message is {"type":"resize","columns":N,"rows":N}'
          : "open the console with write=true to change its size",
      );
      return;
    }
    if (!speaksFrames(this.#live.console.history())) return;
    const payload = new Uint8Array(4);
    const view = new DataView(payload.buffer);
    view.setUint16(0, resize.rows, true);
    view.setUint16(2, resize.columns, true);
    this.#write(encodeFrame(FRAME_WINSIZE, payload), 0);
  }
}

function parseResize(message: Uint8Array): { columns: number; rows: number } | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(message).toString("utf8"));
    return resizeSchema.Check(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the guest wrote a frame lately: it understands them, then. */
function speaksFrames(output: Uint8Array): boolean {
  let found = false;
  const parser = new FrameParser({
    onFrame: () => {
      found = true;
    },
    onText: () => {},
  });
  parser.push(output);
  return found;
}
