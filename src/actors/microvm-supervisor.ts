/**
 * The supervisor: one actor per microVM, which owns everything the microVM has and drives its life.
 *
 *     created ─▶ starting ─▶ running ◀─▶ paused
 *        │          │           │          │
 *        └──────────┴───────────┴──────────┴─▶ stopping ─▶ stopped, or failed with the reason
 *
 * It makes things in order and frees them in reverse, each once, whatever ended the microVM: the guest
 * (power-off, reset, panic, triple fault), its owner (stop, kill), a vCPU that cannot go on, a thread or
 * device that died. Nothing that happens to one microVM leaves this object.
 *
 * Invariant: vCPU threads borrow what the Machine owns, so threads have let go before it is closed, and
 * device backs are quiet before guest memory goes.
 */
import { randomBytes } from "node:crypto";
import { ramRegions } from "../boot/memory-map.js";
import { prepareBoot } from "../boot/prepare-boot.js";
import {
  I8042_RESET,
  PANICKED,
  POWER_OFF,
  REPORT_BOOTED,
  REPORT_EXIT_STATUS,
} from "../devices/events.js";
import { PANICKED_MASK } from "../devices/pvpanic.regs.js";
import { EstaloError, toEstaloError } from "../errors.js";
import type { DiskFile } from "./backends/disk-file.js";
import type { CheckedConfig, DriveChange } from "./config.js";
import { Console } from "./console.js";
import { capabilitiesFor, cpuTemplateOf, setUpVcpus } from "./cpu-setup.js";
import { DeviceBoard } from "./device-board.js";
import { DeviceFamilies } from "./device-families.js";
import { deviceHost } from "./device-host.js";
import { exitCodeOf } from "./exit-code.js";
import { createExitStream, type ExitStream } from "./exit-stream.js";
import type { Untimed } from "./fleet-messages.js";
import { type GivenFiles, startedWith } from "./given-files.js";
import { GuestEvents } from "./guest-events.js";
import { EventLog } from "./inspection.js";
import { Machine } from "./machine.js";
import type { ExitReason, MicroVmEvent, MicroVmExit, MicroVmState } from "./messages.js";
import { createSharedBlock } from "./shared-block.js";
import { type Timings, TimingsRecorder } from "./timings.js";
import { VcpuGroup } from "./vcpu-group.js";

/** What a call may make of each state; the end comes from any. Everything else raises ERR_ESTALO_STATE. */
const NEXT: Readonly<Record<MicroVmState, readonly MicroVmState[]>> = {
  created: ["starting"],
  starting: [],
  running: ["paused"],
  paused: ["running"],
  stopping: [],
  stopped: [],
  failed: [],
};

/**
 * When a microVM has run for this long, its threads give back what starting took, ms. A thread in the guest
 * never collects its garbage: 3 MiB of 8 for each, for one pause of the guest of a few milliseconds.
 */
const TRIM_AFTER_MS = 3000;

/** See the file's header. Thread: the device host's. */
export class MicrovmSupervisor {
  readonly config: CheckedConfig;
  readonly events = new EventLog<MicroVmEvent>();
  /** Fulfilled, never rejected, when the microVM has ended and nothing of it is left. */
  readonly exited: Promise<MicroVmExit>;
  /** Its virtio devices. */
  readonly devices: DeviceFamilies;
  /** The kernel's whole command line. */
  readonly commandLine: string;
  /** Live exits, for any number of watchers. */
  readonly exits: ExitStream;

  readonly #timings = new TimingsRecorder();
  readonly #closers: (() => void)[] = [];
  readonly #board: DeviceBoard;
  readonly #machine: Machine;
  readonly #vcpus: VcpuGroup;
  #state: MicroVmState = "created";
  readonly #guestEvents = new GuestEvents();
  #guestStatus: number | undefined;
  #ending = false;
  /** The last change of state that takes time: the next one waits for it. */
  #transition: Promise<void> = Promise.resolve();
  #resolveExit: (exit: MicroVmExit) => void = () => {};

