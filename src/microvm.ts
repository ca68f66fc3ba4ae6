/**
 * A microVM as a program uses it: the library's face over the supervisor actor.
 */
import type { Observable } from "rxjs";
import { abortable, throwIfAborted } from "./actors/abortable.js";
import type { GuestFiles } from "./actors/agent/files.js";
import type { GuestAgent } from "./actors/agent/guest-agent.js";
import type { ExecOptions, GuestProcess } from "./actors/agent/process.js";
import type { BalloonFamily } from "./actors/balloon-family.js";
import type { DriveRequest } from "./actors/block-middleware.js";
import {
  checkConfig,
  type DriveChange,
  type EntropyConfig,
  type MicroVmConfig,
  type SerialConfig,
} from "./actors/config.js";
import type { NetworkInterfaceChange } from "./actors/config-net.js";
import type { PmemChange } from "./actors/config-pmem.js";
import type { Console } from "./actors/console.js";
import { defaultGuestConfig } from "./actors/default-guest.js";
import type { ExitBatch } from "./actors/exit-batch.js";
import type { ExitCounts } from "./actors/exit-counts.js";
import type { ExitWatchOptions } from "./actors/exit-filter.js";
import type { ExitCountOptions } from "./actors/exit-stream.js";
import { machinesReleased } from "./actors/machine.js";
import type { MemoryHotplugFamily } from "./actors/memory-hotplug.js";
import type { MicroVmEvent, MicroVmExit, MicroVmState } from "./actors/messages.js";
import type { MetadataStore } from "./actors/metadata-store.js";
import { MicrovmSupervisor } from "./actors/microvm-supervisor.js";
import type { MiddlewareChain } from "./actors/middleware.js";
import type { NetMiddleware } from "./actors/net-middleware.js";
import type { DeviceRateLimitEvent } from "./actors/rate-limits.js";
import type { Timings } from "./actors/timings.js";
import type { VsockConnect } from "./actors/vsock-family.js";
import type { VsockStream } from "./actors/vsock-stream.js";
import type { TraceReader } from "./native/trace-ring.js";

/** Options of every call that takes time. */
export interface CallOptions {
  /** Gives up the call: it rejects with ERR_ESTALO_ABORTED, whose cause is the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Options of {@link MicroVm.stop}. */
export interface StopOptions extends CallOptions {
  /** How long the guest has to shut down before it is killed, in milliseconds. Default 5000. */
  readonly timeoutMs?: number;
}

const STOP_TIMEOUT_MS = 5000;

/**
 * One microVM.
 *
 * @example
 * ```ts
 * import { MicroVm } from "estalo";
 *
 * await using vm = await MicroVm.create({ memoryMib: 128 });
 * vm.console.read((bytes) => process.stdout.write(bytes));
 * await vm.start();
 * const { reason } = await vm.wait();
 * ```
 */
export class MicroVm implements AsyncDisposable {
  readonly #supervisor: MicrovmSupervisor;

  private constructor(supervisor: MicrovmSupervisor) {
    this.#supervisor = supervisor;
  }

  /**
   * Makes a microVM, ready to start: opens its files, maps its memory, loads its kernel.
   *
   * Without `kernel` it runs the guest that comes with Estalo. Rejects with an {@link EstaloError} of the
   * families config (ERR_ESTALO_CONFIG_INVALID, ERR_ESTALO_KERNEL_*, ERR_ESTALO_DRIVE_FILE, …) or host
   * (ERR_ESTALO_KVM_*, ERR_ESTALO_HOST), and then leaves nothing behind.
   */
  static async create(config: MicroVmConfig = {}, options: CallOptions = {}): Promise<MicroVm> {
    throwIfAborted(options.signal);
    // Before the default guest is unpacked for it: what is wrong is told at once, as what it is.
    checkConfig({ ...config, kernel: config?.kernel ?? "the default guest's" });
    const complete = await defaultGuestConfig(config);
    throwIfAborted(options.signal);
    try {
      return new MicroVm(new MicrovmSupervisor(checkConfig(complete)));
    } catch (error) {
      // What was made of it is closed; KVM frees a VM on another thread, in its own time.
      await machinesReleased();
      throw error;
    }
  }

  /** The configuration's id. */
  get id(): string {
    return this.#supervisor.config.id;
  }

  get state(): MicroVmState {
    return this.#supervisor.state;
  }

  /** The command line the kernel got, with root= and the devices. */
  get commandLine(): string {
    return this.#supervisor.commandLine;
  }

  /** Where the milliseconds of the start went, as far as it got. */
  get timings(): Timings {
    return this.#supervisor.timings;
  }

  /** Counters of vCPUs, drives and serial port, as they are now. */
  get metrics() {
    return this.#supervisor.metrics;
  }

  /** The guest's serial port. */
  get console(): Pick<
    Console,
    "read" | "history" | "send" | "holdOutput" | "use" | "middlewareMetrics"
  > {
    return this.#supervisor.console;
  }

  /** What happens to the microVM, from its creation on; completes when it has ended. */
  get events$(): Observable<MicroVmEvent> {
    return this.#supervisor.events.stream;
  }

