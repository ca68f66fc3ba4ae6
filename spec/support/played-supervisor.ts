/**
 * A supervisor that is only played: the states, events and promises of a real one, whose guest does what the
 * spec says and whose steps can be held back.
 */
import type { CheckedConfig, DriveChange } from "../../src/actors/config.js";
import { exitCodeOf } from "../../src/actors/exit-code.js";
import { EventLog } from "../../src/actors/inspection.js";
import type {
  ExitReason,
  MicroVmEvent,
  MicroVmExit,
  MicroVmState,
} from "../../src/actors/messages.js";
import type { MicrovmSupervisor } from "../../src/actors/microvm-supervisor.js";
import { EstaloError } from "../../src/errors.js";

/** Steps that may be held back. */
export type PlayedStep = "start" | "pause" | "resume" | "tearDown";

/** One played microVM. */
export class PlayedSupervisor {
  readonly events = new EventLog<MicroVmEvent>();
  readonly exited: Promise<MicroVmExit>;
  readonly drives: [string, DriveChange][] = [];
  state: MicroVmState = "created";
  /** The guest heeds Ctrl-Alt-Delete. */
  isPolite = false;
  ctrlAltDeletes = 0;
  output = "";
  readonly #stage: Stage;
  #ending = false;
  #resolveExit: (exit: MicroVmExit) => void = () => {};

  constructor(
    readonly config: CheckedConfig,
    stage: Stage,
  ) {
    this.#stage = stage;
    this.exited = new Promise((resolve) => {
      this.#resolveExit = resolve;
    });
    this.#enter("created");
  }

  get console() {
    return { history: () => Buffer.from(this.output) };
  }

  get metrics() {
    return { vcpus: [{ exitIoOut: this.output.length }], drives: {}, serial: {} };
  }

  async start(): Promise<void> {
    this.#require("created");
    this.#enter("starting");
    try {
      await this.#stage.pass("start");
    } catch (error) {
      void this.end("failed", undefined, error as EstaloError);
      throw error;
    }
    if (!this.#ending) this.#enter("running");
  }

  async pause(): Promise<void> {
    this.#require("running");
    this.#enter("paused");
    await this.#stage.pass("pause");
  }

  async resume(): Promise<void> {
    this.#require("paused");
    this.#enter("running");
    await this.#stage.pass("resume");
  }

  async kill(): Promise<void> {
    void this.end("killed");
    await this.exited;
  }

  sendCtrlAltDelete(): boolean {
    this.#require("running");
    this.ctrlAltDeletes += 1;
    if (this.isPolite) void this.end("poweroff");
    return true;
  }

  async updateDrive(id: string, change: DriveChange): Promise<void> {
    this.drives.push([id, change]);
    this.events.emit({ type: "drive-changed", drive: id, sizeBytes: 0, atMs: 0 });
  }

  /** Ends it as its guest, or its owner, does. */
  async end(reason: ExitReason, guestStatus?: number, error?: EstaloError): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    this.#enter("stopping");
    await this.#stage.pass("tearDown");
    this.#stage.living.delete(this);
    const exitCode = exitCodeOf(reason, guestStatus);
    const exit = { reason, guestStatus, error: error?.toRecord(), exitCode };
    this.#enter(reason === "failed" ? "failed" : "stopped");
    this.events.emit({ type: "exited", exit, atMs: 0 });
    this.events.complete();
    this.#resolveExit(exit);
  }

  #enter(state: MicroVmState): void {
    this.state = state;
    this.events.emit({ type: "state", state, atMs: 0 });
  }

  #require(state: MicroVmState): void {
    if (this.state === state) return;
    throw new EstaloError("ERR_ESTALO_STATE", `played supervisor is ${this.state}, not ${state}`);
  }
}

/** Makes played supervisors, and holds their steps back. */
export class Stage {
  /** All that were made, by their order. */
  readonly made: PlayedSupervisor[] = [];
  /** Those that have not been torn down. */
  readonly living = new Set<PlayedSupervisor>();
  readonly holding = new Set<PlayedStep>();
  /** What making or a step throws, while it is here. */
  readonly failing = new Map<PlayedStep | "make", EstaloError>();
  #held: (() => void)[] = [];

  /** For `FleetOptions`. */
  readonly make = (config: CheckedConfig): MicrovmSupervisor => {
    const failure = this.failing.get("make");
    if (failure !== undefined) throw failure;
    const supervisor = new PlayedSupervisor(config, this);
    this.made.push(supervisor);
    this.living.add(supervisor);
    return supervisor as unknown as MicrovmSupervisor;
  };

  /** The one made last. */
  get last(): PlayedSupervisor {
    return this.made[this.made.length - 1];
  }

  async pass(step: PlayedStep): Promise<void> {
    if (this.holding.has(step)) await new Promise<void>((resolve) => this.#held.push(resolve));
    else await Promise.resolve();
    const failure = this.failing.get(step);
    if (failure !== undefined) throw failure;
  }

  /** Lets all go on that is held back. */
  release(): void {
    this.holding.clear();
    for (const go of this.#held.splice(0)) go();
  }
}
