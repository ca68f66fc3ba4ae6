/**
 * A server for loads, played: it makes microVMs in name, tells their boots and ends as events, and knows what
 * was not removed. A spec says what becomes of each.
 */
import type { WebSocket } from "ws";
import { type PlayedReply, PlayedServer, playedMicrovm, problem } from "./played-server.js";

/** What a microVM is to do; by default it boots. */
export type PlayedGuest = "boots" | "is silent" | "panics" | "powers off" | "is refused";

/** What a client asked for. */
export interface AskedSpec {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly config: { readonly memoryMib?: number; readonly vcpuCount?: number };
}

/** See the file's header. */
export class PlayedLoad implements AsyncDisposable {
  readonly specs: AskedSpec[] = [];
  /** What was made and not removed, by name. */
  readonly there = new Map<string, AskedSpec>();
  /** What the n-th is to do, from 0. */
  guest: (index: number) => PlayedGuest = () => "boots";
  /** Awaited before a creation is answered. */
  held: Promise<void> = Promise.resolve();
  readonly #server: PlayedServer;
  #socket: WebSocket | undefined;
  /** As they were told. */
  readonly #events: string[] = [];
  #cpuSeconds = 0;

  private constructor(server: PlayedServer) {
    this.#server = server;
    server.play = ({ method, url, body }) => this.#answer(method, new URL(url, "http://x"), body);
    server.onSocket = (socket, url) => {
      this.#socket = socket;
      const newest = this.#events.length;
      socket.send(JSON.stringify({ type: "hello", oldest: 1, newest }));
      const since = Number(url.searchParams.get("since") ?? newest);
      for (const event of this.#events.slice(since)) socket.send(event);
    };
  }

  static async open(): Promise<PlayedLoad> {
    return new PlayedLoad(await PlayedServer.open());
  }

  get host(): string {
    return this.#server.host;
  }

  get asked(): readonly string[] {
    return this.#server.asked;
  }

  /** Breaks the stream of events, as a server does that has forgotten what is asked for. */
  loseEvents(): void {
    this.#socket?.close(4410, "not kept");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#server[Symbol.asyncDispose]();
  }

  async #answer(method: string, url: URL, body: string): Promise<PlayedReply> {
    const name = decodeURIComponent(url.pathname.split("/")[3] ?? "");
    if (url.pathname === "/metrics") return { body: this.#metrics() };
    if (url.pathname === "/v1/info") {
      const guest = { version: "1", bootArgs: "quiet root=/dev/vda ro" };
      return { body: { version: "1", apiVersion: "v1", guest } };
    }
    if (method === "POST" && name === "") return this.#create(JSON.parse(body) as AskedSpec);
    if (method === "DELETE") {
      const isThere = this.there.delete(name);
      return isThere ? { status: 204, body: "" } : notFound(name);
    }
    if (method === "POST") return { body: playedMicrovm({ id: name, name, state: "stopped" }) };
    const label = url.searchParams.get("label") ?? "";
    const [key, value] = label.split("=");
    const items = [...this.there.values()].filter(({ labels }) => labels[key] === value);
    return { body: { items: items.map((spec) => microvmOf(spec)), next: null } };
  }

  async #create(spec: AskedSpec): Promise<PlayedReply> {
    const guest = this.guest(this.specs.length);
    this.specs.push(spec);
    if (guest === "is refused") {
      return { status: 503, body: problem("ERR_ESTALO_BUSY", "no room\nat all") };
    }
    this.there.set(spec.name, spec);
    await this.held;
    if (guest === "boots") this.#tell(spec.name, { type: "booted" });
    if (guest === "panics") this.#tell(spec.name, exited("panic", 121));
    if (guest === "powers off") {
      this.#tell(spec.name, { type: "booted" });
      this.#tell(spec.name, exited("poweroff", 0));
    }
    return { status: 201, body: microvmOf(spec) };
  }

  #tell(name: string, event: object): void {
    const sequence = this.#events.length + 1;
    const text = JSON.stringify({ sequence, atMs: Date.now(), microvm: name, name, ...event });
    this.#events.push(text);
    this.#socket?.send(text);
  }

  #metrics(): string {
    this.#cpuSeconds += 0.5;
    return [
      `estalo_process_cpu_seconds_total{mode="user"} ${this.#cpuSeconds}`,
      "process_resident_memory_bytes 1048576",
      `estalo_microvms{state="running"} ${this.there.size}`,
      `estalo_events_total ${this.#events.length}`,
      'nodejs_eventloop_lag_seconds{quantile="0.99"} 0.002',
      "",
    ].join("\n");
  }
}

function microvmOf({ name, labels }: AskedSpec): Record<string, unknown> {
  return playedMicrovm({ id: name, name, labels });
}

function exited(reason: string, exitCode: number): object {
  return { type: "exited", exit: { reason, guestStatus: null, error: null, exitCode } };
}

function notFound(name: string): PlayedReply {
  return { status: 404, body: problem("ERR_ESTALO_NOT_FOUND", `there is no microVM ${name}`) };
}
