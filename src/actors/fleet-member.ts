/**
 * One microVM of a fleet: its record, the run it is in, its restarts.
 *
 * A run begins with `starting` and ends, whatever happens, exactly once in `#ended`; between the two there is
 * a Run. Calls decide by the record's state and change it before they wait for anything, so that two calls
 * never do the same: the second meets the new state, and waits for the same end or gets ERR_ESTALO_STATE.
 *
 * Invariant: a supervisor is held from its making to its end, and nowhere else; what it leaves (exit, console,
 * counters) is stored.
 */
import { EstaloError, toEstaloError } from "../errors.js";
import { abortable } from "./abortable.js";
import { checkConfig } from "./config.js";
import { integer } from "./config-checks.js";
import { type DeviceChanges, deviceChanges } from "./device-changes.js";
import type { FleetRecord, FleetState } from "./fleet-messages.js";
import { exitOf, type MemberHost, newRun, type Run } from "./fleet-run.js";
import type { StoredMicrovm } from "./fleet-store.js";
import type { NewEvent } from "./fleet-writer.js";
import { machinesReleased } from "./machine.js";
import type { MicroVmEvent, MicroVmExit } from "./messages.js";
import { isRestartedAtOpen, restartDelayMs } from "./restart-policy.js";
import type { Eventually, RunningMicrovm } from "./running-microvm.js";

export const STOP_TIMEOUT_MS = 5000;
const STOP_TIMEOUT_MAX_MS = 3_600_000;

/** How {@link FleetMember.stop} goes about it. */
export interface FleetStopOptions {
  /** How long the guest has to shut down before it is killed, 0 to 3,600,000 ms. Default 5000. */
  readonly timeoutMs?: number;
  /** Kills it when aborted. */
  readonly signal?: AbortSignal;
}

/** See the file's header. Thread: main. */
export class FleetMember {
  readonly ordinal: number;
  readonly #host: MemberHost;
  #record: FleetRecord;
  #startsAtOpen = false;
  #run: Run | undefined;
  #restart: NodeJS.Timeout | undefined;
  #lastDelayMs = 0;
  /** Its fleet has forgotten it: what still happens to it is not stored. */
  #isGone = false;
  #removal: Promise<void> | undefined;
  #waiters: ((record: FleetRecord) => void)[] = [];

  constructor(host: MemberHost, ordinal: number, record: FleetRecord) {
    this.#host = host;
    this.ordinal = ordinal;
    this.#record = record;
  }

  get record(): FleetRecord {
    return this.#record;
  }

  get supervisor(): RunningMicrovm | undefined {
    return this.#run?.supervisor;
  }

  get isRemoving(): boolean {
    return this.#removal !== undefined;
  }

