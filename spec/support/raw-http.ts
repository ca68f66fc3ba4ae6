/**
 * HTTP as bytes: requests that no client library would send, and what comes back for them.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";

/** A connection whose answer is collected as text. */
export class RawClient {
  readonly socket: Socket;
  text = "";
  isClosed = false;
  readonly #wake = new Set<() => void>();

  constructor(address: string | { host: string; port: number }) {
    this.socket = typeof address === "string" ? connect(address) : connect(address);
    this.socket.on("data", (data) => {
      this.text += data.toString("latin1");
      this.#notify();
    });
    // What a server cuts off is an answer too.
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.isClosed = true;
      this.#notify();
    });
  }

  send(text: string | Uint8Array): this {
    this.socket.write(typeof text === "string" ? Buffer.from(text, "latin1") : text);
    return this;
  }

  /** Resolves when the collected text has it; rejects when the connection closes without. */
  async until(pattern: RegExp): Promise<string> {
    while (!pattern.test(this.text)) {
      if (this.isClosed) throw new Error(`closed without ${pattern}, after ${this.text}`);
      await this.#next();
    }
    return this.text;
  }

  async untilClosed(): Promise<string> {
    while (!this.isClosed) await this.#next();
    return this.text;
  }

  async untilConnected(): Promise<this> {
    if (this.socket.connecting) await once(this.socket, "connect");
    return this;
  }

  destroy(): void {
    this.socket.destroy();
  }

  #next(): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#wake.delete(wake);
        resolve();
      };
      this.#wake.add(wake);
    });
  }

  #notify(): void {
    for (const wake of [...this.#wake]) wake();
  }
}

/** One request in bytes; everything that came until the connection closed or `until` matched. */
export async function exchangeRaw(
  address: string | { host: string; port: number },
  text: string,
  until?: RegExp,
): Promise<string> {
  const client = new RawClient(address).send(text);
  try {
    return until === undefined ? await client.untilClosed() : await client.until(until);
  } finally {
    client.destroy();
  }
}
