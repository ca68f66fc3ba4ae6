/** The client's end of a WebSocket, played: it takes messages until it is told to be slow. */
import type { SocketPeer } from "../../src/api/http.js";

export class FakePeer implements SocketPeer {
  readonly messages: (string | Uint8Array)[] = [];
  closed: { readonly code: number; readonly reason: string } | undefined;
  /** Messages it takes at once before it says that it is full. */
  room = Number.POSITIVE_INFINITY;
  readonly bufferedBytes = 0;

  send(message: string | Uint8Array): boolean {
    if (this.closed !== undefined) return false;
    this.messages.push(typeof message === "string" ? message : message.slice());
    this.room -= 1;
    return this.room > 0;
  }

  close(code: number, reason: string): void {
    this.closed ??= { code, reason };
  }

  /** Binary messages, joined, as text. */
  get text(): string {
    const binary = this.messages.filter((message) => typeof message !== "string");
    return Buffer.concat(binary as Uint8Array[]).toString("latin1");
  }

  /** Text messages, parsed. */
  get json(): Record<string, unknown>[] {
    return this.messages.flatMap((message) =>
      typeof message === "string" ? [JSON.parse(message)] : [],
    );
  }
}
