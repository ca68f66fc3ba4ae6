/**
 * The process of `estalo vmm`: its log, metrics, socket, machine and signals, and its end.
 *
 * It ends when the guest does, when a signal says so, or when it cannot begin; whichever comes first. The last
 * line of metrics is written in each case, and the socket is removed.
 */
import { fstatSync } from "node:fs";
import { isatty } from "node:tty";
import type { MicroVmExit } from "../actors/messages.js";
import type { MicrovmSupervisor } from "../actors/microvm-supervisor.js";
import {
  applyConfigFile,
  readConfigFile,
  readMetadataFile,
} from "../api/firecracker/config-file.js";
import { FirecrackerDoor } from "../api/firecracker/door.js";
import { Fault, hostText } from "../api/firecracker/faults.js";
import { Logger } from "../api/firecracker/logger.js";
import { VmmMachine } from "../api/firecracker/machine.js";
import { MachineMetrics } from "../api/firecracker/machine-metrics.js";
import { MetricsWriter } from "../api/firecracker/metrics.js";
import {
  addApiCounters,
  type MetricsGroups,
  zeroGroups,
} from "../api/firecracker/metrics-fields.js";
import { StreamOutput } from "../api/firecracker/serial-output.js";
import { serveFirecracker } from "../api/firecracker/server.js";
import { StandardOutputSink } from "../api/firecracker/sink.js";
import { FIRECRACKER_VERSION } from "../api/firecracker/version.js";
import type { ApiServer } from "../api/server.js";
import { toEstaloError } from "../errors.js";
import { confine, readFilters, setViolationLog } from "../jail/seccomp/confine.js";
import type { VmmOptions } from "./vmm-arguments.js";
import {
  EXIT_BAD_CONFIGURATION,
  EXIT_ERROR,
  EXIT_OK,
  EXIT_UNEXPECTED,
  endAtOnce,
  SIGNAL_EXITS,
  signalStatus,
} from "./vmm-exit-codes.js";

/** What runs a microVM is loaded when the first request was answered, or this long after we listen, ms. */
const PRELOAD_MS = 100;
/** Replies that are due get this long at the end, ms. */
const LAST_REPLIES_MS = 200;
/** After a mistake of ours, for the microVM to end, ms. */
const CRASH_TIMEOUT_MS = 2000;

/** See the file's header. */
export class VmmProcess {
  readonly #options: VmmOptions;
  readonly #logger: Logger;
  readonly #metrics: MetricsWriter;
  readonly #machine: VmmMachine;
  readonly #machineMetrics = new MachineMetrics();
  readonly #door: FirecrackerDoor;
  /** Those that came, by Firecracker's names. */
  readonly #signals: Record<string, number> = {};
  readonly #startup = { process_startup_time_us: 0, process_startup_time_cpu_us: 0 };
  #panics = 0;
  #server: ApiServer | undefined;
  #stopInput: () => void = () => {};
  #isEnding = false;
  #isPreloading = false;
  #isConfined = false;
  /** When the machine was told to start. */
  #startedAt = { ms: 0, cpuUs: 0 };

