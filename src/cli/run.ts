/**
 * `estalo run`: one microVM from its options to its exit status.
 *
 * Everything lives in this process, so that nothing of the microVM outlives it, whatever ends it. Who asks
 * for the end: the guest itself, a signal (the first one asks the guest, the second kills), `--timeout`, the
 * detach keys, a reader of our output that is gone.
 */
import { constants } from "node:os";
import type { Writable } from "node:stream";
import { defaultGuest } from "../actors/default-guest.js";
import { EXIT_FAILURE, EXIT_TIMEOUT } from "../actors/exit-code.js";
import type { MicroVmEvent, MicroVmExit } from "../actors/messages.js";
import { vcpuThreads } from "../actors/transport.js";
import { EstaloError, hostError, toEstaloError } from "../errors.js";
import { MicroVm } from "../microvm.js";
import { type Attachment, attach } from "./attachment.js";
import { trimWhenCalm } from "./calm.js";
import { JsonLines } from "./json-lines.js";
import { BridgeTaps } from "./net/bridge-taps.js";
import { errorText, flush, isReaderGone, Moments, Progress, timingsText } from "./report.js";
import type { RunOptions } from "./run-options.js";
import { type HostStreams, planWithGuest, planWithKernel, type RunPlan } from "./run-plan.js";

const SIGNAL_STATUS = 128;
/** The guest's time to shut down when the user leaves it. */
const DETACH_TIMEOUT_MS = 3000;
/** After a mistake of ours, for the microVM to end. */
const CRASH_TIMEOUT_MS = 2000;
const DEFAULT_SIZE = { rows: 24, columns: 80 };

/** Runs a microVM and says with which status to end. */
export function run(options: RunOptions): Promise<number> {
  return runPlanned(options, async (joined, taps) => {
    const plan = await planRun(joined);
    if (!options.jail) return plan;
    return (await import("./run-jail.js")).enterJail(joined, plan, taps);
  });
}

/** The other end of `--jail`: what the process before this one planned. */
export async function runJailed(fd: number): Promise<number> {
  const { options, plan, startedAtMs } = (await import("./run-jail.js")).beginJailed(fd);
  vcpuThreads.prepare(plan.config.vcpuCount ?? 1);
  return runPlanned(options, async () => plan, performance.timeOrigin - startedAtMs);
}

async function runPlanned(
  options: RunOptions,
  makePlan: (options: RunOptions, taps: BridgeTaps) => Promise<RunPlan>,
  jailMs?: number,
): Promise<number> {
  const { stderr } = process;
  const progress = new Progress(stderr, stderr.isTTY && !options.verbose && !options.json);
  const json = options.json ? new JsonLines(process.stdout) : undefined;
  try {
    progress.start("starting the guest");
    using taps = new BridgeTaps();
    const joined = { ...options, nets: taps.join(options.nets) };
    const plan = await makePlan(joined, taps);
    await using vm = await createMicroVm(plan);
    return await new Run(vm, plan.mode, joined, { progress, json, jailMs }).toEnd();
  } catch (error) {
    progress.stop();
    json?.write({ type: "error", error: toEstaloError(error).toRecord() });
    stderr.write(errorText(error));
    return EXIT_FAILURE;
  }
}

async function planRun(options: RunOptions): Promise<RunPlan> {
  if (options.configFile !== undefined) {
    // Its schemas are as much to load as all the rest.
    const { readFirecrackerConfig } = await import("../api/firecracker/config-file.js");
    const config = await readFirecrackerConfig(options.configFile);
    const { name } = options;
    return { mode: "console", config: name === undefined ? config : { ...config, id: name } };
  }
  if (options.kernel !== undefined) return planWithKernel(options, options.kernel);
  return planWithGuest(options, hostStreams(), await defaultGuest());
}

function hostStreams(): HostStreams {
  return {
    isTerminal: process.stdin.isTTY === true && process.stdout.isTTY === true,
    ...terminalSize(),
    term: process.env.TERM,
  };
}

function terminalSize() {
  const { rows, columns } = process.stdout;
  // A terminal of no size, as some editors make them, is not known rather than empty.
  return rows > 0 && columns > 0 ? { rows, columns } : DEFAULT_SIZE;
}

