/**
 * A network without root and without a tap: passt, a program that turns the guest's frames into sockets of the
 * user's. We are joined by a stream socket on which each frame has its length before it, 4 bytes, big-endian.
 *
 * passt is our child and ends with the socket, so it outlives neither the microVM nor us. Its ports are fixed
 * when it starts: other forwards need another one, and connections through the old one are lost.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { FrameSegments, NetBackend } from "../../devices/backend.js";
import {
  ETHERNET_SOURCE_OFFSET,
  FRAME_BYTES_MAX,
  HEADER_BYTES,
  MAC_BYTES,
} from "../../devices/virtio/net.regs.js";
import type { EstaloError } from "../../errors.js";
import type { GuestMemory } from "../../native/guest-memory.js";
import type { CheckedUserNetwork, PortForward } from "../config-net.js";
import type { DeviceSurroundings } from "../device-family.js";
import {
  closedBefore,
  findProgram,
  fixedForwards,
  gatewayQuestion,
  isAlive,
  kill,
  passtError,
  passtWords,
  SAID_CHARACTERS,
  SOCKET_FD,
  START_MS,
  startError,
} from "./passt-program.js";

const LENGTH_BYTES = 4;
/** Bytes on their way to passt from which on the guest has to wait. */
const SENDING_BYTES_MAX = 1_048_576;
/** Frames for the guest from which on passt has to wait, and until when. */
const WAITING_MAX = 256;
const WAITING_RESUME = 64;
/** One that ended is started again after this. */
const RESTART_MS = 1000;

/** Other forwards than before, until the passt that has them is known to work. */
interface Change {
  /** What is put back when it does not. */
  readonly before: CheckedUserNetwork;
  readonly resolve: (after?: Promise<void>) => void;
  readonly reject: (error: EstaloError) => void;
  /** Ends one that does not answer. */
  readonly timer: NodeJS.Timeout;
}

/** Where passt comes from. */
export interface PasstOptions {
  /** Default "passt". */
  readonly program?: string;
  readonly socket?: number;
}

/** See the file's header. Thread: the device host's. */
export class PasstBackend implements NetBackend {
  readonly supportsOffloads = false;
  sendErrors = 0;
  receiveErrors = 0;
  onReadable: (() => void) | undefined;
  onWritable: (() => void) | undefined;

  readonly #program: string;
  readonly #isHandedOver: boolean;
  #network: CheckedUserNetwork;
  #memory: GuestMemory | undefined;
  #onError: (error: unknown) => void = () => {};
  #child: ChildProcess | undefined;
  #socket: Duplex | undefined;
  #restart: NodeJS.Timeout | undefined;
  /** One that was killed and may have its ports still. */
  #ending: ChildProcess | undefined;
  #change: Change | undefined;
  /** It has once been up: what ends it later does not end the microVM. */
  #hasWorked = false;
  #isClosed = false;
  /** What came and is no whole frame yet, and whole frames. */
  #partial: Uint8Array = new Uint8Array(0);
  readonly #waiting: Uint8Array[] = [];
  /** The guest's Ethernet address: that of its last frame. */
  readonly #guestMac = new Uint8Array(MAC_BYTES);

  /**
   * Looks for the program (in PATH, unless it is a path); raises ERR_ESTALO_PASST when there is none. With
   * `socket`, a descriptor, passt was started by `startPasst`; it is used as long as it lives.
   */
  constructor(network: CheckedUserNetwork, { program = "passt", socket }: PasstOptions = {}) {
    this.#network = network;
    this.#isHandedOver = socket !== undefined;
    this.#program = socket === undefined ? findProgram(program) : program;
    if (socket !== undefined) this.#listen(new Socket({ fd: socket }));
  }

