/**
 * A fleet without KVM, for specs of door 2: records and states as a real one has them, microVMs with a real
 * Console and a serial port that the spec plays, and a journal that forgets as told.
 */
import { Subject } from "rxjs";
import type { BalloonFamily } from "../../src/actors/balloon-family.js";
import { checkConfig, type DriveChange, type MicroVmConfig } from "../../src/actors/config.js";
import type { NetworkInterfaceChange } from "../../src/actors/config-net.js";
import { Console } from "../../src/actors/console.js";
import { type DeviceChanges, deviceChanges } from "../../src/actors/device-changes.js";
import type {
  FleetEvent,
  FleetPage,
  FleetQuery,
  FleetRecord,
  FleetSpec,
  FleetState,
} from "../../src/actors/fleet-messages.js";
import type { MemoryHotplugFamily } from "../../src/actors/memory-hotplug.js";
import type { MicroVmExit } from "../../src/actors/messages.js";
import { MetadataStore } from "../../src/actors/metadata-store.js";
import type { DeviceRateLimitEvent } from "../../src/actors/rate-limits.js";
import type { RunningMetrics, RunningMicrovm } from "../../src/actors/running-microvm.js";
import type { DoorFleet, Journal, LiveMicrovm } from "../../src/api/v1/fleet.js";
import { FLEET_STATES } from "../../src/api/v1/schemas.js";
import type { RateLimiterConfig, TokenBucketConfig } from "../../src/devices/rate-limiter.js";
import { createBlockMetrics } from "../../src/devices/virtio/block.state.js";
import { createNetMetrics } from "../../src/devices/virtio/net.state.js";
import { type ErrorCode, EstaloError } from "../../src/errors.js";
import { PlayedVcpus } from "./played-exits.js";

/** Events in memory, the last `kept` of them. */
export class PlayedJournal implements Journal {
  readonly #kept: number;
  #events: FleetEvent[] = [];
  #newest = 0;
  readonly #listeners = new Set<(event: FleetEvent) => void>();

  constructor(kept = 1000) {
    this.#kept = kept;
  }

  get oldest(): number {
    return this.#events[0]?.sequence ?? this.#newest + 1;
  }

  get newest(): number {
    return this.#newest;
  }

  get listenerCount(): number {
    return this.#listeners.size;
  }

