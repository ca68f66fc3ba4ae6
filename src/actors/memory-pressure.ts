/**
 * How long tasks of the host, or of one control group, waited for memory, as a stream: the kernel's pressure
 * stall information (Linux' Documentation/accounting/psi.rst).
 *
 * A subscriber has its own open file, closed with its subscription; nothing is read while nobody subscribes.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { defer, finalize, map, type Observable, timer } from "rxjs";
import { EstaloError, hostError } from "../errors.js";
import { integer, onlyFields, text } from "./config-checks.js";

/** One look at the pressure. */
export interface MemoryPressure {
  /** When, ms of the monotonic clock (`performance.now`). */
  readonly atMs: number;
  /** Of the last ten seconds, the percentage in which at least one task waited for memory. */
  readonly somePercent: number;
  /** The same for all tasks at once that were not idle. */
  readonly fullPercent: number;
}

/** What is looked at, and how often. */
export interface PressureOptions {
  /** `memory.pressure` of a control group (version 2), for example. Default: /proc/pressure/memory. */
  readonly path?: string;
  /** 10 to 3,600,000 ms. Default 1000. */
  readonly intervalMs?: number;
}

/** The host's, since Linux 4.20. */
const HOST_PATH = "/proc/pressure/memory";
const INTERVAL_MS = 1000;
const INTERVAL_MIN_MS = 10;
const INTERVAL_MAX_MS = 3_600_000;
/** Both lines are shorter. */
const FILE_BYTES_MAX = 1024;
/** `cpu.pressure` of some kernels has no second line; `memory.pressure` always does. */
const FORM = /^some avg10=(\d+\.\d+) .*\nfull avg10=(\d+\.\d+) /;

/**
 * Memory pressure, at once and then every `intervalMs`, until it is unsubscribed from. Fails with
 * ERR_ESTALO_PRESSURE where the kernel does not tell it. Raises ERR_ESTALO_CONFIG_INVALID.
 */
export function pressure$(options: PressureOptions = {}): Observable<MemoryPressure> {
  onlyFields("pressure", options, ["path", "intervalMs"]);
  const path = text("pressure.path", options.path ?? HOST_PATH);
  const intervalMs = integer(
    "pressure.intervalMs",
    options.intervalMs ?? INTERVAL_MS,
    INTERVAL_MIN_MS,
    INTERVAL_MAX_MS,
  );
  return defer(() => {
    const file = new PressureFile(path);
    return timer(0, intervalMs).pipe(
      map(() => file.read()),
      finalize(() => file.close()),
    );
  });
}

/** Raises ERR_ESTALO_PRESSURE if the pressure cannot be read there: for who wants to know before. */
export function requirePressure({ path = HOST_PATH }: PressureOptions = {}): void {
  const file = new PressureFile(path);
  try {
    file.read();
  } finally {
    file.close();
  }
}

/** One open pressure file. */
class PressureFile {
  readonly #path: string;
  readonly #descriptor: number;
  readonly #bytes = Buffer.alloc(FILE_BYTES_MAX);

  constructor(path: string) {
    this.#path = path;
    try {
      this.#descriptor = openSync(path, "r");
    } catch (error) {
      throw pressureError("open", path, error);
    }
  }

  read(): MemoryPressure {
    let length: number;
    try {
      length = readSync(this.#descriptor, this.#bytes, 0, FILE_BYTES_MAX, 0);
    } catch (error) {
      throw pressureError("read", this.#path, error);
    }
    const found = FORM.exec(this.#bytes.toString("latin1", 0, length));
    if (found !== null) {
      const [, some, full] = found;
      return {
        atMs: performance.now(),
        somePercent: Number(some),
        fullPercent: Number(full),
      };
    }
    throw new EstaloError("ERR_ESTALO_PRESSURE", `${this.#path} is no file of memory pressure`, {
      data: { path: this.#path },
      hint: "it is /proc/pressure/memory, or memory.pressure of a control group",
    });
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

function pressureError(operation: string, path: string, error: unknown): EstaloError {
  const hint =
    "the kernel tells memory pressure with CONFIG_PSI and, where that is off by default, psi=1 on its command line";
  return hostError(operation, path, error, "ERR_ESTALO_PRESSURE", hint);
}