  /**
   * Makes the whole microVM, ready to start. Raises what is wrong with the configuration's files or with
   * the host, and then leaves nothing behind. `given`: files that it does not open itself.
   */
  constructor(config: CheckedConfig, given = startedWith) {
    this.config = config;
    this.exited = new Promise((resolve) => {
      this.#resolveExit = resolve;
    });
    try {
      this.devices = this.#owned(new DeviceFamilies(config, this.#onDeviceFailed, given));
      this.#board = this.#owned(this.#describeBoard());
      this.#vcpus = this.#owned(new VcpuGroup(config.vcpuCount, (error) => this.#fail(error)));
      const template = cpuTemplateOf(config);
      const capabilities = capabilitiesFor(template);
      const regions = ramRegions(config.memoryMib);
      const { hugePages, vcpuCount } = config;
      const pluggable = this.devices.memoryHotplug?.region;
      const memoryEnd = this.devices.deviceMemoryEnd;
      this.#machine = this.#owned(
        new Machine({ regions, pluggable, memoryEnd, hugePages, capabilities }),
      );
      this.devices.connect({
        vm: this.#machine.vm,
        mapping: this.#machine.mapping,
        memory: this.#machine.memory,
        host: deviceHost,
        onError: (error) => this.#fail(toEstaloError(error)),
      });
      const block = createSharedBlock(vcpuCount, this.#board.deviceWords);
      const { vm, memory } = this.#machine;
      const devices = this.#board.attach(vm, memory, block, {
        sink: this.console,
        limit: this.devices.serialLimit.limiter,
      });
      this.console.connect(this.#board.serial);
      this.#board.serial.onReceiveRoom = () => this.console.pump();
      this.#timings.end("machineMs");
      const boot = this.#prepareBoot(given);
      this.commandLine = boot.commandLine;
      this.#timings.end("kernelMs");
      this.#machine.createVcpus(vcpuCount, block);
      setUpVcpus(this.#machine, config, template, boot.registers);
      this.#vcpus.connect(this.#machine, block, devices);
      this.exits = this.#owned(createExitStream(this.#machine, this.#board, block));
      this.devices.user.attach();
      this.#timings.end("vcpusMs");
    } catch (error) {
      this.#closeAll();
      throw error;
    }
    this.#emit({ type: "state", state: "created" });
  }

  get state(): MicroVmState {
    return this.#state;
  }

  get timings(): Timings {
    return this.#timings.timings;
  }

  /** Folder in /proc of each vCPU's thread; empty for those that are not in their loop. */
  get vcpuThreads(): string[] {
    return this.#vcpus.threadIds().map((id) => (id === 0 ? "" : `/proc/self/task/${id}`));
  }

  /** Counters of the vCPUs, drives and console. */
  get metrics() {
    return {
      vcpus: this.#vcpus.counters(),
      ...this.devices.metrics,
      serial: {
        transmittedBytes: this.#board.serial.transmittedBytes,
        receivedBytes: this.#board.serial.receivedBytes,
        droppedBytes: this.#board.serial.droppedBytes,
      },
      ...this.#board.counters,
    };
  }

  /** Readers of every vCPU's exits, from the oldest kept record on. */
  traceReaders() {
    this.exits.keepTimes();
    return this.#vcpus.traceReaders();
  }