  /** As {@link events$}, for `for await`. Every iterator sees the events from the first kept one on. */
  events(options: CallOptions = {}): AsyncIterableIterator<MicroVmEvent> {
    return this.#supervisor.events.iterate(options.signal);
  }

  /**
   * Every exit of every vCPU from the subscription on, in batches, as they are polled (each 1 to 10 ms).
   * Lossy: a batch says what was lost. Completes when the microVM has ended. Raises
   * ERR_ESTALO_CONFIG_INVALID for options that make no sense, ERR_ESTALO_KVM_CAPABILITY for `rip` where KVM
   * cannot tell it. docs/streams.md has all of it.
   */
  exits$(options: ExitWatchOptions = {}): Observable<ExitBatch> {
    return this.#supervisor.exits.batches(options);
  }

  /**
   * As {@link exits$}, for `for await`. Up to 64 batches wait for their reader; what comes then is dropped,
   * and the next batch says how much.
   */
  exits(options: ExitWatchOptions & CallOptions = {}): AsyncIterableIterator<ExitBatch> {
    const { signal, ...watch } = options;
    return this.#supervisor.exits.iterate(watch, signal);
  }

  /** Exits counted by some of their fields, with what they took, window after window. Raises as `exits$`. */
  exitCounts$(options: ExitCountOptions): Observable<ExitCounts> {
    return this.#supervisor.exits.counts(options);
  }

  /**
   * A reader of each vCPU's exits: the last thousand first, then all that follow, lossy. From the first call
   * on the vCPUs take the time of each exit.
   */
  traceReaders(): TraceReader[] {
    return this.#supervisor.traceReaders();
  }

