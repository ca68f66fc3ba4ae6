/**
 * Which exits a watcher wants: checked once, then one look into small tables for each exit.
 */
import { EstaloError } from "../errors.js";
import * as k from "../native/layouts.js";
import {
  ACCESS_SIZE_MASK,
  ACCESS_WRITE,
  EXIT_KINDS,
  type ExitColumns,
  type ExitKind,
  exitKindCode,
  NONE,
} from "./exit-batch.js";

/** Name for "no device answers this address" in a filter. */
export const NO_DEVICE = "none";

/** Most records of history there are for a vCPU. */
export const HISTORY_MAX = k.TRACE_RECORDS - 1;
export const SAMPLE_EVERY_MAX = 1_000_000;
const VCPU_MAX = 31;
const SIZES: readonly number[] = [1, 2, 4, 8];

/** Which exits: all conditions that are given have to hold, and of a list one. */
export interface ExitFilter {
  readonly kinds?: readonly ExitKind[];
  /** Names of devices (`serial`, `drive root`, `entropy`, …), or `none` for what no device answers. */
  readonly devices?: readonly string[];
  /** 0 to 31. What belongs to no vCPU (`notify`) is left out then. */
  readonly vcpus?: readonly number[];
  /** Accesses in this direction only. */
  readonly direction?: "read" | "write";
  /** Accesses from the first to the last address, both included. */
  readonly addresses?: readonly [number, number];
  /** Accesses of these sizes: 1, 2, 4, 8. */
  readonly sizes?: readonly number[];
}

/** How exits are watched. */
export interface ExitWatchOptions extends ExitFilter {
  /** Of the exits that pass the filter, one in so many: 1 to 1,000,000. Default 1, all. */
  readonly sampleEvery?: number;
  /**
   * Begin so many exits of each vCPU ago, 0 to 1023, as far as they are kept. Default 0. Exits from before
   * anybody watched have no times.
   */
  readonly history?: number;
  /** With the guest's RIP, which costs the guest a copy of its registers at each exit. Default false. */
  readonly rip?: boolean;
}

function invalid(field: string, message: string): EstaloError {
  return new EstaloError("ERR_ESTALO_CONFIG_INVALID", `${field}: ${message}`, { data: { field } });
}

function checkInteger(field: string, value: number | undefined, min: number, max: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return;
  throw invalid(field, `an integer from ${min} to ${max}, not ${value}`);
}

function checkOneOf<T>(
  field: string,
  values: readonly T[] | undefined,
  known: readonly T[],
): readonly T[] | undefined {
  if (values === undefined) return undefined;
  if (!Array.isArray(values)) throw invalid(field, "a list");
  const stranger = values.find((value) => !known.includes(value));
  if (stranger !== undefined)
    throw invalid(field, `one of ${known.join(", ")}, not ${String(stranger)}`);
  return values;
}

/** Raises ERR_ESTALO_CONFIG_INVALID, with the field, for what is no way to watch a microVM with these devices. */
export function checkExitOptions(options: ExitWatchOptions, devices: readonly string[]): void {
  checkOneOf("kinds", options.kinds, EXIT_KINDS);
  checkOneOf("devices", options.devices, [...devices, NO_DEVICE]);
  checkOneOf("sizes", options.sizes, SIZES);
  checkOneOf("direction", options.direction && [options.direction], ["read", "write"]);
  for (const vcpu of options.vcpus ?? []) checkInteger("vcpus", vcpu, 0, VCPU_MAX);
  if (options.addresses !== undefined) {
    const [from, to] = options.addresses;
    checkInteger("addresses", from, 0, Number.MAX_SAFE_INTEGER);
    checkInteger("addresses", to, from, Number.MAX_SAFE_INTEGER);
  }
  checkInteger("sampleEvery", options.sampleEvery, 1, SAMPLE_EVERY_MAX);
  checkInteger("history", options.history, 0, HISTORY_MAX);
}

/** Finds the exits that a watcher wants; keeps count for its sample. */
export class ExitSelector {
  readonly #kinds: Uint8Array;
  readonly #devices: Uint8Array;
  readonly #vcpus: Uint8Array;
  readonly #accesses: Uint8Array;
  readonly #from: number;
  readonly #to: number;
  readonly #sampleEvery: number;
  #sinceSample: number;

  /** `options` were checked. */
  constructor(options: ExitWatchOptions, devices: readonly string[]) {
    this.#kinds = table(options.kinds?.map(exitKindCode));
    this.#devices = table(
      options.devices?.map((name) => (name === NO_DEVICE ? NONE : devices.indexOf(name))),
    );
    this.#vcpus = table(options.vcpus);
    this.#accesses = accessTable(options);
    [this.#from, this.#to] = options.addresses ?? [0, Number.POSITIVE_INFINITY];
    this.#sampleEvery = options.sampleEvery ?? 1;
    this.#sinceSample = this.#sampleEvery - 1;
  }

  /** Puts the indexes of the wanted ones among the first `count` exits into `chosen`; returns how many. */
  select(columns: ExitColumns, count: number, chosen: Uint32Array): number {
    let found = 0;
    for (let i = 0; i < count; i++) {
      if (!this.#accepts(columns, i)) continue;
      this.#sinceSample += 1;
      if (this.#sinceSample < this.#sampleEvery) continue;
      this.#sinceSample = 0;
      chosen[found++] = i;
    }
    return found;
  }

  #accepts(columns: ExitColumns, i: number): boolean {
    const address = columns.address[i];
    return (
      this.#kinds[columns.kind[i]] !== 0 &&
      this.#devices[columns.device[i]] !== 0 &&
      this.#vcpus[columns.vcpu[i]] !== 0 &&
      this.#accesses[columns.access[i]] !== 0 &&
      address >= this.#from &&
      address <= this.#to
    );
  }
}

/** 1 for each wanted byte; for every byte when nothing is asked for. */
function table(wanted: readonly number[] | undefined): Uint8Array {
  const bytes = new Uint8Array(256).fill(wanted === undefined ? 1 : 0);
  for (const byte of wanted ?? []) bytes[byte] = 1;
  return bytes;
}

/** Which sizes and directions; an exit that is no access has neither, and no address. */
function accessTable({ sizes, direction, addresses }: ExitFilter): Uint8Array {
  const bytes = new Uint8Array(256).fill(1);
  for (let access = 0; access < bytes.length; access++) {
    const size = access & ACCESS_SIZE_MASK;
    const isWrite = (access & ACCESS_WRITE) !== 0;
    const isWanted =
      (sizes === undefined || sizes.includes(size)) &&
      (direction === undefined || (size !== 0 && isWrite === (direction === "write"))) &&
      (addresses === undefined || size !== 0);
    if (!isWanted) bytes[access] = 0;
  }
  return bytes;
}