  /** Enters the guest for the first time. */
  start(): Promise<void> {
    return this.#change("starting", async () => {
      if (this.#ending) return;
      this.#timings.begin();
      const attached = this.#vcpus.attach();
      this.#vcpus.run(this.#onShutdown);
      await attached;
      this.#timings.end("threadsMs");
      this.#timings.entered();
      if (this.#ending) return;
      this.#setState("running");
      const timer = setTimeout(() => this.#trim(), TRIM_AFTER_MS).unref();
      this.#closers.push(() => clearTimeout(timer));
    });
  }

  /** Stops the vCPUs and quiets the devices; no thread is held until `resume`. */
  pause(): Promise<void> {
    return this.#change("paused", async () => {
      await this.#vcpus.leave();
      this.#machine.dropMissedTicks();
      await this.#board.quiesce();
      await this.#vcpus.detach();
    });
  }

  /** Goes on where `pause` stopped. */
  resume(): Promise<void> {
    return this.#change("running", async () => {
      if (this.#ending) return;
      const attached = this.#vcpus.attach();
      this.#board.resume();
      this.#vcpus.run(this.#onShutdown);
      await attached;
      this.devices.vsock?.agent.syncTime();
    });
  }

  /** Ends the microVM at once, in any state; fulfilled when nothing of it is left. */
  async kill(): Promise<void> {
    this.#end("killed");
    await this.exited;
  }

  /** Presses Ctrl, Alt and Delete: a guest whose init knows them shuts down. False: it has not read the last ones. */
  sendCtrlAltDelete(): boolean {
    this.#require(this.#state === "running" || this.#state === "paused", "send Ctrl-Alt-Delete");
    return this.#board.sendCtrlAltDelete();
  }

  /**
   * Puts another file behind a drive, or measures the same one again; the guest sees the new size. With
   * limits alone the file stays as it is. `file`: the open one at the path, closed by the drive.
   */
  async updateDrive(id: string, change: DriveChange = {}, file?: DiskFile): Promise<void> {
    const { path, rateLimiter } = change;
    this.#require(this.#state === "running" || this.#state === "paused", "change a drive");
    const { drives } = this.devices;
    if (rateLimiter !== undefined && path === undefined) return drives.limit(id, rateLimiter);
    const sizeBytes = await drives.replace(id, path, file, rateLimiter);
    this.#emit({ type: "drive-changed", drive: id, sizeBytes });
  }

  #owned<T extends { close(): void }>(resource: T): T {
    this.#closers.push(() => resource.close());
    return resource;
  }

  #describeBoard(): DeviceBoard {
    return new DeviceBoard(deviceHost, this.devices.board, {
      onSignal: (event, value) => this.#onSignal(event, value),
      onDeviceFailed: this.#onDeviceFailed,
      onNeedsReset: (device, reason) => this.#emit({ type: "device-needs-reset", device, reason }),
      onFatal: (error) => this.#fail(error),
    });
  }

  #prepareBoot(given: GivenFiles) {
    const { config } = this;
    return prepareBoot(this.#machine.memory, {
      kernel: given.bootFile("kernel", config.kernel),
      ...(config.hugePages === true ? {} : { images: this.#machine.images }),
      ...(config.initrd === undefined ? {} : { initrd: given.bootFile("initrd", config.initrd) }),
      ...(config.bootArgs === undefined ? {} : { bootArgs: config.bootArgs }),
      ...this.devices.root,
      vcpuCount: config.vcpuCount,
      virtioDevices: this.#board.virtioWindows,
      generation: { id: randomBytes(16), gsis: this.#board.generationGsis },
    });
  }

  /** Runs `work` as the transition to `target`, after the transition before it. */
  #change(target: MicroVmState, work: () => Promise<void>): Promise<void> {
    this.#require(NEXT[this.#state].includes(target), `go from ${this.#state} to ${target}`);
    const done = this.#transition.then(work);
    this.#transition = done.catch((error) => this.#fail(toEstaloError(error)));
    // Last: who hears of it may ask for the next change at once, which comes after this one.
    this.#setState(target);
    return done;
  }

  /** Makes the vCPUs stand still for as long as their threads take to give memory back. */
  #trim(): void {
    const work = async () => {
      if (this.#state !== "running") return;
      await this.#vcpus.leave();
      this.#machine.dropMissedTicks();
      // What a vCPU was waiting for is done before it goes on.
      this.#board.drain();
      await Promise.all(this.#board.transports.map((transport) => transport.settle()));
      await this.#vcpus.trim();
      if (!this.#ending) this.#vcpus.run(this.#onShutdown);
    };
    const done = this.#transition.then(work);
    this.#transition = done.catch((error) => this.#fail(toEstaloError(error)));
  }

  readonly #onDeviceFailed = (device: string, error: EstaloError) =>
    this.#emit({ type: "device-failed", device, error: error.toRecord() });
  readonly console = new Console(this.#onDeviceFailed);

  readonly #onShutdown = () => this.#end("triple-fault");

  /** What the guest says about the whole machine. */
  #onSignal(event: number, value: number): void {
    if (event === REPORT_BOOTED) {
      this.#timings.booted();
      this.#emit({ type: "booted" });
    } else if (event === REPORT_EXIT_STATUS) {
      this.#guestStatus ??= Math.min(value, 255);
      this.#emit({ type: "command-exited", status: this.#guestStatus });
    } else if (event === POWER_OFF) {
      this.#end("poweroff");
    } else if (event === I8042_RESET) {
      this.#end("reboot");
    } else if (event === PANICKED && (value & PANICKED_MASK) !== 0) {
      // Without that bit a crash kernel takes over, and goes on.
      this.#emit({ type: "panicked" });
      this.#end("panic");
    }
  }

  #fail(error: EstaloError): void {
    this.#end("failed", error);
  }

  /** Ends the microVM for this reason; the first reason stands. */
  #end(reason: ExitReason, error?: EstaloError): void {
    if (this.#ending) return;
    this.#ending = true;
    // Those that are on their way into the guest turn back.
    this.#vcpus.kick();
    this.#board.abandon();
    this.devices.drives.abandon();
    this.#setState("stopping");
    void this.#tearDown(reason, error);
  }

  /** Frees everything, whatever fails meanwhile: never rejects. */
  async #tearDown(reason: ExitReason, error: EstaloError | undefined): Promise<void> {
    let failure = error;
    const steps = [
      () => this.#transition,
      () => this.#vcpus.leave(),
      () => this.#board.quiesce(),
      () => this.#board.serial.drainAll(),
      () => this.#vcpus.detach(),
    ];
    for (const step of steps) {
      try {
        await step();
      } catch (cause) {
        failure ??= toEstaloError(cause);
      }
    }
    this.console.close();
    const unclosed = this.#closeAll();
    failure ??= unclosed;
    await this.#machine.released;
    const actual = failure === undefined ? reason : "failed";
    const exit: MicroVmExit = {
      reason: actual,
      guestStatus: this.#guestStatus,
      error: failure?.toRecord(),
      exitCode: exitCodeOf(actual, this.#guestStatus),
    };
    this.#setState(actual === "failed" ? "failed" : "stopped");
    this.#emit({ type: "exited", exit });
    this.events.complete();
    this.#resolveExit(exit);
  }

  /** Closes what is owned, in reverse, each once; the first failure, if there was one. */
  #closeAll(): EstaloError | undefined {
    let failure: EstaloError | undefined;
    for (const close of this.#closers.splice(0).reverse()) {
      try {
        close();
      } catch (error) {
        failure ??= toEstaloError(error);
      }
    }
    return failure;
  }

  #setState(state: MicroVmState): void {
    this.#state = state;
    this.#emit({ type: "state", state });
  }

  #emit(event: Untimed<MicroVmEvent>): void {
    if (!this.#guestEvents.admits(event)) return;
    this.events.emit({ ...event, atMs: performance.now() } as MicroVmEvent);
  }

  #require(condition: boolean, action: string): void {
    if (condition) return;
    throw new EstaloError(
      "ERR_ESTALO_STATE",
      `microVM ${this.config.id} is ${this.#state}: it cannot ${action}`,
      { data: { id: this.config.id, state: this.#state } },
    );
  }
}
