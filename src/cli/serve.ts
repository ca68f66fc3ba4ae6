/**
 * `estalo serve`: a fleet and door 2 as one process.
 *
 *     options ─▶ tokens ─▶ fleet opens its state ─▶ listeners ─▶ "listening on …" ─▶ … SIGTERM
 *     SIGTERM ─▶ readyz says no ─▶ microVMs end, their watchers are told ─▶ listeners close ─▶ state stored ─▶ 0
 *
 * Nothing that one microVM or one client does ends this process: promises that nobody waits for are logged, and
 * an exception that nobody caught ends it in order, with status 1.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Fleet } from "../actors/fleet.js";
import type { FleetEvent } from "../actors/fleet-messages.js";
import { type BalloonStep, balloonsOf, memoryPolicy } from "../actors/memory-policy.js";
import { pressure$, requirePressure } from "../actors/memory-pressure.js";
import { claimUnixPath } from "../api/unix-path.js";
import { TokenFile } from "../api/v1/auth.js";
import { FleetDoor } from "../api/v1/door.js";
import { hostError, toEstaloError } from "../errors.js";
import type { Cells } from "../isolation/cells.js";
import { openFleet } from "./serve-fleet.js";
import { ServeLog } from "./serve-log.js";
import type { ServeAddress, ServeOptions } from "./serve-options.js";

const EXIT_CRASHED = 1;
/** As shells have it: 128 and the signal's number. */
const EXIT_AT_ONCE = { SIGTERM: 143, SIGINT: 130 } as const;

/** Serves until it is told to end; returns the exit status. Raises what keeps it from starting. */
export async function serve(options: ServeOptions): Promise<number> {
  const log = new ServeLog(process.stderr, options.logForm ?? defaultForm());
  const server = await Server.open(options, log);
  const ended = new Promise<number>((resolve) => server.onSignals(resolve));
  process.stdout.write(`listening on ${server.urls.join(" ")}\n`);
  return ended;
}

function defaultForm(): "json" | "plain" {
  return process.stderr.isTTY ? "plain" : "json";
}

/** The parts of the running server. */
class Server {
  readonly urls: string[] = [];
  readonly #options: ServeOptions;
  readonly #log: ServeLog;
  readonly #fleet: Fleet;
  readonly #door: FleetDoor;
  readonly #tokens: TokenFile | undefined;
  readonly #cells: Cells | undefined;
  #isEnding = false;
  /** Ends the memory policy, if there is one. */
  #endPolicy = () => {};

