/**
 * The fleet: many microVMs in one process, their names, and what survives the process.
 *
 * Every record is kept in memory and stored (fleet-store.ts); a microVM's own life is fleet-member.ts's. What
 * one microVM does never reaches another: they share this process's threads, and nothing of each other.
 */
import type { Observable } from "rxjs";
import { EstaloError } from "../errors.js";
import { throwIfAborted } from "./abortable.js";
import type { MicroVmConfig } from "./config.js";
import { integer, invalid } from "./config-checks.js";
import { defaultGuestConfig } from "./default-guest.js";
import type { DeviceChanges } from "./device-changes.js";
import { EventJournal, type JournalLimits } from "./event-journal.js";
import { FleetMember, type FleetStopOptions, STOP_TIMEOUT_MS } from "./fleet-member.js";
import type {
  FleetChange,
  FleetCounters,
  FleetCreation,
  FleetEvent,
  FleetPage,
  FleetQuery,
  FleetRecord,
  FleetSpec,
  FleetState,
} from "./fleet-messages.js";
import { type CleanUp, recover } from "./fleet-recovery.js";
import { FleetRegistry } from "./fleet-registry.js";
import { isLiving, type MakeSupervisor, type MemberHost } from "./fleet-run.js";
import {
  type CheckedFleetSpec,
  checkFleetChange,
  checkFleetSpec,
  checkIdempotencyKey,
  checkMicroVmConfig,
  checkQuery,
  specHash,
} from "./fleet-spec.js";
import { FleetStore } from "./fleet-store.js";
import { FleetWriter } from "./fleet-writer.js";
import { MicrovmSupervisor } from "./microvm-supervisor.js";
import type { Eventually, RunningMetrics, RunningMicrovm } from "./running-microvm.js";

/** After its microVMs were killed, `close` waits this long for the last of them, ms. */
const CLOSE_LIMIT_MS = 10_000;

/** How a fleet is opened. */
export interface FleetOptions {
  /** The folder of its state; made if it is not there (mode 0700). One fleet has it open at a time. */
  readonly stateDir: string;
  /** Clean up what a lost microVM may have left on the host, each in turn; one that throws is counted. */
  readonly cleanUp?: readonly CleanUp[];
  /** Makes microVMs; default: supervisors of this process. */
  readonly makeSupervisor?: MakeSupervisor;
  /** How many events are kept, and how long. Default: 100,000, and seven days. */
  readonly journal?: Partial<JournalLimits>;
}

/**
 * See the file's header. Thread: main. Every call takes an id or a name, and fails with
 * ERR_ESTALO_NOT_FOUND when there is no such microVM, ERR_ESTALO_STATE when the fleet or the microVM is in a
 * state that does not allow it, ERR_ESTALO_STATE_WRITE when a change cannot be stored (then nothing changed).
 */
export class Fleet implements AsyncDisposable {
  /** What happens to all its microVMs. */
  readonly events: EventJournal;
  readonly #store: FleetStore;
  readonly #host: MemberHost;
  readonly #members = new FleetRegistry();
  /** Creations under way, by idempotency key. */
  readonly #creating = new Map<string, { specHash: string; done: Promise<FleetRecord> }>();
  #lastOrdinal: number;
  #closed: Promise<void> | undefined;