  /**
   * Starts passt. What it refuses comes to `onError`: the microVM has no network as configured. Raises
   * ERR_ESTALO_PASST where the host cannot start it.
   */
  connect({ memory, onError }: Pick<DeviceSurroundings, "memory" | "onError">): void {
    this.#memory = memory;
    this.#onError = onError;
    if (!this.#isHandedOver) this.#start();
  }

  /**
   * Starts passt anew with other forwards; connections through the one before are lost. Fulfilled when that one
   * works. Rejects with ERR_ESTALO_PASST when it does not; the forwards are then those before.
   */
  setForwards(forwards: readonly PortForward[]): Promise<void> {
    if (this.#isHandedOver) throw fixedForwards(this.#program);
    const former = this.#change;
    const before = former?.before ?? this.#network;
    this.#network = { ...this.#network, forwards };
    if (this.#memory === undefined || this.#isClosed) return Promise.resolve();
    this.#change = undefined;
    const done = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => kill(this.#child), START_MS);
      this.#change = { before, resolve, reject, timer };
    });
    // Who does not wait for it is told by nobody, and not ended by it either.
    done.catch(() => {});
    clearTimeout(former?.timer);
    former?.resolve(done);
    this.#stop();
    // What waited for room in the socket is lost: nobody tells of any there.
    this.onWritable?.();
    this.#hasWorked = true;
    this.#startAgain();
    return done;
  }

  setOffloads(): void {}

  /** There is one only. */
  setAttached(): void {}

  send(frames: FrameSegments, first: number, end: number): number {
    let frame = first;
    for (; frame < end; frame++) {
      const socket = this.#writable();
      if (socket === "full") break;
      if (socket === undefined) this.sendErrors++;
      else this.#write(socket, this.#gather(frames, frame));
    }
    return frame - first;
  }

  receive(
    buffers: FrameSegments,
    first: number,
    end: number,
    mergeable: boolean,
    frameBytes: Uint32Array,
    frameBuffers: Uint16Array,
  ): number {
    let buffer = first;
    let frames = 0;
    while (frames < frameBytes.length && buffer < end && this.#waiting.length > 0) {
      const [frame] = this.#waiting;
      const last = mergeable ? end : buffer + 1;
      const used = this.#scatter(frame, buffers, buffer, last);
      // Others have taken buffers before it: with all of them it may fit.
      if (used === 0 && mergeable && buffer > first) break;
      this.#takeWaiting();
      if (used === 0) {
        this.receiveErrors++;
        continue;
      }
      frameBytes[frames] = frame.length;
      frameBuffers[frames++] = used;
      buffer += used;
    }
    return frames;
  }

  sendBytes(frame: Uint8Array): boolean {
    const socket = this.#writable();
    if (socket === "full") return false;
    if (socket === undefined) this.sendErrors++;
    else this.#write(socket, withLength(frame.subarray(HEADER_BYTES)));
    return true;
  }

  receiveBytes(): Uint8Array | undefined {
    return this.#takeWaiting();
  }

  close(): void {
    this.#isClosed = true;
    this.#stop();
    this.#endChange(closedBefore(this.#program));
  }

  #start(): void {
    const child = this.#spawn();
    this.#child = child;
    let said = "";
    child.on("error", (error) => this.#onEnd(child, startError(this.#program, error)));
    // Not "exit": what it said is then not all read.
    child.on("close", (status) => this.#onEnd(child, passtError(this.#program, status, said)));
    // A child for which there were no descriptors has no streams, whatever its type says.
    const stdio = child.stdio as ChildProcess["stdio"] | undefined;
    this.#listen(stdio?.[SOCKET_FD] as unknown as Duplex | undefined);
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-SAID_CHARACTERS);
    });
  }

