/**
 * The one machine of an `estalo vmm` process, as door 1 sees it: a draft, then a running microVM.
 *
 * A start that fails leaves the draft as it was, to be corrected and started again.
 */
import type { BalloonFamily } from "../../actors/balloon-family.js";
import type { DriveChange } from "../../actors/config.js";
import type { NetworkInterfaceChange } from "../../actors/config-net.js";
import type { PmemChange } from "../../actors/config-pmem.js";
import { type BalloonChange, changeBalloon } from "../../actors/device-changes.js";
import type { MemoryHotplugFamily } from "../../actors/memory-hotplug.js";
import type { MicroVmExit } from "../../actors/messages.js";
import type { MicrovmSupervisor } from "../../actors/microvm-supervisor.js";
import { EstaloError } from "../../errors.js";
import { type Draft, EMPTY_DRAFT, toMicroVmConfig } from "./draft.js";
import type { FirecrackerLog } from "./log.js";
import { FileOutput, type SerialOutput } from "./serial-output.js";
import type { Diagnostics, FirecrackerTarget, Phase } from "./target.js";

/** What surrounds the machine in its process. */
export interface MachineSurroundings {
  readonly log: FirecrackerLog;
  readonly diagnostics: Diagnostics;
  /** Most bytes of the metadata service's data. */
  readonly metadataLimitBytes: number;
  /** Where serial output goes that is not sent to a file. */
  openStandardOutput(): SerialOutput;
  /** The machine was made and is about to run: its input may come. */
  onMade(supervisor: MicrovmSupervisor): void;
  /** The machine runs. */
  onStarted(): void;
}

/** See the file's header. */
export class VmmMachine implements FirecrackerTarget {
  readonly id: string;
  readonly diagnostics: Diagnostics;
  draft: Draft = EMPTY_DRAFT;
  /** Fulfilled when the machine has run and ended, and nothing of it is left. */
  readonly ended: Promise<MicroVmExit>;

  readonly metadataLimitBytes: number;
  readonly #surroundings: MachineSurroundings;
  #supervisor: MicrovmSupervisor | undefined;
  #output: SerialOutput | undefined;
  #resolveEnd: (exit: MicroVmExit) => void = () => {};

  constructor(id: string, surroundings: MachineSurroundings) {
    this.id = id;
    this.diagnostics = surroundings.diagnostics;
    this.metadataLimitBytes = surroundings.metadataLimitBytes;
    this.#surroundings = surroundings;
    this.ended = new Promise((resolve) => {
      this.#resolveEnd = resolve;
    });
  }

  get phase(): Phase {
    const state = this.#supervisor?.state;
    // Clients look for the vCPUs' threads as soon as it runs.
    if (state === undefined || state === "created" || state === "starting") return "Not started";
    return state === "paused" ? "Paused" : "Running";
  }

  /** Once it was started. */
  get supervisor(): MicrovmSupervisor | undefined {
    return this.#supervisor;
  }

  /** Bytes of serial output that nobody took. */
  get lostOutputBytes(): number {
    return this.#output?.lostBytes ?? 0;
  }

  async start(): Promise<void> {
    const { kernel, ...config } = toMicroVmConfig(this.draft);
    if (kernel === undefined) {
      throw new EstaloError(
        "ERR_ESTALO_CONFIG_INVALID",
        "Cannot start microvm without kernel configuration.",
        { data: { field: "boot-source" } },
      );
    }
    const { checkConfig, machinesReleased, MicrovmSupervisor } = await import("./machine-parts.js");
    const { mmds } = config;
    const checked = checkConfig({
      ...config,
      ...(mmds && { mmds: { ...mmds, sizeLimitBytes: this.metadataLimitBytes } }),
      id: this.id,
      kernel,
    });
    const output = this.#openOutput();
    let supervisor: MicrovmSupervisor;
    try {
      supervisor = new MicrovmSupervisor(checked);
    } catch (error) {
      output.close();
      await machinesReleased();
      throw error;
    }
    this.#output = output;
    this.#supervisor = supervisor;
    this.#follow(supervisor, output);
    await supervisor.start();
    this.#surroundings.onStarted();
  }

  async pause(): Promise<void> {
    await this.#running().pause();
  }

  async resume(): Promise<void> {
    await this.#running().resume();
  }

  sendCtrlAltDelete(): boolean {
    return this.#running().sendCtrlAltDelete();
  }

  async updateDrive(id: string, change: DriveChange): Promise<void> {
    await this.#running().updateDrive(id, change);
  }

  updateInterface(id: string, change: NetworkInterfaceChange): void {
    void this.#running().devices.interfaces.update(id, change);
  }

  get metadata() {
    return this.#supervisor?.devices.metadata?.data;
  }

  updatePmem(id: string, { rateLimiter = {} }: PmemChange): void {
    this.#running().devices.pmem.limit(id, rateLimiter);
  }

  updateBalloon(change: BalloonChange): Promise<void> {
    return changeBalloon(this.balloon(), change);
  }

  memoryHotplug(): MemoryHotplugFamily {
    return this.#running().devices.requireMemoryHotplug();
  }

  balloon(): BalloonFamily {
    return this.#running().devices.requireBalloon();
  }

  /** Ends the machine at once; fulfilled when nothing of it is left, also when it was never started. */
  async kill(): Promise<void> {
    await this.#supervisor?.kill();
  }

  #openOutput(): SerialOutput {
    const path = this.draft.serial?.serial_out_path;
    return path == null ? this.#surroundings.openStandardOutput() : new FileOutput(path);
  }

  #follow(supervisor: MicrovmSupervisor, output: SerialOutput): void {
    const { log } = this.#surroundings;
    supervisor.console.read((bytes) => output.write(bytes));
    supervisor.events.stream.subscribe((event) => {
      if (event.type === "device-failed") {
        log.write("Error", "vmm::devices", `${event.device} failed: ${event.error.message}`);
      } else if (event.type === "device-needs-reset") {
        log.write("Warn", "vmm::devices", `${event.device} needs a reset: ${event.reason}`);
      }
    });
    this.#surroundings.onMade(supervisor);
    void supervisor.exited.then((exit) => {
      output.close();
      this.#resolveEnd(exit);
    });
  }

  #running(): MicrovmSupervisor {
    if (this.#supervisor !== undefined) return this.#supervisor;
    throw new EstaloError("ERR_ESTALO_STATE", "the microVM is not started");
  }
}