  private constructor(options: FleetOptions, store: FleetStore) {
    this.#store = store;
    this.#lastOrdinal = store.lastOrdinal();
    this.events = new EventJournal(store, options.journal);
    this.#host = {
      writer: new FleetWriter(store, this.events),
      counters: {
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
      },
      complete: defaultGuestConfig,
      makeSupervisor: options.makeSupervisor ?? ((config) => new MicrovmSupervisor(config)),
      onAutoRemove: (id) => this.#forget(id, false),
    };
  }

  /**
   * Opens a fleet's state. What ran when its server died is `lost` then, with an event and the reason, and
   * cleaned up after; what has the restart policy "always", and ran when the server died or closed, is
   * started again.
   *
   * Rejects with ERR_ESTALO_STATE_LOCKED, ERR_ESTALO_STATE_FILE or ERR_ESTALO_STATE_WRITE.
   */
  static async open(options: FleetOptions): Promise<Fleet> {
    const store = await FleetStore.open(options.stateDir);
    try {
      const fleet = new Fleet(options, store);
      const { cleanUp = [] } = options;
      await recover({ store, host: fleet.#host, members: fleet.#members, cleanUp });
      return fleet;
    } catch (error) {
      store.close();
      throw error;
    }
  }

  /**
   * Makes a microVM, and starts it unless the spec says otherwise; then it either runs or does not exist.
   *
   * @param options - `idempotencyKey`: 1 to 128 printable characters, remembered for 24 hours: a second call
   * with it makes nothing and gives what the first one made
   * @throws ERR_ESTALO_CONFIG_INVALID; ERR_ESTALO_NAME_TAKEN; ERR_ESTALO_IDEMPOTENCY when the key was used for
   * another spec; what a start may throw
   */
  async create(spec: FleetSpec, options: { idempotencyKey?: string } = {}): Promise<FleetCreation> {
    this.#requireOpen();
    const checked = checkFleetSpec(spec);
    if (options.idempotencyKey === undefined) {
      return { record: await this.#make(checked, undefined), isNew: true };
    }
    const key = checkIdempotencyKey(options.idempotencyKey);
    const hash = specHash(checked);
    const known = this.#creating.get(key) ?? this.#known(key);
    if (known === undefined) {
      const done = this.#make(checked, { key, specHash: hash });
      this.#creating.set(key, { specHash: hash, done });
      const forget = () => this.#creating.delete(key);
      done.then(forget, forget);
      return { record: await done, isNew: true };
    }
    if (known.specHash !== hash) {
      throw new EstaloError("ERR_ESTALO_IDEMPOTENCY", `key ${key} was used for another microVM`, {
        data: { key },
        hint: "use a new key for a new microVM",
      });
    }
    return { record: await known.done, isNew: false };
  }

  /** A page of records, oldest first; pages do not repeat or leave out what exists all the while. */
  list(query: FleetQuery = {}): FleetPage {
    return this.#members.list(checkQuery(query));
  }

  get(idOrName: string): FleetRecord {
    return this.#members.find(idOrName).record;
  }

  /** Changes name, labels, restart policy; the others stay. @throws ERR_ESTALO_NAME_TAKEN */
  update(idOrName: string, change: FleetChange): FleetRecord {
    const member = this.#open(idOrName);
    const checked = checkFleetChange(change);
    const { id, name } = member.record;
    if (checked.name !== undefined) this.#members.requireFree(checked.name, id);
    const record = member.change(checked);
    this.#members.rename(id, name, record.name);
    return record;
  }

  /** Changes the configuration of a microVM that does not live; its id stays. */
  configure(idOrName: string, change: (config: MicroVmConfig) => MicroVmConfig): FleetRecord {
    const member = this.#open(idOrName);
    member.requireEnded("be configured");
    const { id, config } = member.record;
    const changed = checkMicroVmConfig(change(config));
    if ((changed.id ?? id) !== id) throw invalid("id", `${id}, which stays`, changed.id);
    return member.change({ config: { ...changed, id } });
  }

  /** Starts what does not live. Rejects with what is wrong with its files or the host; it is `failed` then. */
  async start(idOrName: string): Promise<FleetRecord> {
    return this.#open(idOrName).start();
  }

  /** Only while running. */
  async pause(idOrName: string): Promise<FleetRecord> {
    return this.#open(idOrName).pause();
  }

  /** Only while paused. */
  async resume(idOrName: string): Promise<FleetRecord> {
    return this.#open(idOrName).resume();
  }

  /** Asks the guest to shut down, and kills it when its time is over. Idempotent; ends restarts. */
  async stop(idOrName: string, options: FleetStopOptions = {}): Promise<FleetRecord> {
    return this.#members.find(idOrName).stop(options);
  }

  /** Ends it at once, whatever it does. Idempotent; ends restarts. */
  async kill(idOrName: string): Promise<FleetRecord> {
    return this.#members.find(idOrName).kill();
  }

  /** Removes the record, its console and its counters; `force` kills what lives first. */
  async remove(idOrName: string, options: { readonly force?: boolean } = {}): Promise<void> {
    const member = this.#open(idOrName);
    const { id } = member.record;
    await member.remove(options.force ?? false, () => this.#forget(id, true));
  }

  /**
   * Waits until it has ended and will not be restarted, or is removed; at once for what has. One that was
   * never started is waited for, too. Rejects only when `signal` aborts (ERR_ESTALO_ABORTED).
   */
  async wait(
    idOrName: string,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<FleetRecord> {
    throwIfAborted(options.signal);
    return this.#members.find(idOrName).wait(options.signal);
  }

  /** Changes devices while it runs or is paused, one after the other, now and for later starts. */
  async changeDevices(idOrName: string, changes: DeviceChanges): Promise<FleetRecord> {
    return this.#open(idOrName).changeDevices(changes);
  }

  /** Only while running. False: the guest has not taken the last ones yet. */
  sendCtrlAltDelete(idOrName: string): Eventually<boolean> {
    return this.#open(idOrName).sendCtrlAltDelete();
  }

  /** While one exists: console, metrics, traces. Its life is the fleet's to change. */
  supervisor(idOrName: string): RunningMicrovm | undefined {
    return this.#members.find(idOrName).supervisor;
  }

  /** The last 64 KiB that the guest wrote, of this run or of the last one; a lost run's are lost. */
  consoleLog(idOrName: string): Uint8Array {
    const member = this.#members.find(idOrName);
    return (
      member.supervisor?.console.history() ?? this.#lastRun(member)?.console ?? new Uint8Array(0)
    );
  }

  /** Counters of this run, or of the last one; `undefined` before the first. */
  metrics(idOrName: string): RunningMetrics | undefined {
    const member = this.#members.find(idOrName);
    const last = () => this.#lastRun(member)?.metrics as RunningMetrics | undefined;
    return member.supervisor?.metrics ?? last();
  }

  /** How many microVMs are in each state. */
  counts(): Record<FleetState, number> {
    return this.#members.counts();
  }

  get counters(): FleetCounters {
    const { counters, writer } = this.#host;
    const { count, listenerErrors } = this.events;
    return { ...counters, events: count, storeErrors: writer.errors, listenerErrors };
  }

  /** Why the state on disk is behind; `undefined` when it is not. */
  get storeError(): EstaloError | undefined {
    return this.#host.writer.lastError;
  }

  /** Its events from now on. */
  get events$(): Observable<FleetEvent> {
    return this.events.stream;
  }

  /**
   * Ends all microVMs, in `timeoutMs` (default 5000) where they shut down by themselves, stores how they are
   * and lets go of the state folder. Idempotent; every other call fails from now on.
   *
   * Rejects with ERR_ESTALO_BUG naming microVMs that did not end, with ERR_ESTALO_STATE_WRITE when the last
   * states could not be stored; the folder is let go of in any case, and the next fleet reports them lost.
   */
  close(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    const timeoutMs = integer("timeoutMs", options.timeoutMs ?? STOP_TIMEOUT_MS, 0, 3_600_000);
    this.#closed ??= this.#close(timeoutMs);
    return this.#closed;
  }

  /** Closes the fleet. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #make(
    spec: CheckedFleetSpec,
    key: { readonly key: string; readonly specHash: string } | undefined,
  ): Promise<FleetRecord> {
    const id = spec.config.id ?? this.#members.newId();
    const name = spec.name ?? id;
    this.#members.requireFree(id);
    this.#members.requireFree(name);
    const { labels, restart, autoRemove } = spec;
    const createdAtMs = Date.now();
    const member = new FleetMember(this.#host, this.#lastOrdinal + 1, {
      id,
      name,
      labels,
      config: { ...spec.config, id },
      restart,
      autoRemove,
      state: "configured",
      createdAtMs,
      startedAtMs: undefined,
      endedAtMs: undefined,
      exit: undefined,
      lostReason: undefined,
      restartCount: 0,
      restartAtMs: undefined,
    });
    this.#host.writer.commit({
      microvm: member.stored(),
      events: [member.event({ type: "created" })],
      ...(key === undefined ? {} : { key: { ...key, microvm: id, atMs: createdAtMs } }),
    });
    this.#lastOrdinal += 1;
    this.#host.counters.created += 1;
    this.#members.add(member);
    if (!spec.start) return member.record;
    try {
      return await member.start();
    } catch (error) {
      if (this.#members.get(id) === member && !member.isRemoving) this.#forget(id, false);
      if (key !== undefined) this.#host.writer.note({ forgottenKey: key.key });
      throw error;
    }
  }

  /** Takes a record away; `isAsked`: only if that can be stored, else in any case. */
  #forget(id: string, isAsked: boolean): void {
    const member = this.#members.get(id);
    if (member === undefined) return;
    const write = { removed: member.record, events: [member.event({ type: "deleted" })] };
    if (isAsked) this.#host.writer.commit(write);
    else this.#host.writer.note(write);
    this.#members.delete(member);
    member.forgotten();
    this.#host.counters.removed += 1;
  }

  /** What an idempotency key of an earlier call made. */
  #known(key: string): { specHash: string; done: Promise<FleetRecord> } | undefined {
    const known = this.#store.key(key, Date.now());
    if (known === undefined || this.#host.writer.isForgotten(key)) return undefined;
    const { specHash, microvm, removed } = known;
    const record =
      removed ?? this.#host.writer.removed(microvm) ?? this.#members.get(microvm)?.record;
    return record && { specHash, done: Promise.resolve(record) };
  }

  #lastRun(member: FleetMember) {
    const { id } = member.record;
    return this.#host.writer.lastRun(id) ?? this.#store.lastRun(id);
  }

  /** A member, if the fleet is open. */
  #open(idOrName: string): FleetMember {
    this.#requireOpen();
    return this.#members.find(idOrName);
  }

  #requireOpen(): void {
    if (this.#closed === undefined) return;
    throw new EstaloError("ERR_ESTALO_STATE", "the fleet closes", { data: { state: "closing" } });
  }

  async #close(timeoutMs: number): Promise<void> {
    const ends = [...this.#members].map((member) => member.shutDown(timeoutMs));
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs + CLOSE_LIMIT_MS);
    });
    await Promise.race([Promise.allSettled(ends), limit]);
    clearTimeout(timer);
    const left = [...this.#members].filter(({ record }) => isLiving(record.state));
    const ids = left.map(({ record }) => record.id);
    try {
      this.#host.writer.close();
    } finally {
      this.#store.close();
    }
    if (left.length === 0) return;
    throw new EstaloError("ERR_ESTALO_BUG", `microVMs that did not end: ${ids.join(", ")}`, {
      data: { microvms: ids },
    });
  }
}
