/**
 * `--memory-policy psi[,KEY=VALUE…]` in words: where the pressure is read, and the policy's bounds.
 */
import { join } from "node:path";
import { checkMemoryPolicy, type MemoryPolicyOptions } from "../actors/memory-policy.js";
import type { PressureOptions } from "../actors/memory-pressure.js";
import { toEstaloError } from "../errors.js";
import { usageError } from "./arguments.js";

/** The policy that was chosen. */
export interface MemoryPolicyChoice {
  readonly pressure: PressureOptions;
  readonly options: MemoryPolicyOptions;
}

const FIELDS = {
  inflate: "inflatePercent",
  deflate: "deflatePercent",
  calm: "calmMs",
  min: "minMib",
  spare: "spareMib",
  rate: "rateMibPerS",
} as const satisfies Record<string, keyof MemoryPolicyOptions>;

const FORM = `it is --memory-policy psi[,KEY=VALUE…] with ${Object.keys(FIELDS).join("=, ")}= and cgroup=`;
/** `calm=` is in seconds. */
const MS_PER_S = 1000;

/** The policy of these words, `undefined` without any; raises ERR_ESTALO_USAGE. */
export function parseMemoryPolicy(value: string | undefined): MemoryPolicyChoice | undefined {
  if (value === undefined || value === "none") return undefined;
  const [form, ...settings] = value.split(",");
  if (form !== "psi") throw usageError(`--memory-policy has no form ${form}`, FORM);
  const options: Record<string, number> = {};
  let pressure: PressureOptions = {};
  for (const setting of settings) {
    const [, key, given] = /^([a-z]+)=(.+)$/s.exec(setting) ?? [];
    if (key === "cgroup") {
      pressure = { path: join(given, "memory.pressure") };
    } else if (Object.hasOwn(FIELDS, key ?? "") && /^\d{1,9}(\.\d{1,3})?$/.test(given)) {
      const number = Number(given) * (key === "calm" ? MS_PER_S : 1);
      options[FIELDS[key as keyof typeof FIELDS]] = number;
    } else {
      throw usageError(`--memory-policy ${value}: ${setting} is no KEY=NUMBER of it`, FORM);
    }
  }
  try {
    checkMemoryPolicy(options);
  } catch (error) {
    throw usageError(`--memory-policy ${value}: ${toEstaloError(error).message}`, FORM);
  }
  return { pressure, options };
}
