/**
 * Door 1 over a machine that is none: what it was asked to do is kept, and its phase changes at once.
 */
import type { BalloonFamily } from "../../src/actors/balloon-family.js";
import type { DriveChange } from "../../src/actors/config.js";
import type { NetworkInterfaceChange } from "../../src/actors/config-net.js";
import type { PmemChange } from "../../src/actors/config-pmem.js";
import type { BalloonChange } from "../../src/actors/device-changes.js";
import type { MemoryHotplugFamily } from "../../src/actors/memory-hotplug.js";
import type { MetadataStore } from "../../src/actors/metadata-store.js";
import { FirecrackerDoor } from "../../src/api/firecracker/door.js";
import { type Draft, EMPTY_DRAFT } from "../../src/api/firecracker/draft.js";
import type { FirecrackerLog, LogLevel } from "../../src/api/firecracker/log.js";
import type { FirecrackerTarget, Phase } from "../../src/api/firecracker/target.js";
import type { ApiReply, ApiRequest } from "../../src/api/http.js";

/** See the file's header. */
export class FakeTarget implements FirecrackerTarget {
  readonly id = "vm-1";
  phase: Phase = "Not started";
  draft: Draft = EMPTY_DRAFT;
  readonly calls: unknown[] = [];
  /** Thrown by the next start, pause, resume or update. */
  failure: Error | undefined;
  takesKeys = true;
  readonly diagnostics = {
    configureLogger: (config: unknown) => void this.calls.push(["logger", config]),
    configureMetrics: (config: unknown) => void this.calls.push(["metrics", config]),
    flushMetrics: () => void this.calls.push("flush"),
  };

  async start() {
    this.#call("start");
    this.phase = "Running";
  }

  async pause() {
    this.#call("pause");
    this.phase = "Paused";
  }

  async resume() {
    this.#call("resume");
    this.phase = "Running";
  }

  sendCtrlAltDelete() {
    this.#call("keys");
    return this.takesKeys;
  }

  async updateDrive(id: string, change: DriveChange) {
    this.#call(["drive", id, change]);
  }

  metadataLimitBytes = 51_200;
  metadata: MetadataStore | undefined;

  updateInterface(id: string, change: NetworkInterfaceChange) {
    this.#call(["interface", id, change]);
  }

  updatePmem(id: string, change: PmemChange) {
    this.#call(["pmem", id, change]);
  }

  updateBalloon(change: BalloonChange) {
    this.#call(["balloon", change]);
  }

  /** Plays memory hotplug; what it is asked is kept. */
  memoryHotplug(): MemoryHotplugFamily {
    return {
      setRequestedSize: (mib: number) => this.#call(["memory", mib]),
      report: () => ({
        totalSizeMib: 1024,
        slotSizeMib: 128,
        blockSizeMib: 2,
        pluggedSizeMib: 6,
        requestedSizeMib: 256,
      }),
    } as unknown as MemoryHotplugFamily;
  }

  /** Plays the balloon; what it is asked is kept. */
  balloon(): BalloonFamily {
    const asked =
      (what: string) =>
      (...args: unknown[]) =>
        this.#call(["balloon", what, ...args]);
    return {
      startHinting: asked("start"),
      stopHinting: asked("stop"),
      hinting: { hostCommand: 2, guestCommand: undefined },
      report: () => ({
        targetMib: 8,
        targetPages: 2048,
        actualMib: 4,
        actualPages: 1024,
        statistics: { free_memory: 5 },
      }),
    } as unknown as BalloonFamily;
  }

  #call(what: unknown): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
    this.calls.push(what);
  }
}

/** A log's lines. */
export class KeptLog implements FirecrackerLog {
  readonly lines: string[] = [];

  write(level: LogLevel, _site: string, text: string): void {
    this.lines.push(`${level} ${text}`);
  }
}

/** A door, its machine and its log. */
export function fakeDoor() {
  const target = new FakeTarget();
  const log = new KeptLog();
  const door = new FirecrackerDoor(target, log);
  const send = (method: string, path: string, body?: unknown): Promise<ApiReply> =>
    door.handle(requestOf(method, path, body));
  return { target, log, door, send };
}

/** A request as the server hands it over; a body that is no text is sent as JSON. */
export function requestOf(method: string, url: string, body?: unknown): ApiRequest {
  const [path, query = ""] = url.split("?");
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return {
    method,
    path,
    query,
    header: () => undefined,
    body: body === undefined ? new Uint8Array(0) : new TextEncoder().encode(text),
    signal: new AbortController().signal,
  };
}

/** A reply's JSON; undefined when it has no body. */
export function jsonOf(reply: ApiReply): unknown {
  return reply.body === undefined ? undefined : JSON.parse(reply.body as string);
}