async function createMicroVm({ config, mode }: RunPlan): Promise<MicroVm> {
  try {
    return await MicroVm.create(config);
  } catch (error) {
    if (!(error instanceof EstaloError) || mode === "console") throw error;
    if (error.code !== "ERR_ESTALO_CMDLINE_TOO_LONG") throw error;
    throw new EstaloError(error.code, `the command is too long: ${error.message}`, {
      data: error.data,
      hint: "the command and --env go on the kernel's command line; pipe a script in: estalo run -- sh < SCRIPT",
    });
  }
}

/** One run, from the microVM's creation on. */
class Run {
  readonly #vm: MicroVm;
  readonly #mode: RunPlan["mode"];
  readonly #options: RunOptions;
  readonly #progress: Progress;
  readonly #json: JsonLines | undefined;
  readonly #jailMs: number | undefined;
  readonly #moments = new Moments();
  /** Streams of this run, which end with it. */
  readonly #ownStreams: Writable[] = [];
  readonly #attachment: Attachment;
  /** The status for an end that we brought about. */
  #status: number | undefined;
  #wasAsked = false;
  #hasEnded = false;
  /** Kept when the drives are still there. */
  #drives: MicroVm["metrics"]["drives"] = {};

  constructor(
    vm: MicroVm,
    mode: RunPlan["mode"],
    options: RunOptions,
    output: {
      readonly progress: Progress;
      readonly json: JsonLines | undefined;
      readonly jailMs: number | undefined;
    },
  ) {
    this.#vm = vm;
    this.#mode = mode;
    this.#options = options;
    this.#progress = output.progress;
    this.#json = output.json;
    this.#jailMs = output.jailMs;
    this.#attachment = this.#attach();
  }

