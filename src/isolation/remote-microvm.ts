/**
 * A microVM in a cell, as its fleet sees it: what it calls is done there, what happens there is told here.
 *
 * It ends once: by the exit that the cell tells, or as `failed` when the cell is lost.
 */
import type { CheckedConfig, DriveChange } from "../actors/config.js";
import { Console } from "../actors/console.js";
import { EXIT_FAILURE } from "../actors/exit-code.js";
import type { Untimed } from "../actors/fleet-messages.js";
import { GuestEvents } from "../actors/guest-events.js";
import { EventLog } from "../actors/inspection.js";
import type { MicroVmEvent, MicroVmExit, MicroVmState } from "../actors/messages.js";
import { NO_METRICS, type RunningMetrics, type RunningMicrovm } from "../actors/running-microvm.js";
import { EstaloError } from "../errors.js";
import { checkBoolean, checkMade, checkMetrics, checkNothing } from "./cell-checks.js";
import type { CellLink } from "./cell-link.js";
import { type SentFiles, sentConfig } from "./cell-messages.js";
import type { ChannelStream } from "./channel.js";
import { frameError } from "./frames.js";
import { sendDisk, sendFiles } from "./opened-files.js";
import { RemoteDevices } from "./remote-devices.js";
import { RemoteExits } from "./remote-exits.js";
import { ThreadFolders } from "./thread-folders.js";

/** A cell has this long to end a microVM before it is ended itself, ms. */
const KILL_PATIENCE_MS = 5000;

/** States that no call is for; a few more than there are. */
const CHANGES_OF_LIFE = 8;
/** Of a call. */
const CHANGES_OF_CALL = 2;

/** See the file's header. */
export class RemoteMicrovm implements RunningMicrovm {
  readonly config: CheckedConfig;
  readonly events = new EventLog<MicroVmEvent>();
  readonly console = new Console();
  readonly exited: Promise<MicroVmExit>;
  readonly devices: RemoteDevices;
  exits: RunningMicrovm["exits"];
  metrics = NO_METRICS;
  #state: MicroVmState = "created";
  readonly #guestEvents = new GuestEvents();
  /** Changes of state or of a drive that its cell may tell yet: those of its life, and of each call. */
  #changesLeft = CHANGES_OF_LIFE;
  readonly #link: CellLink;
  readonly #vm: number;
  readonly #console: ChannelStream;
  readonly #threads: ThreadFolders;
  #threadIds: readonly number[] = [];
  readonly #paths: Map<string, string>;
  #resolveExit: (exit: MicroVmExit) => void = () => {};

  private constructor(link: CellLink, vm: number, config: CheckedConfig, console: ChannelStream) {
    this.#link = link;
    this.#vm = vm;
    this.config = config;
    this.#console = console;
    this.#threads = new ThreadFolders(link.process.pid);
    this.#paths = new Map(config.drives.map(({ id, path }) => [id, path]));
    this.exited = new Promise((resolve) => {
      this.#resolveExit = resolve;
    });
    this.devices = new RemoteDevices(link, vm, config);
    this.exits = new RemoteExits(link, vm, { devices: [], hasRip: false });
  }

  /**
   * Makes one in a cell; raises what is wrong with its files, and what the cell's host says.
   *
   * @param vm - a number that no other microVM of the cell had
   */
  static async create(link: CellLink, vm: number, config: CheckedConfig): Promise<RemoteMicrovm> {
    let microvm: RemoteMicrovm | undefined;
    const { id, stream } = link.channel.open({
      onBytes: (bytes) => {
        microvm?.console.write(bytes);
        stream.taken(bytes.length);
      },
      onRoom: () => microvm?.console.pump(),
      onEnd: () => {},
    });
    try {
      const made = new RemoteMicrovm(link, vm, config, stream);
      microvm = made;
      // In one turn with the call: who is sent them takes them in this order.
      const files = sendFiles(config, link);
      link.listen(vm, {
        onEvent: (event) => made.#hear(event),
        onExit: (exit, metrics) => made.#end(exit, metrics),
        onLost: (error) => made.#lose(error),
      });
      const args = { config: sentConfig(config), files, console: id };
      made.exits = new RemoteExits(link, vm, await link.call(vm, "create", args, checkMade));
    } catch (error) {
      link.forget(vm);
      stream.close();
      throw error;
    }
    microvm.console.connect({ push: (bytes) => stream.send(bytes), drain() {} });
    return microvm;
  }