  /** Enters the guest. Only once, and only from "created" (else ERR_ESTALO_STATE). */
  async start(options: CallOptions = {}): Promise<void> {
    throwIfAborted(options.signal);
    await abortable(this.#supervisor.start(), options.signal);
  }

  /** Stops the vCPUs and the devices until `resume`. Only while running (else ERR_ESTALO_STATE). */
  async pause(options: CallOptions = {}): Promise<void> {
    throwIfAborted(options.signal);
    await abortable(this.#supervisor.pause(), options.signal);
  }

  /** Goes on after `pause`. Only while paused (else ERR_ESTALO_STATE). */
  async resume(options: CallOptions = {}): Promise<void> {
    throwIfAborted(options.signal);
    await abortable(this.#supervisor.resume(), options.signal);
  }

  /**
   * Asks the guest to shut down (Ctrl-Alt-Delete) and kills it if it has not within `timeoutMs`, or when
   * `signal` aborts. Fulfilled when nothing of the microVM is left.
   */
  async stop(options: StopOptions = {}): Promise<MicroVmExit> {
    if (this.state === "running") {
      this.#supervisor.sendCtrlAltDelete();
      const patience = AbortSignal.timeout(options.timeoutMs ?? STOP_TIMEOUT_MS);
      const signals = options.signal === undefined ? [patience] : [patience, options.signal];
      await abortable(this.#supervisor.exited, AbortSignal.any(signals)).catch(() => {});
    }
    return this.kill();
  }

  /** Ends the microVM at once, whatever it does. Fulfilled when nothing of it is left; idempotent. */
  async kill(): Promise<MicroVmExit> {
    await this.#supervisor.kill();
    return this.#supervisor.exited;
  }

  /** Waits for the end, whatever ends it; never rejects but for `signal`. */
  wait(options: CallOptions = {}): Promise<MicroVmExit> {
    return abortable(this.#supervisor.exited, options.signal);
  }

  /** Presses Ctrl, Alt and Delete. False: the guest has not taken the last ones yet. */
  sendCtrlAltDelete(): boolean {
    return this.#supervisor.sendCtrlAltDelete();
  }

  /**
   * Puts another file behind a drive while the guest runs, measures the same file again when it grew, or
   * changes its limits. Rejects with ERR_ESTALO_DRIVE_UNKNOWN, ERR_ESTALO_DRIVE_FILE or
   * ERR_ESTALO_CONFIG_INVALID, and then the drive is as it was.
   */
  updateDrive(id: string, change: DriveChange = {}): Promise<void> {
    return this.#supervisor.updateDrive(id, change);
  }

  /**
   * Changes the limits of a persistent memory device. Raises ERR_ESTALO_PMEM_UNKNOWN or
   * ERR_ESTALO_CONFIG_INVALID.
   */
  updatePmem(id: string, { rateLimiter }: PmemChange): void {
    if (rateLimiter !== undefined) this.#supervisor.devices.pmem.limit(id, rateLimiter);
  }

  /** Changes the entropy device's limits. Raises ERR_ESTALO_STATE without one, or ERR_ESTALO_CONFIG_INVALID. */
  updateEntropy({ rateLimiter = {} }: EntropyConfig): void {
    this.#supervisor.devices.limitEntropy(rateLimiter);
  }

  /** Changes the limit of the serial port's output; a bucket of size 0 lifts it. Raises ERR_ESTALO_CONFIG_INVALID. */
  updateSerial({ rateLimiter }: SerialConfig): void {
    if (rateLimiter !== undefined) this.#supervisor.devices.limitSerial(rateLimiter);
  }

  /**
   * Changes the limits of a network interface, plugs its cable in or out, replaces a user network's forwards.
   * Raises ERR_ESTALO_INTERFACE_UNKNOWN or ERR_ESTALO_CONFIG_INVALID. Done at once, but for forwards: fulfilled
   * when passt has them, rejects with ERR_ESTALO_PASST when it cannot (a port is taken), and nothing is changed then.
   */
  updateNetworkInterface(id: string, change: NetworkInterfaceChange): Promise<void> {
    return this.#supervisor.devices.interfaces.update(id, change);
  }

  /**
   * Connects to a vsock port of the guest's, and gives a stream when the guest has accepted. Rejects with
   * ERR_ESTALO_VSOCK (nobody listens, no driver yet, a function of {@link MicroVm.vsock} keeps it),
   * ERR_ESTALO_STATE (no vsock device) or ERR_ESTALO_ABORTED.
   *
   * @param port - 0 to 4,294,967,295
   */
  async connect(port: number, options: CallOptions = {}): Promise<VsockStream> {
    throwIfAborted(options.signal);
    return this.#supervisor.devices.requireVsock().connectTo(port, options.signal);
  }

  /**
   * Runs a program in the guest, by its agent. `await` gives its output and how it ended (which is no
   * rejection, whatever it is); the streams are there at once. A guest that is still booting is waited for.
   * Rejects with an ERR_ESTALO_AGENT_* code, ERR_ESTALO_ABORTED, or ERR_ESTALO_STATE without a vsock device.
   *
   * @param argv - the program, looked up in the guest's PATH, and its words
   */
  exec(argv: readonly string[], options: ExecOptions = {}): GuestProcess {
    return this.agent.exec(argv, options);
  }

  /** The guest's files, by its agent. Raises ERR_ESTALO_STATE without a vsock device. */
  get files(): GuestFiles {
    return this.agent.files;
  }

  /** The guest's agent: health and clock. Raises ERR_ESTALO_STATE without a vsock device. */
  get agent(): GuestAgent {
    return this.#supervisor.devices.requireVsock().agent;
  }

  /**
   * Takes the guest's connections to a vsock port of the host's, each as a stream, until the returned function
   * is called. Raises ERR_ESTALO_VSOCK when the port has a handler, ERR_ESTALO_STATE without a vsock device.
   */
  listen(port: number, handler: (stream: VsockStream) => void): () => void {
    return this.#supervisor.devices.requireVsock().listen(port, handler);
  }

  /**
   * The metadata service's data: `get`, `put` (replaces it) and `patch` (merges, RFC 7396). Raises
   * ERR_ESTALO_STATE without `mmds` in the configuration; what is no JSON object or too large is refused with
   * ERR_ESTALO_CONFIG_INVALID or ERR_ESTALO_TOO_LARGE, and the data stays.
   */
  get metadata(): Pick<MetadataStore, "get" | "put" | "patch"> {
    return this.#supervisor.devices.requireMetadata().data;
  }

  /** Functions in the way of network frames: `net.use((frame, next) => …)`. */
  get net(): Pick<NetMiddleware, "use"> {
    return this.#supervisor.devices.net;
  }

  /** Functions in the way of the drives' requests: `drives.use((request, next) => …)`. */
  get drives(): Pick<MiddlewareChain<DriveRequest>, "use"> {
    return this.#supervisor.devices.drives.middleware;
  }

  /**
   * Functions in the way of vsock connections, the guest's ("from-guest") and the host's ("to-guest": by
   * {@link MicroVm.connect} and the device's Unix socket): `vsock.use((connect, next) => …)`. Those to the guest's
   * agent that `exec`, `files` and `agent` make are not among them. One that a function does not pass on is
   * refused. Its getter raises ERR_ESTALO_STATE without a vsock device.
   */
  get vsock(): Pick<MiddlewareChain<VsockConnect>, "use"> {
    return this.#supervisor.devices.requireVsock().middleware;
  }

  /** The memory balloon. Its getter raises ERR_ESTALO_STATE for a microVM without one. */
  get balloon(): Pick<
    BalloonFamily,
    | "amounts"
    | "setTarget"
    | "setStatsInterval"
    | "report"
    | "startHinting"
    | "stopHinting"
    | "hinting"
  > {
    return this.#supervisor.devices.requireBalloon();
  }

  /**
   * Memory that can be plugged: how much the guest is to have, and has. Its getter raises ERR_ESTALO_STATE for a
   * microVM without `memoryHotplug`.
   */
  get memoryHotplug(): Pick<MemoryHotplugFamily, "setRequestedSize" | "report"> {
    return this.#supervisor.devices.requireMemoryHotplug();
  }

  /** What the devices' rate limiters do, from the subscription on; completes when the microVM has ended. */
  get rateLimits$(): Observable<DeviceRateLimitEvent> {
    return this.#supervisor.devices.rateLimits$;
  }

  /** Kills the microVM: `await using` leaves nothing behind. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