  constructor(options: VmmOptions) {
    this.#options = options;
    this.#logger = new Logger(options.id, new StandardOutputSink());
    this.#metrics = new MetricsWriter(options.id, () => this.#collect());
    this.#machine = new VmmMachine(options.id, {
      log: this.#logger,
      diagnostics: {
        configureLogger: (config) => {
          this.#logger.configure(config);
          this.#tellViolations();
        },
        configureMetrics: (config) => this.#metrics.configure(config),
        flushMetrics: () => this.#metrics.flush(),
      },
      metadataLimitBytes: options.metadataLimitBytes,
      openStandardOutput: () => new StreamOutput(process.stdout),
      onMade: (supervisor) => this.#onMade(supervisor),
      onStarted: () => this.#onStarted(),
    });
    this.#door = new FirecrackerDoor(this.#machine, this.#logger);
  }

  /** Begins; the process ends by itself. */
  async run(): Promise<void> {
    this.#listenToProcess();
    void this.#machine.ended.then((exit) => this.#onEnd(exit));
    if (!this.#setUpDiagnostics()) return;
    this.#logger.writeAlways("Info", `Running Firecracker v${FIRECRACKER_VERSION}`);
    if (!this.#readMetadata()) return;
    if (!this.#confine()) return;
    if (!this.#options.noApi && !(await this.#listen())) return;
    const { configFile } = this.#options;
    if (configFile !== undefined) await this.#startFromFile(configFile);
    else setTimeout(() => this.#preload(), PRELOAD_MS).unref();
  }

  /** False: the process ends. */
  #setUpDiagnostics(): boolean {
    const { logPath, level, module, showLevel, showLogOrigin, metricsPath } = this.#options;
    try {
      this.#logger.configure({
        log_path: logPath ?? null,
        level: level ?? null,
        show_level: showLevel || null,
        show_log_origin: showLogOrigin || null,
        module: module ?? null,
      });
    } catch (error) {
      const isLevel = error instanceof Fault;
      const text = isLevel
        ? `Invalid value for logger level: ${level}.Possible values: [Error, Warning, Info, Debug]`
        : `Could not initialize logger: ${hostText(error)}`;
      this.#fail(text, isLevel ? EXIT_BAD_CONFIGURATION : EXIT_ERROR);
      return false;
    }
    try {
      if (metricsPath !== undefined) this.#metrics.configure({ metrics_path: metricsPath });
    } catch (error) {
      this.#fail(`Could not initialize metrics: ${hostText(error)}`, EXIT_ERROR);
      return false;
    }
    return true;
  }

  /** Before anything that a client or a guest sends is read. False: the process ends. */
  #confine(): boolean {
    const { noSeccomp, seccompFilter } = this.#options;
    if (noSeccomp) return true;
    try {
      confine(seccompFilter === undefined ? undefined : readFilters(seccompFilter));
      this.#isConfined = true;
      this.#tellViolations();
      return true;
    } catch (error) {
      this.#fail(`Seccomp error: ${toEstaloError(error).message}`, EXIT_ERROR);
      return false;
    }
  }

  #tellViolations(): void {
    if (this.#isConfined) setViolationLog(this.#logger.fd);
  }

  /** False: the process ends. */
  #readMetadata(): boolean {
    const { metadataFile, metadataLimitBytes } = this.#options;
    if (metadataFile === undefined) return true;
    try {
      const metadata = readMetadataFile(metadataFile, metadataLimitBytes);
      this.#machine.draft = { ...this.#machine.draft, metadata };
      return true;
    } catch (error) {
      const { message } = toEstaloError(error);
      this.#fail(message, EXIT_BAD_CONFIGURATION);
      return false;
    }
  }

  /** False: the process ends. */
  async #listen(): Promise<boolean> {
    const { apiSocket, maxPayloadBytes } = this.#options;
    try {
      this.#server = await serveFirecracker(this.#door, {
        socketPath: apiSocket,
        maxPayloadBytes,
        onReplied: () => this.#preload(),
      });
    } catch (error) {
      const { message } = toEstaloError(error);
      this.#fail(
        `Failed to open the API socket at: ${apiSocket}. Check that it is not already used. (${message})`,
        EXIT_ERROR,
      );
      return false;
    }
    this.#reportStartup();
    return true;
  }

  /** Threads and code of a microVM, so that its start does not wait for them. */
  #preload(): void {
    if (this.#isPreloading) return;
    this.#isPreloading = true;
    void import("../api/firecracker/machine-parts.js").then(({ vcpuThreads }) =>
      vcpuThreads.prepare(this.#machine.draft.machine.vcpu_count),
    );
  }

  async #startFromFile(path: string): Promise<void> {
    try {
      this.#preload();
      await this.#door.exclusively(async () => {
        await applyConfigFile(readConfigFile(path), this.#machine, this.#logger);
        await this.#machine.start();
      });
      this.#logger.writeAlways(
        "Info",
        "Successfully started microvm that was configured from one single json",
      );
    } catch (error) {
      // A machine that was made ends by itself, and says why.
      if (this.#machine.supervisor !== undefined) return;
      const { message } = toEstaloError(error);
      this.#fail(
        `Configuration for VMM from one single json failed: ${message}`,
        EXIT_BAD_CONFIGURATION,
      );
    }
  }

  #onStarted(): void {
    this.#metrics.start();
    void import("./calm.js").then(({ trimWhenCalm }) => trimWhenCalm());
  }

  #onMade(supervisor: MicrovmSupervisor): void {
    this.#startedAt = { ms: performance.now(), cpuUs: cpuTimeUs() };
    if (this.#options.bootTimer) {
      supervisor.events.stream.subscribe((event) => {
        if (event.type === "booted") this.#reportBoot(event.atMs);
      });
    }
    if (this.#machine.draft.serial?.serial_out_path == null) this.#readInput(supervisor);
  }

  /** Standard input is the guest's, if it is a terminal or a FIFO. */
  #readInput(supervisor: MicrovmSupervisor): void {
    const isTerminal = isatty(0);
    if (!isTerminal && !isFifo(0)) return;
    const { stdin } = process;
    if (isTerminal) stdin.setRawMode(true);
    stdin.on("error", () => {});
    stdin.on("data", (bytes: Uint8Array) => {
      stdin.pause();
      void supervisor.console.send(bytes).then(() => stdin.resume());
    });
    this.#stopInput = () => {
      stdin.pause();
      if (isTerminal && !stdin.destroyed) stdin.setRawMode(false);
    };
  }

  #reportBoot(atMs: number): void {
    const us = Math.round((atMs - this.#startedAt.ms) * 1000);
    const cpuUs = cpuTimeUs() - this.#startedAt.cpuUs;
    const whole = (value: number) => String(Math.floor(value)).padStart(6);
    this.#logger.writeAlways(
      "Info",
      `Guest-boot-time =${whole(us)} us ${Math.floor(us / 1000)} ms, ` +
        `${whole(cpuUs)} CPU us ${Math.floor(cpuUs / 1000)} CPU ms`,
    );
  }

  #reportStartup(): void {
    const { startTimeUs, startTimeCpuUs, parentCpuTimeUs } = this.#options;
    const startup = this.#startup;
    if (startTimeUs !== undefined) {
      startup.process_startup_time_us = Number(process.hrtime.bigint() / 1000n) - startTimeUs;
    }
    if (startTimeCpuUs !== undefined) {
      startup.process_startup_time_cpu_us = cpuTimeUs() - startTimeCpuUs + (parentCpuTimeUs ?? 0);
    }
  }

  #collect(): MetricsGroups {
    const groups = zeroGroups();
    addApiCounters(groups, this.#door.counters);
    Object.assign(groups.api_server, this.#startup);
    Object.assign(groups.logger, this.#metrics.counters, this.#logger.counters);
    Object.assign(groups.signals, this.#signals);
    groups.vmm.panic_count = this.#panics;
    const { supervisor } = this.#machine;
    if (supervisor !== undefined) this.#machineMetrics.addTo(groups, supervisor.metrics);
    groups.uart.missed_write_count =
      (groups.uart.missed_write_count as number) + this.#machine.lostOutputBytes;
    return groups;
  }

  #listenToProcess(): void {
    for (const [name, status] of Object.entries(SIGNAL_EXITS)) {
      process.on(name, () => {
        this.#signals[name.toLowerCase()] = 1;
        this.#logger.writeAlways("Error", `Shutting down VM after intercepting signal ${name}.`);
        void this.#end(status);
      });
    }
    // Node.js would open its debugger at SIGUSR1, which ends Firecracker.
    for (const name of ["SIGTERM", "SIGINT", "SIGUSR1"] as const) {
      process.once(name, () => void this.#endBySignal(name));
    }
    process.on("SIGPIPE", () => {
      this.#signals.sigpipe = 1;
    });
    // A reader that is gone is no reason to end the guest.
    process.stdout.on("error", () => {
      this.#signals.sigpipe = 1;
    });
    process.stderr.on("error", () => {});
    process.on("uncaughtException", (error) => this.#crash(error));
  }

  /** How the guest ended, in Firecracker's statuses: whatever the guest did to itself is fine. */
  #onEnd(exit: MicroVmExit): void {
    if (this.#isEnding) return;
    const { reason, error } = exit;
    if (reason === "failed") {
      this.#fail(`The microVM failed: ${error?.message ?? "unknown"}`, EXIT_ERROR);
      return;
    }
    this.#logger.writeAlways("Info", `Vmm is stopping: ${reason}.`);
    void this.#end(EXIT_OK);
  }

  #fail(text: string, status: number): void {
    this.#logger.writeAlways("Error", text);
    process.stderr.write(`Error: ${text}\n`);
    void this.#end(status);
  }

  async #end(status: number): Promise<void> {
    if (this.#isEnding) return;
    await this.#close(status);
    process.exit(status);
  }

  /** Whoever waits for the process sees that a signal ended it. */
  async #endBySignal(name: NodeJS.Signals): Promise<void> {
    if (this.#isEnding) return;
    this.#logger.writeAlways("Info", `Ending by ${name}.`);
    await this.#close(signalStatus(name));
    process.removeAllListeners(name);
    process.kill(process.pid, name);
    // The first process of a namespace does not end by its own signals.
    setTimeout(() => process.exit(signalStatus(name)), 10);
  }

  async #close(status: number): Promise<void> {
    this.#isEnding = true;
    this.#stopInput();
    await this.#machine.kill();
    await this.#server?.close({ timeoutMs: LAST_REPLIES_MS });
    const how = status === EXIT_OK ? "successfully" : "with error";
    this.#logger.writeAlways(
      status === EXIT_OK ? "Info" : "Error",
      `Firecracker exiting ${how}. exit_code=${status}`,
    );
    this.#metrics.close();
    this.#logger.close();
    await flushed(process.stdout);
  }

  /** Something threw where nobody catches. The vCPU threads must leave the guest before the process can end. */
  #crash(error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#panics = 1;
    setTimeout(endAtOnce, CRASH_TIMEOUT_MS);
    if (this.#isEnding) {
      process.stderr.write(`Error: ${text}\n`);
      process.exit(EXIT_UNEXPECTED);
    }
    this.#fail(`Firecracker panicked: ${text}`, EXIT_UNEXPECTED);
  }
}

function isFifo(fd: number): boolean {
  try {
    return fstatSync(fd).isFIFO();
  } catch {
    // Closed: there is no input.
    return false;
  }
}

/** CPU time of the process, µs. */
function cpuTimeUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Waits a moment for what the stream was given to leave; a reader that does not read is not waited for. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.destroyed || stream.writableLength === 0) return Promise.resolve();
  return new Promise((resolve) => {
    setTimeout(resolve, LAST_REPLIES_MS);
    stream.write("", () => resolve());
  });
}