  get state(): MicroVmState {
    return this.#state;
  }

  get vcpuThreads(): readonly string[] {
    return this.#threadIds.map((id) => this.#threads.of(id));
  }

  async refreshMetrics(): Promise<void> {
    try {
      const { metrics, threads } = await this.#link.call(this.#vm, "metrics", {}, checkMetrics);
      if (this.#hasEnded) return;
      this.metrics = metrics;
      this.#threadIds = threads;
    } catch {
      // What was heard last stays.
    }
  }

  start(): Promise<void> {
    return this.#change("start");
  }

  pause(): Promise<void> {
    return this.#change("pause");
  }

  resume(): Promise<void> {
    return this.#change("resume");
  }

  async kill(): Promise<void> {
    const timer = setTimeout(() => {
      this.#link.drop(new EstaloError("ERR_ESTALO_CELL", "the microVM's process did not end it"));
    }, KILL_PATIENCE_MS);
    // Its end is told, however it comes.
    this.#link.call(this.#vm, "kill", {}, checkNothing).catch(() => {});
    await this.exited;
    clearTimeout(timer);
  }

  sendCtrlAltDelete(): Promise<boolean> {
    return this.#link.call(this.#vm, "ctrlAltDelete", {}, checkBoolean);
  }

  async updateDrive(drive: string, change: DriveChange): Promise<void> {
    this.#changesLeft += CHANGES_OF_CALL;
    const { path, rateLimiter } = change;
    const known = this.config.drives.find(({ id }) => id === drive);
    let files: SentFiles = [];
    // As in a supervisor: limits alone leave the file as it is.
    if (known !== undefined && (path !== undefined || rateLimiter === undefined)) {
      const { id, readOnly } = known;
      const file = { id, readOnly, path: path ?? (this.#paths.get(id) as string) };
      files = sendDisk(file, this.#link);
      await this.#link.call(this.#vm, "updateDrive", { drive, change, files }, checkNothing);
      this.#paths.set(id, file.path);
      return;
    }
    await this.#link.call(this.#vm, "updateDrive", { drive, change, files }, checkNothing);
  }

  #change(method: "start" | "pause" | "resume"): Promise<void> {
    this.#changesLeft += CHANGES_OF_CALL;
    return this.#link.call(this.#vm, method, {}, checkNothing);
  }

  get #hasEnded(): boolean {
    return this.#state === "stopped" || this.#state === "failed";
  }

  #hear(event: Untimed<MicroVmEvent>): void {
    if (this.#hasEnded) return;
    if (event.type === "state" || event.type === "drive-changed") {
      if (this.#changesLeft === 0) throw frameError("changes that nobody asked for");
      this.#changesLeft--;
    }
    if (event.type === "state") {
      const { state } = event;
      // The end has a message of its own.
      if (state === "stopped" || state === "failed") return;
      this.#state = state;
    }
    this.#emit(event);
  }

  #lose(error: EstaloError): void {
    const exit = {
      reason: "failed",
      guestStatus: undefined,
      error: error.toRecord(),
      exitCode: EXIT_FAILURE,
    } as const;
    this.#end(exit, this.metrics);
  }

  #end(exit: MicroVmExit, metrics: RunningMetrics): void {
    if (this.#hasEnded) return;
    this.metrics = metrics;
    this.#threadIds = [];
    this.#state = exit.reason === "failed" ? "failed" : "stopped";
    this.#emit({ type: "state", state: this.#state });
    this.console.close();
    this.#console.close();
    this.#emit({ type: "exited", exit });
    this.events.complete();
    this.#resolveExit(exit);
  }

  #emit(event: Untimed<MicroVmEvent>): void {
    if (!this.#guestEvents.admits(event)) return;
    this.events.emit({ ...event, atMs: performance.now() } as MicroVmEvent);
  }
}