  #spawn(): ChildProcess {
    const words = ["--foreground", "--stderr", ...passtWords(this.#network)];
    try {
      return spawn(this.#program, words, { stdio: ["ignore", "ignore", "pipe", "pipe"] });
    } catch (error) {
      throw startError(this.#program, error);
    }
  }

  /**
   * Starts one in the place of one before: what the host cannot do now it may be able to do later. It learns
   * the guest's Ethernet address from a frame, which a guest that only waits for connections would not send.
   */
  #startAgain(): void {
    if (this.#child !== undefined || this.#isClosed) return;
    const ending = this.#ending;
    if (isAlive(ending)) {
      ending.once("exit", () => this.#startAgain());
      return;
    }
    try {
      this.#start();
      this.#socket?.write(withLength(gatewayQuestion(this.#guestMac)));
    } catch (error) {
      this.#endChange(error as EstaloError);
      this.#startLater();
    }
  }

  /** Tells who waits for a change, and puts the forwards before back with `error`; false: nobody does. */
  #endChange(error?: EstaloError): boolean {
    const change = this.#change;
    if (change === undefined) return false;
    this.#change = undefined;
    clearTimeout(change.timer);
    if (error !== undefined) this.#network = change.before;
    if (error === undefined) change.resolve();
    else change.reject(error);
    return true;
  }

  #startLater(): void {
    this.#restart = setTimeout(() => this.#startAgain(), RESTART_MS);
    // What waited for room is lost like all that comes until then.
    this.onWritable?.();
  }

  #listen(socket: Duplex | undefined): void {
    this.#socket = socket;
    // An error of the socket is an end of the program, which is seen.
    socket?.on("error", () => {});
    socket?.on("data", (bytes: Uint8Array) => {
      if (this.#socket === socket) this.#onBytes(bytes);
    });
    socket?.on("drain", () => this.onWritable?.());
    // One that is handed over has no other end: what waits for room in it is lost.
    socket?.on("close", () => {
      if (this.#socket === socket) this.onWritable?.();
    });
  }

  #stop(): void {
    clearTimeout(this.#restart);
    this.#restart = undefined;
    const child = this.#child;
    this.#child = undefined;
    this.#socket?.destroy();
    this.#socket = undefined;
    child?.stderr?.destroy();
    kill(child);
    if (isAlive(child)) this.#ending = child;
    this.#partial = new Uint8Array(0);
    this.#waiting.length = 0;
  }

  #onEnd(child: ChildProcess, error: EstaloError): void {
    if (child !== this.#child || this.#isClosed) return;
    this.#stop();
    if (!this.#hasWorked) {
      this.#onError(error);
      return;
    }
    // Those before have worked.
    if (this.#endChange(error)) this.#startAgain();
    else this.#startLater();
  }

  /** Where a frame can be written now; "full": later; undefined: nowhere. */
  #writable(): Duplex | "full" | undefined {
    const socket = this.#socket;
    if (socket === undefined || !socket.writable) return undefined;
    return socket.writableLength >= SENDING_BYTES_MAX ? "full" : socket;
  }

  #write(socket: Duplex, message: Uint8Array): void {
    const source = LENGTH_BYTES + ETHERNET_SOURCE_OFFSET;
    if (message.length >= source + MAC_BYTES) {
      for (let byte = 0; byte < MAC_BYTES; byte++) this.#guestMac[byte] = message[source + byte];
    }
    socket.write(message);
  }

  /** The frame in one piece with its length in the place of its header. */
  #gather({ addresses, lengths, ends }: FrameSegments, frame: number): Uint8Array {
    const memory = this.#memory as GuestMemory;
    const first = frame === 0 ? 0 : ends[frame - 1];
    let bytes = 0;
    for (let i = first; i < ends[frame]; i++) bytes += lengths[i];
    const whole = new Uint8Array(bytes);
    let at = 0;
    for (let i = first; i < ends[frame]; i++) {
      for (const part of memory.slices(addresses[i], lengths[i])) {
        whole.set(part, at);
        at += part.length;
      }
    }
    const message = whole.subarray(HEADER_BYTES - LENGTH_BYTES);
    writeLength(message);
    return message;
  }

  /** Puts a frame into buffers from `first` to before `end`; returns how many it took, 0: it does not fit. */
  #scatter(frame: Uint8Array, buffers: FrameSegments, first: number, end: number): number {
    const { addresses, lengths, ends } = buffers;
    let copied = 0;
    for (let buffer = first; buffer < end; buffer++) {
      for (let i = buffer === 0 ? 0 : ends[buffer - 1]; i < ends[buffer]; i++) {
        const part = frame.subarray(copied, copied + lengths[i]);
        (this.#memory as GuestMemory).write(addresses[i], part);
        copied += part.length;
      }
      if (copied === frame.length) return buffer - first + 1;
    }
    return 0;
  }

  #takeWaiting(): Uint8Array | undefined {
    const frame = this.#waiting.shift();
    if (this.#waiting.length < WAITING_RESUME && this.#socket?.isPaused()) this.#socket.resume();
    return frame;
  }

  #onBytes(bytes: Uint8Array): void {
    let rest = this.#partial.length === 0 ? bytes : Buffer.concat([this.#partial, bytes]);
    while (rest.length >= LENGTH_BYTES) {
      const length = new DataView(rest.buffer, rest.byteOffset).getUint32(0);
      if (length > FRAME_BYTES_MAX - HEADER_BYTES) {
        // The stream is out of step, for good.
        kill(this.#child);
        return;
      }
      if (rest.length < LENGTH_BYTES + length) break;
      const frame = new Uint8Array(HEADER_BYTES + length);
      frame.set(rest.subarray(LENGTH_BYTES, LENGTH_BYTES + length), HEADER_BYTES);
      this.#waiting.push(frame);
      rest = rest.subarray(LENGTH_BYTES + length);
    }
    this.#partial = rest;
    this.#hasWorked = true;
    this.#endChange();
    if (this.#waiting.length >= WAITING_MAX) this.#socket?.pause();
    if (this.#waiting.length > 0) this.onReadable?.();
  }
}

function writeLength(message: Uint8Array): void {
  const length = message.length - LENGTH_BYTES;
  new DataView(message.buffer, message.byteOffset).setUint32(0, length);
}

function withLength(frame: Uint8Array): Uint8Array {
  const message = new Uint8Array(LENGTH_BYTES + frame.length);
  message.set(frame, LENGTH_BYTES);
  writeLength(message);
  return message;
}
