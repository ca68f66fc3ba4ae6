/**
 * /v1/microvms/{id}/agent: a connection with the guest's agent, bytes both ways (docs/agent.md has its frames).
 *
 * The server looks into nothing of it. The guest waits for a client that does not read; a client that has more
 * than UNREAD_BYTES_MAX under way to a guest that does not is closed with 1013, and is told by
 * {"type":"taken","bytes":N} how much has gone, in all. A client that goes ends the connection, and with it
 * what the guest does for it.
 */
import type { Duplex } from "node:stream";
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

/** Bytes of one client that have not gone to the guest yet; more closes it. */
const UNREAD_BYTES_MAX = 256 * 1024;
const TAKEN_STEP_BYTES = 64 * 1024;
/** Room that RFC 6455 leaves for a reason. */
const REASON_BYTES_MAX = 123;

type Agent = NonNullable<LiveMicrovm["devices"]["vsock"]>["agent"];

/** The session of one client with one guest's agent, which may be closed already. */
export function openAgent(fleet: DoorFleet, idOrName: string, peer: SocketPeer): SocketSession {
  try {
    const { state } = fleet.get(idOrName);
    const agent = fleet.supervisor(idOrName)?.devices.vsock?.agent;
    if (agent !== undefined) return new AgentSession(agent, peer);
    const why = state === "running" ? "it has no vsock device" : `it is ${state}`;
    peer.close(CLOSE_WRONG_STATE, `no agent in the microVM's guest: ${why}`);
  } catch (error) {
    if (!isEstaloError(error) || error.code !== "ERR_ESTALO_NOT_FOUND") throw error;
    peer.close(CLOSE_NOT_FOUND, "there is no such microVM");
  }
  return { onClose() {} };
}

class AgentSession implements SocketSession {
  readonly #peer: SocketPeer;
  readonly #gone = new AbortController();
  #stream: Duplex | undefined;
  /** What came while there was no connection, or the guest was busy with what came before. */
  readonly #waiting = new KeptBytes();
  #writingBytes = 0;
  #unreadBytes = 0;
  #takenBytes = 0;
  #toldBytes = 0;
  #isFull = false;

  constructor(agent: Agent, peer: SocketPeer) {
    this.#peer = peer;
    agent.openStream(this.#gone.signal).then(
      (stream) => this.#join(stream),
      (error) => this.#close(CLOSE_WRONG_STATE, String(error?.message ?? error)),
    );
  }

  onMessage(message: Uint8Array, isBinary: boolean): void {
    if (this.#gone.signal.aborted) return;
    if (!isBinary) {
      this.#close(CLOSE_POLICY, "the agent is spoken to in binary messages");
      return;
    }
    this.#unreadBytes += message.length;
    if (this.#unreadBytes > UNREAD_BYTES_MAX) {
      this.#close(CLOSE_TOO_SLOW, "the guest does not read");
      return;
    }
    this.#waiting.append(message);
    this.#write();
  }

  onDrain(): void {
    this.#isFull = false;
    this.#stream?.resume();
    this.#tellTaken();
  }

  onClose(): void {
    if (this.#gone.signal.aborted) return;
    this.#gone.abort();
    this.#waiting.take();
    this.#stream?.destroy();
  }

  #join(stream: Duplex): void {
    if (this.#gone.signal.aborted) {
      stream.destroy();
      return;
    }
    this.#stream = stream;
    stream.on("data", (bytes) => {
      if (this.#peer.send(bytes)) return;
      this.#isFull = true;
      stream.pause();
    });
    stream.on("error", () => {});
    // What the guest said last has been sent by then: queued messages go before the goodbye.
    const end = () => this.#close(CLOSE_NORMAL, "the agent has ended the connection");
    stream.on("end", end).on("close", end);
    // A guest may have ended it in the turn in which it took it, and says so no more.
    if (stream.destroyed || stream.readableEnded) end();
    else this.#write();
  }

  /** What waits goes together: a client's messages may be as small as it likes. */
  #write(): void {
    if (this.#stream === undefined || this.#writingBytes > 0) return;
    const bytes = this.#waiting.take();
    this.#writingBytes = bytes.length;
    for (let at = 0; at < bytes.length; at += TAKEN_STEP_BYTES) {
      const part = bytes.subarray(at, at + TAKEN_STEP_BYTES);
      this.#stream.write(part, (error) => {
        if (error == null) this.#taken(part.length);
      });
    }
  }

  #taken(bytes: number): void {
    this.#writingBytes -= bytes;
    this.#unreadBytes -= bytes;
    this.#takenBytes += bytes;
    this.#tellTaken();
    this.#write();
  }

  #tellTaken(): void {
    if (this.#gone.signal.aborted || this.#isFull) return;
    if (this.#takenBytes - this.#toldBytes < TAKEN_STEP_BYTES) return;
    this.#toldBytes = this.#takenBytes;
    this.#isFull = !this.#peer.send(JSON.stringify({ type: "taken", bytes: this.#takenBytes }));
    if (this.#isFull) this.#stream?.pause();
  }

  #close(code: number, reason: string): void {
    if (this.#gone.signal.aborted) return;
    this.onClose();
    this.#peer.close(code, Buffer.from(reason).subarray(0, REASON_BYTES_MAX).toString("latin1"));
  }
}