  async toEnd(): Promise<number> {
    const { timeoutMs } = this.#options;
    const stopListening = this.#listen();
    this.#vm.events$.subscribe((event) => this.#onEvent(event));
    const timer =
      timeoutMs === undefined ? undefined : setTimeout(() => this.#timeOut(), timeoutMs);
    let dropTrim = () => {};
    try {
      await this.#vm.start();
      dropTrim = trimWhenCalm();
      const exit = await this.#vm.wait();
      this.#hasEnded = true;
      this.#progress.stop();
      this.#attachment.close();
      await this.#flush();
      this.#report(exit);
      return this.#status ?? exit.exitCode;
    } finally {
      clearTimeout(timer);
      dropTrim();
      stopListening();
      this.#attachment.close();
    }
  }

  #attach(): Attachment {
    const { stdin, stdout, stderr } = process;
    const { verbose } = this.#options;
    const json = this.#json;
    const stdoutLine = this.#mode === "console" ? "console" : "stdout";
    return attach(this.#vm.console, this.#mode, {
      stdin,
      isTerminal: stdin.isTTY === true && stdout.isTTY === true && json === undefined,
      // The filters of a jail end a process that does.
      startsPrograms: this.#jailMs === undefined,
      stdout: json === undefined ? stdout : this.#own(json.stream(stdoutLine)),
      stderr: json === undefined ? stderr : this.#own(json.stream("stderr")),
      text: json === undefined ? (verbose ? stderr : undefined) : this.#own(json.stream("console")),
      size: terminalSize,
      onFirstOutput: () => this.#progress.stop(),
      onDetach: () => this.#detach(),
    });
  }

  #own(stream: Writable): Writable {
    this.#ownStreams.push(stream);
    return stream;
  }

  /** Signals, readers that are gone, and mistakes of ours. */
  #listen(): () => void {
    const onSignal = (name: NodeJS.Signals) => this.#onSignal(constants.signals[name]);
    const onHangUp = () => this.#kill(SIGNAL_STATUS + constants.signals.SIGHUP);
    const onLostOutput = (error?: Error) => this.#onLostOutput(error);
    const onCrash = (error: unknown) => this.#crash(error);
    process.on("SIGINT", onSignal).on("SIGTERM", onSignal).on("SIGHUP", onHangUp);
    process.on("uncaughtException", onCrash);
    process.stdout.on("error", onLostOutput);
    if (process.stdout.destroyed) onLostOutput();
    // Without standard error there is nobody to tell anything.
    process.stderr.on("error", () => {});
    return () => {
      process.off("SIGINT", onSignal).off("SIGTERM", onSignal).off("SIGHUP", onHangUp);
      process.off("uncaughtException", onCrash);
    };
  }

  #onEvent(event: MicroVmEvent): void {
    this.#moments.take(event);
    if (event.type === "state" && event.state === "stopping") {
      this.#drives = this.#vm.metrics.drives;
      this.#attachment.release();
    }
    // The last line comes when all output is out.
    if (event.type !== "exited") this.#json?.write(event);
    if (event.type === "device-failed") {
      this.#say(`${event.device} failed and was reset: ${event.error.message}`);
    }
  }

  /** The first asks whoever the guest runs; the second kills, as does one that nobody can take yet. */
  #onSignal(number: number): void {
    const again = this.#wasAsked;
    this.#wasAsked = true;
    if (again || !this.#ask(number)) this.#kill(SIGNAL_STATUS + number);
    else if (process.stderr.isTTY) this.#say("asked the guest to stop; once more kills it");
  }

  #ask(number: number): boolean {
    if (this.#mode !== "console") return this.#attachment.signal(number);
    return this.#vm.state === "running" && this.#vm.sendCtrlAltDelete();
  }

  /** Nobody reads what the guest writes, or it cannot be kept. */
  #onLostOutput(error?: Error): void {
    const isBroken = error === undefined || isReaderGone(error);
    if (!isBroken && this.#status === undefined) {
      this.#progress.stop();
      process.stderr.write(errorText(hostError("write to", "standard output", error)));
    }
    this.#kill(isBroken ? SIGNAL_STATUS + constants.signals.SIGPIPE : EXIT_FAILURE);
  }

  #detach(): void {
    this.#attachment.close();
    this.#say("left the guest, stopping it");
    this.#status ??= 0;
    void this.#vm.stop({ timeoutMs: DETACH_TIMEOUT_MS });
  }

  #timeOut(): void {
    const seconds = (this.#options.timeoutMs as number) / 1000;
    this.#say(`timed out after ${seconds} s [ERR_ESTALO_TIMEOUT]`);
    this.#kill(EXIT_TIMEOUT);
  }

  #kill(status: number): void {
    // Only our reader can still be waited for: it does not want what is left.
    if (this.#hasEnded) process.exit(status);
    this.#status ??= status;
    void this.#vm.kill();
  }

  /**
   * Something threw where nobody catches. The vCPU threads must leave the guest before the process can
   * end in order: it waits for its threads.
   */
  #crash(error: unknown): void {
    this.#attachment.close();
    process.stderr.write(errorText(error));
    setTimeout(() => process.kill(process.pid, "SIGKILL"), CRASH_TIMEOUT_MS);
    void this.#vm.kill().finally(() => process.exit(EXIT_FAILURE));
  }

  #say(text: string): void {
    this.#progress.stop();
    // The terminal may be the guest's, and raw.
    process.stderr.write(`estalo: ${text}${process.stderr.isTTY ? "\r\n" : "\n"}`);
  }

  /** Waits until all output has left. */
  async #flush(): Promise<void> {
    await Promise.all(
      this.#ownStreams.map((stream) => new Promise<void>((done) => stream.end(() => done()))),
    );
    await flush(process.stdout);
  }

  #report(exit: MicroVmExit): void {
    const { stderr } = process;
    if (exit.error !== undefined) stderr.write(errorText(EstaloError.fromRecord(exit.error)));
    if (exit.reason in FATAL_ENDS) {
      const { tail } = this.#attachment;
      if (!this.#options.verbose && this.#json === undefined) stderr.write(tail);
      stderr.write(`estalo: ${FATAL_ENDS[exit.reason as keyof typeof FATAL_ENDS]}\n`);
    }
    const { timings } = this.#vm;
    const metrics = { ...this.#vm.metrics, drives: this.#drives };
    if (this.#options.timings) stderr.write(timingsText(timings, this.#moments, this.#jailMs));
    const atMs = this.#moments.at("exited");
    this.#json?.write({ type: "exited", exit, timings, metrics, atMs });
  }
}

/** Ends that the guest's command has not chosen, in words. */
const FATAL_ENDS = {
  panic: "the guest's kernel panicked",
  "triple-fault": "the guest met a triple fault",
} as const;