  since(sequence: number, limit = Number.POSITIVE_INFINITY): readonly FleetEvent[] | "gap" {
    if (sequence < this.oldest - 1 || sequence > this.#newest) return "gap";
    const from = this.#events.length - (this.#newest - sequence);
    return this.#events.slice(from, from + limit);
  }

  subscribe(listener: (event: FleetEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  emit(microvm: string, event: { readonly type: string } & Record<string, unknown>): void {
    this.#newest += 1;
    const full = {
      sequence: this.#newest,
      atMs: Date.now(),
      microvm,
      name: `${microvm}-name`,
      ...event,
    } as FleetEvent;
    this.#events.push(full);
    if (this.#events.length > this.#kept) this.#events.shift();
    for (const listener of this.#listeners) listener(full);
  }
}

/** A microVM that runs in name only. */
export class PlayedMicrovm implements LiveMicrovm {
  readonly console = new Console();
  /** What the guest read. */
  readonly read: Buffer[] = [];
  /** Bytes that the guest takes before it stops reading. */
  appetiteBytes = Number.POSITIVE_INFINITY;
  readonly exited: Promise<MicroVmExit>;
  /** Changes of devices, as they were asked for. */
  readonly changes: unknown[][] = [];
  /** What its rate limiters do. */
  readonly rateLimits = new Subject<DeviceRateLimitEvent>();
  readonly devices = {
    metadata: { data: new MetadataStore(1000) },
    requireBalloon: (): BalloonFamily => {
      if (this.#config.balloon === undefined) {
        throw new EstaloError("ERR_ESTALO_STATE", "this microVM has no balloon");
      }
      return {
        setTarget: (mib: number) => this.changes.push(["balloon target", mib]),
        setStatsInterval: (seconds: number) => this.changes.push(["balloon interval", seconds]),
      } as unknown as BalloonFamily;
    },
    requireMemoryHotplug: (): MemoryHotplugFamily => {
      throw new EstaloError("ERR_ESTALO_STATE", "this microVM can be given no more memory");
    },
    pmem: {
      limit: (id: string, change: RateLimiterConfig): void => {
        this.#requireDevice("pmem", id, "ERR_ESTALO_PMEM_UNKNOWN");
        this.changes.push(["pmem", id, change]);
      },
    },
    interfaces: {
      update: (id: string, change: NetworkInterfaceChange) => {
        this.changes.push(["interface", id, change]);
      },
    },
    limitEntropy: (change: RateLimiterConfig) => {
      this.changes.push(["entropy", change]);
    },
    limitSerial: (bucket: TokenBucketConfig) => {
      this.changes.push(["serial", bucket]);
    },
    rateLimits$: this.rateLimits.asObservable(),
  };
  /** Two vCPUs whose exits the spec writes. */
  readonly vcpus = new PlayedVcpus(2);
  readonly exits = this.vcpus.stream;
  readonly metrics: RunningMetrics = {
    vcpus: [
      { exitIoIn: 1, exitIoOut: 2, exitMmioRead: 3, exitMmioWrite: 4, exitOther: 5, kicks: 6 },
    ],
    drives: { data: { ...createBlockMetrics(), read_bytes: 512 } },
    pmem: {},
    networkInterfaces: { eth0: { ...createNetMetrics(), tx_bytes_count: 99 } },
    entropy: undefined,
    serial: { transmittedBytes: 7, receivedBytes: 8, droppedBytes: 9 },
  };
  /** Our own main thread plays its vCPU. */
  readonly vcpuThreads = [`/proc/self/task/${process.pid}`];
  readonly #config: MicroVmConfig;
  #end: (exit: MicroVmExit) => void = () => {};

  constructor(config: MicroVmConfig = {}) {
    this.#config = config;
    this.exited = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.console.connect({
      push: (bytes) => {
        const taken = Math.min(bytes.length, this.appetiteBytes);
        this.appetiteBytes -= taken;
        if (taken > 0) this.read.push(Buffer.from(bytes.subarray(0, taken)));
        return taken;
      },
      drain: () => {},
    });
  }

  get input(): string {
    return Buffer.concat(this.read).toString("latin1");
  }

  say(text: string): void {
    this.console.write(Buffer.from(text));
  }

  async updateDrive(id: string, change: DriveChange): Promise<void> {
    this.#requireDevice("drives", id, "ERR_ESTALO_DRIVE_UNKNOWN");
    this.changes.push(["drive", id, change]);
  }

  #requireDevice(list: "drives" | "pmem", id: string, code: ErrorCode): void {
    if (this.#config[list]?.some((one) => one.id === id)) return;
    throw new EstaloError(code, `there is no ${list} ${id}`);
  }

  end(exit: MicroVmExit): void {
    this.console.close();
    this.exits.close();
    this.rateLimits.complete();
    this.#end(exit);
  }
}

export const KILLED: MicroVmExit = {
  reason: "killed",
  guestStatus: undefined,
  error: undefined,
  exitCode: 137,
};

interface Entry {
  record: FleetRecord;
  machine: PlayedMicrovm | undefined;
  log: Uint8Array;
}

/** See the file's header. */
export class PlayedFleet implements DoorFleet {
  readonly events: PlayedJournal;
  /** Calls of `wait` under way. */
  waiting = 0;
  readonly counters = {
    created: 0,
    removed: 0,
    starts: 0,
    failures: 0,
    restarts: 0,
    lost: 0,
    events: 0,
    storeErrors: 0,
    cleanupErrors: 0,
    listenerErrors: 0,
  };
  readonly #entries = new Map<string, Entry>();
  readonly #keys = new Map<string, { readonly body: string; readonly id: string }>();
  #count = 0;

  constructor(eventsKept?: number) {
    this.events = new PlayedJournal(eventsKept);
  }

  async create(spec: FleetSpec, { idempotencyKey }: { readonly idempotencyKey?: string } = {}) {
    const body = JSON.stringify(spec);
    const used = idempotencyKey === undefined ? undefined : this.#keys.get(idempotencyKey);
    if (used !== undefined) {
      if (used.body === body) return { record: this.get(used.id), isNew: false };
      throw new EstaloError("ERR_ESTALO_IDEMPOTENCY", "the key was used with another body");
    }
    this.#count += 1;
    const id = spec.config?.id ?? `vm-${this.#count}`;
    const name = spec.name ?? id;
    for (const taken of [id, name]) {
      if (this.#find(taken) === undefined) continue;
      throw new EstaloError("ERR_ESTALO_NAME_TAKEN", `${taken} is taken`);
    }
    const record: FleetRecord = {
      id,
      name,
      labels: spec.labels ?? {},
      config: spec.config ?? {},
      restart: spec.restart ?? { policy: "no" },
      autoRemove: spec.autoRemove ?? false,
      state: "configured",
      createdAtMs: Date.now(),
      startedAtMs: undefined,
      endedAtMs: undefined,
      exit: undefined,
      lostReason: undefined,
      restartCount: 0,
      restartAtMs: undefined,
    };
    this.#entries.set(id, { record, machine: undefined, log: new Uint8Array() });
    if (idempotencyKey !== undefined) this.#keys.set(idempotencyKey, { body, id });
    this.counters.created += 1;
    this.events.emit(id, { type: "created" });
    if (spec.start ?? true) await this.start(id);
    return { record: this.get(id), isNew: true };
  }

  list(query: FleetQuery = {}): FleetPage {
    const { states, name, labels = {}, limit = 100, after } = query;
    const wanted = [...this.#entries.values()]
      .map(({ record }) => record)
      .filter((record) => states === undefined || states.includes(record.state))
      .filter((record) => name === undefined || record.name === name)
      .filter(({ labels: own }) => Object.entries(labels).every(([key, v]) => own[key] === v));
    const from = after === undefined ? 0 : wanted.findIndex(({ id }) => id === after) + 1;
    const items = wanted.slice(from, from + limit);
    return { items, next: from + limit < wanted.length ? items.at(-1)?.id : undefined };
  }

  get(idOrName: string): FleetRecord {
    return this.#entry(idOrName).record;
  }

  /** The microVM behind a record, to play its guest. */
  machine(idOrName: string): PlayedMicrovm {
    const { machine } = this.#entry(idOrName);
    if (machine === undefined) throw new Error(`${idOrName} does not run`);
    return machine;
  }

  update(idOrName: string, change: Parameters<DoorFleet["update"]>[1]): FleetRecord {
    const other = change.name === undefined ? undefined : this.#find(change.name);
    if (other !== undefined && other !== this.#entry(idOrName)) {
      throw new EstaloError("ERR_ESTALO_NAME_TAKEN", `${change.name} is taken`);
    }
    return this.#change(idOrName, change);
  }

  configure(idOrName: string, change: (config: MicroVmConfig) => MicroVmConfig): FleetRecord {
    const { record } = this.#entry(idOrName);
    this.#require(record, ["configured", "stopped", "failed", "lost"], "be configured");
    const config = change(record.config);
    checkConfig({ ...config, kernel: config.kernel ?? "the default" });
    return this.#change(idOrName, { config });
  }

  async start(idOrName: string): Promise<FleetRecord> {
    const entry = this.#entry(idOrName);
    this.#require(entry.record, ["configured", "stopped", "failed", "lost"], "start");
    const machine = new PlayedMicrovm(entry.record.config);
    entry.machine = machine;
    void machine.exited.then((exit) => {
      entry.log = machine.console.history();
      entry.machine = undefined;
      if (!this.#entries.has(entry.record.id)) return;
      const state = exit.reason === "failed" ? "failed" : "stopped";
      this.#change(entry.record.id, { state, exit, endedAtMs: Date.now() });
    });
    return this.#change(idOrName, { state: "running", startedAtMs: Date.now() });
  }

  async pause(idOrName: string): Promise<FleetRecord> {
    this.#require(this.get(idOrName), ["running"], "pause");
    return this.#change(idOrName, { state: "paused" });
  }

  async resume(idOrName: string): Promise<FleetRecord> {
    this.#require(this.get(idOrName), ["paused"], "resume");
    return this.#change(idOrName, { state: "running" });
  }

  async kill(idOrName: string): Promise<FleetRecord> {
    const { machine } = this.#entry(idOrName);
    machine?.end(KILLED);
    await machine?.exited;
    return this.get(idOrName);
  }

  stop(idOrName: string): Promise<FleetRecord> {
    return this.kill(idOrName);
  }

  async remove(idOrName: string, { force = false } = {}): Promise<void> {
    const { record } = this.#entry(idOrName);
    if (force) await this.kill(record.id);
    this.#require(this.get(record.id), ["configured", "stopped", "failed", "lost"], "be deleted");
    this.#entries.delete(record.id);
    this.events.emit(record.id, { type: "deleted" });
  }

  async wait(idOrName: string, { signal }: { signal?: AbortSignal } = {}): Promise<FleetRecord> {
    const { record, machine } = this.#entry(idOrName);
    if (machine === undefined && record.state !== "configured") return record;
    this.waiting += 1;
    const aborted = new Promise<"aborted">((resolve) => {
      if (signal?.aborted) resolve("aborted");
      signal?.addEventListener("abort", () => resolve("aborted"), { once: true });
    });
    const how = await Promise.race([machine?.exited ?? aborted, aborted]);
    this.waiting -= 1;
    if (how === "aborted") throw new EstaloError("ERR_ESTALO_ABORTED", "the call was aborted");
    return this.get(idOrName);
  }

  async changeDevices(idOrName: string, changes: DeviceChanges): Promise<FleetRecord> {
    this.#require(this.get(idOrName), ["running", "paused"], "change devices");
    const entry = this.#entry(idOrName);
    for (const change of deviceChanges(changes)) {
      await change.apply(entry.machine as unknown as RunningMicrovm);
      entry.record = { ...entry.record, config: change.keep(entry.record.config) };
    }
    return entry.record;
  }

  sendCtrlAltDelete(idOrName: string): boolean {
    this.#require(this.get(idOrName), ["running"], "send Ctrl-Alt-Delete");
    return this.machine(idOrName).appetiteBytes > 0;
  }

  supervisor(idOrName: string): PlayedMicrovm | undefined {
    return this.#entry(idOrName).machine;
  }

  consoleLog(idOrName: string): Uint8Array {
    const { machine, log } = this.#entry(idOrName);
    return machine?.console.history() ?? log;
  }

  metrics(idOrName: string): RunningMetrics | undefined {
    return this.#entry(idOrName).machine?.metrics;
  }

  counts(): Record<FleetState, number> {
    const counts = Object.fromEntries(FLEET_STATES.map((state) => [state, 0]));
    for (const { record } of this.#entries.values()) counts[record.state] += 1;
    return counts as Record<FleetState, number>;
  }

  /** Makes a record say what a spec needs it to say. */
  put(idOrName: string, change: Partial<FleetRecord>): void {
    this.#change(idOrName, change);
  }

  #change(idOrName: string, change: Partial<FleetRecord>): FleetRecord {
    const entry = this.#entry(idOrName);
    entry.record = { ...entry.record, ...change };
    const { id, state } = entry.record;
    this.events.emit(
      id,
      change.state === undefined ? { type: "updated" } : { type: "state", state },
    );
    return entry.record;
  }

  #find(idOrName: string): Entry | undefined {
    const byId = this.#entries.get(idOrName);
    return byId ?? [...this.#entries.values()].find(({ record }) => record.name === idOrName);
  }

  #entry(idOrName: string): Entry {
    const entry = this.#find(idOrName);
    if (entry !== undefined) return entry;
    throw new EstaloError("ERR_ESTALO_NOT_FOUND", `there is no microVM ${idOrName}`);
  }

  #require({ id, state }: FleetRecord, allowed: readonly FleetState[], action: string): void {
    if (allowed.includes(state)) return;
    throw new EstaloError("ERR_ESTALO_STATE", `microVM ${id} is ${state}: it cannot ${action}`, {
      data: { id, state },
    });
  }
}