  private constructor(
    options: ServeOptions,
    log: ServeLog,
    parts: { fleet: Fleet; tokens: TokenFile | undefined; cells: Cells | undefined },
  ) {
    const { fleet } = parts;
    this.#options = options;
    this.#log = log;
    this.#fleet = fleet;
    this.#tokens = parts.tokens;
    this.#cells = parts.cells;
    this.#door = new FleetDoor({
      fleet,
      version: version(),
      limits: options.limits,
      onFailure: (error) => log.write("error", "a request failed", { error: error.toRecord() }),
    });
  }

  static async open(options: ServeOptions, log: ServeLog): Promise<Server> {
    const { tokenFile, stateDir, addresses } = options;
    const tokens = tokenFile === undefined ? undefined : new TokenFile(tokenFile);
    if (options.memoryPolicy !== undefined) requirePressure(options.memoryPolicy.pressure);
    for (const address of addresses) {
      if (address.kind !== "unix") continue;
      if (address.isDefault) makeFolder(dirname(address.path));
      // Before any microVM is started again: two servers on one socket find out now.
      await claimUnixPath(address.path, true);
    }
    const { fleet, cells } = await openFleet(options, log);
    const server = new Server(options, log, { fleet, tokens, cells });
    try {
      fleet.events.subscribe((event) => server.#logEvent(event));
      const { lost } = fleet.counters;
      log.write(lost > 0 ? "warn" : "info", "opened the state", { stateDir, lost });
      for (const address of addresses) await server.#listen(address);
      server.#followPressure();
      server.#door.status = "ok";
      return server;
    } catch (error) {
      await server.#door.close();
      await fleet.close({ timeoutMs: 0 });
      await cells?.close();
      throw error;
    }
  }

  /** Calls `end` with the exit status, once, when a signal or an exception ends the server. */
  onSignals(end: (status: number) => void): void {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => {
        if (this.#isEnding) process.exit(EXIT_AT_ONCE[signal]);
        this.#log.write("info", "ending", { signal });
        void this.#end().then(end);
      });
    }
    process.on("SIGHUP", () => this.#reload());
    process.on("unhandledRejection", (reason) => {
      const error = toEstaloError(reason).toRecord();
      this.#log.write("error", "a promise was rejected that nobody waits for", { error });
    });
    process.on("uncaughtException", (thrown) => {
      const error = toEstaloError(thrown).toRecord();
      this.#log.write("error", "ending: an exception that nobody caught", { error });
      if (this.#isEnding) process.exit(EXIT_CRASHED);
      void this.#end().then(() => end(EXIT_CRASHED));
    });
  }

  async #listen(address: ServeAddress): Promise<void> {
    const { hosts, origins, tls } = this.#options;
    if (address.kind === "unix") {
      const { path } = address;
      await this.#door.listen({ path, removeStale: true }, { hosts, origins });
      this.#listens(`unix://${path}`);
      return;
    }
    const { host, port } = address;
    const { port: bound } = await this.#door.listen(
      { host, port, ...(tls === undefined ? {} : { tls }) },
      {
        hosts: [host, ...hosts],
        origins,
        ...(this.#tokens === undefined ? {} : { tokens: this.#tokens }),
      },
    );
    const shownHost = host.includes(":") ? `[${host}]` : host;
    this.#listens(`${tls === undefined ? "http" : "https"}://${shownHost}:${bound}`);
    if (tls === undefined && !/^(localhost|127\..*|::1)$/.test(host)) {
      this.#log.write("warn", "tokens and guests' data cross the network in the clear: no TLS");
    }
  }

  #listens(url: string): void {
    this.urls.push(url);
    this.#log.write("info", "listening", { address: url });
  }

  /** Never rejects. */
  async #end(): Promise<number> {
    this.#isEnding = true;
    this.#door.status = "closing";
    this.#endPolicy();
    let status = 0;
    try {
      // Before the listeners, so that who watches sees the ends.
      await this.#fleet.close();
    } catch (thrown) {
      status = EXIT_CRASHED;
      this.#log.write("error", "closing the fleet", { error: toEstaloError(thrown).toRecord() });
    }
    await this.#cells?.close();
    await this.#door.close();
    this.#log.write("info", "ended");
    return status;
  }

  /** Has balloons follow the host's memory pressure, if that was asked for. */
  #followPressure(): void {
    const choice = this.#options.memoryPolicy;
    if (choice === undefined) return;
    const directions = new Map<string, BalloonStep["direction"]>();
    const watching = pressure$(choice.pressure)
      .pipe(memoryPolicy(() => balloonsOf(this.#fleet), choice.options))
      .subscribe({
        next: ({ id, direction, fromMib, pressure }) => {
          // A step a second is no news; a turn is.
          if (directions.get(id) === direction) return;
          directions.set(id, direction);
          const { somePercent } = pressure;
          this.#log.write("info", `balloon ${direction}s`, { microvm: id, fromMib, somePercent });
        },
        error: (thrown) => {
          const error = toEstaloError(thrown).toRecord();
          this.#log.write("error", "the memory policy ended", { error });
        },
      });
    this.#endPolicy = () => watching.unsubscribe();
  }

  #reload(): void {
    for (const [what, reload] of [
      ["tokens", () => this.#tokens?.reload()],
      ["certificates", () => this.#door.reloadTls()],
    ] as const) {
      try {
        reload();
        this.#log.write("info", "read again", { what });
      } catch (thrown) {
        const error = toEstaloError(thrown).toRecord();
        this.#log.write("error", "cannot be read again", { what, error });
      }
    }
  }

  #logEvent({ sequence, atMs: _, type, ...event }: FleetEvent): void {
    if (type === "state" || type === "updated") return;
    const isBad = ["lost", "device-failed", "panicked"].includes(type);
    this.#log.write(isBad ? "warn" : "info", `microVM ${type}`, { ...event, sequence });
  }
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw hostError("make folder", path, error, "ERR_ESTALO_LISTEN");
  }
}

function version(): string {
  const file = new URL("../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