  /** As it is stored. */
  stored(record = this.#record): StoredMicrovm {
    return { ordinal: this.ordinal, record, startsAtOpen: this.#startsAtOpen };
  }

  /** An event of this microVM, now. */
  event(event: Record<string, unknown> & { type: string }): NewEvent {
    const { id, name } = this.#record;
    return { ...event, atMs: Date.now(), microvm: id, name } as NewEvent;
  }

  /** Changes the record if that can be stored; only what `patch` names. */
  change(patch: Partial<FleetRecord>): FleetRecord {
    this.#requireHere("be changed");
    const record = { ...this.#record, ...patch };
    const event = { ...this.event({ type: "updated" }), name: record.name };
    this.#host.writer.commit({ microvm: this.stored(record), events: [event] });
    this.#record = record;
    if (record.restart.policy === "no") this.#giveUpRestart();
    return this.#record;
  }

  /** Whether it may be started or configured now; ERR_ESTALO_STATE otherwise. */
  requireEnded(action: string): void {
    this.#requireHere(action);
    if (this.#run !== undefined) throw this.#stateError(action);
  }

  /** Starts it for its owner; rejects when it does not come to run, and then it is `failed`. */
  async start(): Promise<FleetRecord> {
    this.requireEnded("start");
    const record = this.#startingRecord(0);
    const events = [this.event({ type: "state", state: "starting" })];
    this.#host.writer.commit({ microvm: this.stored(record), events });
    clearTimeout(this.#restart);
    this.#record = record;
    await this.#begin(false, 0);
    return this.#record;
  }

  async pause(): Promise<FleetRecord> {
    await this.#runningSupervisor("running", "pause").pause();
    return this.#record;
  }

  async resume(): Promise<FleetRecord> {
    await this.#runningSupervisor("paused", "resume").resume();
    return this.#record;
  }

  /** Ctrl-Alt-Delete, then kill; idempotent, and the end of restarts. */
  async stop(options: FleetStopOptions = {}): Promise<FleetRecord> {
    const limit = options.timeoutMs ?? STOP_TIMEOUT_MS;
    const timeoutMs = integer("timeoutMs", limit, 0, STOP_TIMEOUT_MAX_MS);
    const run = this.#run;
    if (run?.supervisor?.state === "running" && timeoutMs > 0) {
      run.isAsked = true;
      this.#enter("stopping");
      // Who cannot be asked any more is killed below.
      void Promise.resolve(run.supervisor.sendCtrlAltDelete()).catch(() => {});
      const patience = AbortSignal.timeout(timeoutMs);
      const { signal } = options;
      const either = signal === undefined ? patience : AbortSignal.any([patience, signal]);
      await abortable(run.ended, either).catch(() => {});
      // Who starts it again meanwhile does not mean this stop.
      if (this.#run !== run) return this.#record;
    }
    return this.kill();
  }

  /** Ends it at once, in any state; idempotent, and the end of restarts. */
  async kill(): Promise<FleetRecord> {
    const run = this.#run;
    if (run === undefined) {
      this.#giveUpRestart();
      return this.#record;
    }
    run.isAsked = true;
    if (run.supervisor === undefined) this.#ended(run, exitOf("killed"));
    else void run.supervisor.kill();
    await run.ended;
    return this.#record;
  }

  /** Until it has ended and is not going to be restarted, or is removed; at once when that is so. */
  wait(signal?: AbortSignal): Promise<FleetRecord> {
    if (this.#isSettled) return Promise.resolve(this.#record);
    let waiter: (record: FleetRecord) => void = () => {};
    const settled = new Promise<FleetRecord>((resolve) => {
      waiter = resolve;
      this.#waiters.push(resolve);
    });
    return abortable(settled, signal).finally(() => {
      this.#waiters = this.#waiters.filter((other) => other !== waiter);
    });
  }

  /** Changes devices of the running microVM, one after the other; each that is done holds for later runs. */
  async changeDevices(changes: DeviceChanges): Promise<FleetRecord> {
    const { supervisor } = this;
    const { state } = this.#record;
    const isThere = state === "running" || state === "paused";
    if (!isThere || supervisor === undefined) throw this.#stateError("change devices");
    for (const change of deviceChanges(changes)) {
      await change.apply(supervisor);
      this.#note({ config: change.keep(this.#record.config) }, [this.event({ type: "updated" })]);
    }
    return this.#record;
  }

  sendCtrlAltDelete(): Eventually<boolean> {
    return this.#runningSupervisor("running", "send Ctrl-Alt-Delete").sendCtrlAltDelete();
  }

  /**
   * Ends it if `force` allows, then calls `forget`, which removes it or throws; who asks meanwhile gets the
   * same answer.
   */
  remove(force: boolean, forget: () => void): Promise<void> {
    if (this.#removal !== undefined) return this.#removal;
    if (this.#run !== undefined && !force) throw this.#stateError("be removed");
    const end = async () => {
      await this.kill();
      forget();
      this.#settle();
    };
    // Later in this turn: what ends now is not removed a second time for its own sake.
    const removal = Promise.resolve().then(end);
    this.#removal = removal;
    removal.catch(() => {
      this.#removal = undefined;
    });
    return removal;
  }

  /** It is removed, and must not come back by what is still under way. */
  forgotten(): void {
    this.#isGone = true;
  }

  /** Its server died while it lived. */
  lose(reason: string): void {
    const patch = { state: "lost", lostReason: reason, endedAtMs: Date.now() } as const;
    this.#note({ ...patch, restartAtMs: undefined }, [this.event({ type: "lost", reason })]);
  }

  /** Begins a run by its policy, at once. */
  restart(): void {
    this.#restart = undefined;
    this.#host.counters.restarts += 1;
    this.#record = this.#startingRecord(this.#record.restartCount + 1);
    this.#startsAtOpen = false;
    this.#note({}, [this.event({ type: "state", state: "starting" })]);
    // What goes wrong is in the record, and the policy decides what comes next.
    this.#begin(true, this.#lastDelayMs).catch(() => {});
  }

  /** Its fleet closes: it ends, and the next fleet starts it again if its policy says so. */
  async shutDown(timeoutMs: number): Promise<void> {
    const isOn = this.#run !== undefined ? !this.#run.isAsked : this.#restart !== undefined;
    this.#startsAtOpen = isOn && isRestartedAtOpen(this.#record.restart);
    await this.stop({ timeoutMs });
    this.#settle();
  }

  /** Its server died or closed while a restart was due, which is not made up for. */
  forgetRestart(): void {
    this.#note({ restartAtMs: undefined }, []);
    this.#staysEnded(undefined);
  }

  /** Tells who waits that nothing more will come. */
  #settle(): void {
    for (const waiter of this.#waiters.splice(0)) waiter(this.#record);
  }

  get #isSettled(): boolean {
    const { state } = this.#record;
    return this.#run === undefined && this.#restart === undefined && state !== "configured";
  }

  #startingRecord(restartCount: number): FleetRecord {
    return {
      ...this.#record,
      state: "starting",
      startedAtMs: undefined,
      endedAtMs: undefined,
      exit: undefined,
      lostReason: undefined,
      restartCount,
      restartAtMs: undefined,
    };
  }

  /** Makes and starts a supervisor; rejects when it does not come to run, after all of it has ended. */
  async #begin(isRestart: boolean, delayMs: number): Promise<void> {
    const run = newRun(isRestart, delayMs);
    this.#run = run;
    this.#restart = undefined;
    this.#host.counters.starts += 1;
    try {
      const complete = await this.#host.complete(this.#record.config);
      if (this.#run !== run) return;
      const made = this.#host.makeSupervisor(checkConfig(complete), this.#record);
      run.supervisor = made instanceof Promise ? await made : made;
      if (this.#run !== run) return void run.supervisor.kill();
      const { stream } = run.supervisor.events;
      const subscription = stream.subscribe((event) => this.#hear(run, event));
      run.unsubscribe = () => subscription.unsubscribe();
      await run.supervisor.start();
    } catch (error) {
      if (run.supervisor === undefined) {
        // What was made of it is closed; KVM frees a VM on another thread, in its own time.
        await machinesReleased();
        this.#ended(run, exitOf("failed", toEstaloError(error)));
      } else {
        await run.supervisor.kill();
      }
      await run.ended;
      if (!run.isAsked) throw error;
    }
  }

  #hear(run: Run, event: MicroVmEvent): void {
    if (event.type === "exited") {
      this.#ended(run, event.exit);
    } else if (event.type !== "state") {
      const { atMs: _, ...untimed } = event;
      this.#host.writer.note({ events: [this.event(untimed)] });
    } else if (
      event.state === "running" ||
      event.state === "paused" ||
      event.state === "stopping"
    ) {
      if (event.state === "running") run.runningAtMs ??= performance.now();
      if (this.#record.state !== "stopping") this.#enter(event.state);
    }
  }

  #enter(state: "running" | "paused" | "stopping"): void {
    if (this.#record.state === state) return;
    const startedAtMs = this.#record.startedAtMs ?? (state === "running" ? Date.now() : undefined);
    this.#note({ state, startedAtMs }, [this.event({ type: "state", state })]);
  }

  #ended(run: Run, exit: MicroVmExit): void {
    if (this.#run !== run) return;
    this.#run = undefined;
    run.unsubscribe();
    const endedAtMs = Date.now();
    const state = exit.reason === "failed" ? "failed" : "stopped";
    const delayMs = this.#restartDelayMs(run, exit);
    const restartCount = this.#record.restartCount;
    const restarting = { type: "restarting", delayMs, restartCount: restartCount + 1 };
    const events = [
      this.event({ type: "state", state }),
      this.event({ type: "exited", exit }),
      ...(delayMs === undefined ? [] : [this.event(restarting)]),
    ];
    const restartAtMs = delayMs === undefined ? undefined : endedAtMs + delayMs;
    if (state === "failed") this.#host.counters.failures += 1;
    if (delayMs !== undefined) {
      this.#lastDelayMs = delayMs;
      this.#restart = setTimeout(() => this.restart(), delayMs);
    }
    this.#note({ state, exit, endedAtMs, restartAtMs }, events, run.supervisor);
    run.resolveEnded();
    if (delayMs === undefined) this.#staysEnded(run);
  }

  #restartDelayMs(run: Run, exit: MicroVmExit): number | undefined {
    // Who started it hears that it did not come to run, and decides.
    if (run.runningAtMs === undefined && !run.isRestart) return undefined;
    return restartDelayMs(this.#record.restart, {
      exitCode: exit.exitCode,
      ranMs: run.runningAtMs === undefined ? 0 : performance.now() - run.runningAtMs,
      wasAsked: run.isAsked || this.isRemoving,
      restartCount: this.#record.restartCount,
      lastDelayMs: run.delayMs,
    });
  }

  #staysEnded(run: Run | undefined): void {
    this.#settle();
    // Who started it hears why it did not come to run, and may start it again.
    const isRefused = run && !run.isRestart && !run.isAsked && run.runningAtMs === undefined;
    if (!this.#record.autoRemove || isRefused || this.isRemoving || this.#startsAtOpen) return;
    this.#host.onAutoRemove(this.#record.id);
  }

  /** No restart, should one be due. */
  #giveUpRestart(): void {
    if (this.#restart === undefined) return;
    clearTimeout(this.#restart);
    this.#restart = undefined;
    this.forgetRestart();
  }

  /** The record as it is from now on, whether it can be stored or not. */
  #note(
    patch: Partial<FleetRecord>,
    events: readonly NewEvent[],
    ended?: RunningMicrovm | undefined,
  ): void {
    this.#record = { ...this.#record, ...patch };
    if (this.#isGone) return;
    const { id } = this.#record;
    const run = ended && { console: ended.console.history(), metrics: ended.metrics };
    this.#host.writer.note({
      microvm: this.stored(),
      events,
      ...(run === undefined ? {} : { lastRun: { id, run } }),
    });
  }

  #runningSupervisor(state: FleetState, action: string): RunningMicrovm {
    const { supervisor } = this;
    if (this.#record.state !== state || supervisor === undefined) throw this.#stateError(action);
    return supervisor;
  }

  #requireHere(action: string): void {
    if (this.isRemoving) throw this.#stateError(action, "being removed");
  }

  #stateError(action: string, state: string = this.#record.state): EstaloError {
    const { id } = this.#record;
    return new EstaloError("ERR_ESTALO_STATE", `microVM ${id} is ${state}: it cannot ${action}`, {
      data: { id, state },
    });
  }
}
