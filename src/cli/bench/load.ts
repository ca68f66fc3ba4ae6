/**
 * `estalo bench load`: drives a server as a platform would whose users come when they like, shows how it goes,
 * and ends with latencies, failures and what the server used. Whatever it made is removed, however it ends.
 */

import { randomBytes } from "node:crypto";
import { setMaxListeners } from "node:events";
import { constants } from "node:os";
import { EstaloError, toEstaloError } from "../../errors.js";
import { helpHint, usageError } from "../arguments.js";
import { type FleetCall, writeJson } from "../fleet/call.js";
import { configOf } from "../fleet/create.js";
import { runOptions } from "../run-options.js";
import { arrivals } from "./arrivals.js";
import { type LoadOptions, loadOptions } from "./load-options.js";
import { type LoadSummary, progressText, summaryText } from "./load-report.js";
import { LOAD_LABEL, LoadRun } from "./load-run.js";
import { seededRandom } from "./seeded-random.js";
import { ServerMeter, type ServerUse } from "./server-meter.js";
import { readTrace } from "./trace-file.js";
import { SHARED_OPTIONS } from "./verb.js";

const STATUS_FAILURES = 1;
const SIGNAL_STATUS = 128;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const LOOK_MS = 1000;
const SHOW_MS = 250;
const ERASE_LINE = "\r\x1b[K";
const COLUMNS = 80;

/** The verb; 1 when more lives failed than were allowed to. */
export async function bench(call: FleetCall): Promise<number> {
  const { client, parsed } = call;
  const [what, ...command] = parsed.operands;
  if (what !== "load") {
    const given = what === undefined ? "nothing" : what;
    throw usageError(`estalo bench does load, not ${given}`, helpHint(call.verb));
  }
  const options = loadOptions(parsed);
  const trace = options.traceFile === undefined ? undefined : await readTrace(options.traceFile);
  const shared = [...parsed.values].filter(([name]) => SHARED_OPTIONS.includes(name));
  const machine = { switches: new Set<string>(), values: new Map(shared), operands: command };
  const config = await configOf(client, runOptions(machine));
  const meter = new ServerMeter(client);
  await meter.look();
  const name = `load-${randomBytes(4).toString("hex")}`;
  const run = new LoadRun(client, {
    name,
    spec: { config },
    arrivals: arrivals({ ...options, trace }, seededRandom(options.seed)),
    options,
    since: meter.newestEvent,
  });
  return drive(call, options, name, run, meter);
}

/** Runs it and tells of it. */
async function drive(
  { isJson }: FleetCall,
  options: LoadOptions,
  name: string,
  run: LoadRun,
  meter: ServerMeter,
): Promise<number> {
  const beginMs = performance.now();
  const stop = stopOnSignals(name);
  const progress = new ProgressLines(run, meter, beginMs, isJson);
  if (isJson)
    writeJson({ type: "load", load: name, label: `${LOAD_LABEL}=${name}`, seed: options.seed });
  let left: EstaloError | undefined;
  try {
    await run.run(stop.signal);
  } catch (error) {
    left = toEstaloError(error);
  } finally {
    await progress.end();
    stop.end();
  }
  const interrupted = stop.signal.aborted ? (stop.signal.reason as NodeJS.Signals) : null;
  const summary: LoadSummary = {
    type: "summary",
    load: name,
    seed: options.seed,
    elapsedMs: Math.round(performance.now() - beginMs),
    concurrency: options.concurrency,
    ...run.counts,
    latenciesMs: run.latencies.summaries(),
    failures: run.failures,
    server: meter.summary() ?? null,
    interrupted,
    status:
      interrupted === null
        ? statusOf(run, options)
        : SIGNAL_STATUS + constants.signals[interrupted],
  };
  if (isJson) writeJson(summary);
  else process.stdout.write(summaryText(summary));
  if (left === undefined) return summary.status;
  const { code, message } = left;
  throw new EstaloError(code, `not all that was made could be removed: ${message}`, {
    hint: `estalo rm -f $(estalo ps -aq --filter label=${LOAD_LABEL}=${name})`,
    cause: left,
  });
}

function statusOf(run: LoadRun, { maxFailures }: LoadOptions): number {
  const { failed, completed } = run.counts;
  const { value, isPercent } = maxFailures;
  const measured = isPercent ? (100 * failed) / Math.max(1, failed + completed) : failed;
  return measured > value ? STATUS_FAILURES : 0;
}

/** The first signal ends the load, and so does a reader of ours that is gone; the second signal ends us. */
function stopOnSignals(name: string) {
  const controller = new AbortController();
  // Each life listens.
  setMaxListeners(0, controller.signal);
  const onSignal = (signal: NodeJS.Signals) => {
    if (controller.signal.aborted) {
      process.stderr.write(`\nestalo: microVMs with the label ${LOAD_LABEL}=${name} may be left\n`);
      process.exit(SIGNAL_STATUS + constants.signals[signal]);
    }
    controller.abort(signal);
  };
  const onGone = () => controller.abort("SIGPIPE");
  for (const signal of SIGNALS) process.on(signal, onSignal);
  process.stdout.on("error", onGone);
  return {
    signal: controller.signal,
    end() {
      for (const signal of SIGNALS) process.off(signal, onSignal);
      process.stdout.off("error", onGone);
    },
  };
}

/** Looks at the server each second, and shows a line: on a terminal, or as JSON. */
class ProgressLines {
  readonly #run: LoadRun;
  readonly #meter: ServerMeter;
  readonly #beginMs: number;
  readonly #isJson: boolean;
  readonly #timers: NodeJS.Timeout[] = [];
  #use: ServerUse | undefined;
  #looking: Promise<void> | undefined;

  constructor(run: LoadRun, meter: ServerMeter, beginMs: number, isJson: boolean) {
    this.#run = run;
    this.#meter = meter;
    this.#beginMs = beginMs;
    this.#isJson = isJson;
    this.#timers.push(setInterval(() => this.#tick(), LOOK_MS));
    if (!isJson && process.stderr.isTTY) {
      this.#timers.push(setInterval(() => this.#show(), SHOW_MS));
    }
  }

  /** Erases the line. */
  async end(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    if (this.#timers.length > 1) process.stderr.write(ERASE_LINE);
    await this.#looking;
    // A load shorter than a second was not looked at yet.
    await this.#look();
  }

  /** A server that does not answer is not asked again meanwhile. */
  #tick(): void {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      if (this.#isJson) this.#writeLine();
    });
  }

  async #look(): Promise<void> {
    this.#use = await this.#meter.look().catch(() => undefined);
  }

  #writeLine(): void {
    const atMs = Math.round(performance.now() - this.#beginMs);
    const readyMs = this.#run.latencies.summary("ready") ?? null;
    writeJson({ type: "progress", atMs, ...this.#run.counts, readyMs, server: this.#use ?? null });
  }

  #show(): void {
    const columns = (process.stderr.columns || COLUMNS) - 1;
    const elapsedMs = performance.now() - this.#beginMs;
    const { counts, latencies } = this.#run;
    const text = progressText(elapsedMs, counts, latencies, this.#use, columns);
    process.stderr.write(`${ERASE_LINE}${text}`);
  }
}
