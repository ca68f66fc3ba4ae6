/**
 * Firecracker's custom CPU templates: which CPUID bits and MSR bits the guest sees otherwise than
 * KVM offers.
 *
 *     { "kvm_capabilities": ["!56"],
 *       "cpuid_modifiers": [{ "leaf": "0x1", "subleaf": "0x0", "flags": 0,
 *                             "modifiers": [{ "register": "ecx", "bitmap": "0bx0xx_xxxx" }] }],
 *       "msr_modifiers": [{ "addr": "0x10a", "bitmap": "0b1x" }] }
 *
 * A bitmap names the lowest bits: 0 and 1 set, x leaves alone, `_` separates, missing high bits are
 * x. Any mistake is ERR_ESTALO_CPU_TEMPLATE with the path of the value. The format is that of
 * Firecracker's docs/cpu_templates/cpu-templates.md (x86_64 part).
 */
import { EstaloError } from "../errors.js";
import type { KvmMsrEntry } from "../native/kvm-structs.js";
import { hex } from "../units.js";
import * as regs from "./cpuid.regs.js";

/** A KVM capability to check for besides the built-in ones, or to leave out of those. */
export interface CapabilityChange {
  /** KVM_CAP_ number. */
  readonly capability: number;
  readonly remove: boolean;
}

/** New bits of one register: `(old & ~mask) | value`. */
export interface CpuidRegisterChange {
  readonly register: "eax" | "ebx" | "ecx" | "edx";
  readonly mask: number;
  readonly value: number;
}

export interface CpuidChange {
  readonly leaf: number;
  readonly subleaf: number;
  readonly registers: readonly CpuidRegisterChange[];
}

/** New bits of one MSR: `(old & ~mask) | value`. */
export interface MsrChange {
  readonly index: number;
  readonly mask: bigint;
  readonly value: bigint;
}

/** A template, parsed. */
export interface CpuTemplate {
  readonly capabilities: readonly CapabilityChange[];
  readonly cpuid: readonly CpuidChange[];
  readonly msrs: readonly MsrChange[];
}

const REGISTER_WORDS = {
  eax: regs.EAX_WORD,
  ebx: regs.EBX_WORD,
  ecx: regs.ECX_WORD,
  edx: regs.EDX_WORD,
} as const;

/** Checks and parses a template, given as JSON's value. */
export function parseCpuTemplate(json: unknown): CpuTemplate {
  const template = record(json, "", ["kvm_capabilities", "cpuid_modifiers", "msr_modifiers"]);
  return {
    capabilities: list(template, "kvm_capabilities", parseCapability),
    cpuid: list(template, "cpuid_modifiers", parseCpuidModifier),
    msrs: list(template, "msr_modifiers", parseMsrModifier),
  };
}

function parseCapability(json: unknown, path: string): CapabilityChange {
  const [, mark, digits] = /^(!?)([0-9]+)$/.exec(String(json)) ?? [];
  const capability = Number(digits);
  if (typeof json !== "string" || !(capability < 2 ** 32)) {
    throw templateError(path, `a capability is "N" or "!N" with a decimal number, not`, json);
  }
  return { capability, remove: mark === "!" };
}

function parseCpuidModifier(json: unknown, path: string): CpuidChange {
  const entry = record(json, path, ["leaf", "subleaf", "flags", "modifiers"]);
  const { flags } = entry;
  if (!(Number.isInteger(flags) && (flags as number) >= 0 && (flags as number) < 2 ** 32)) {
    throw templateError(`${path}.flags`, "KVM's CPUID flags are a number from 0, not", flags);
  }
  if (entry.modifiers === undefined) {
    throw templateError(`${path}.modifiers`, "a list is needed, not", undefined);
  }
  return {
    leaf: parseNumber(entry.leaf, `${path}.leaf`),
    subleaf: parseNumber(entry.subleaf, `${path}.subleaf`),
    registers: list(entry, "modifiers", parseRegister, `${path}.`),
  };
}

function parseRegister(json: unknown, path: string): CpuidRegisterChange {
  const entry = record(json, path, ["register", "bitmap"]);
  const { register } = entry;
  if (typeof register !== "string" || !Object.hasOwn(REGISTER_WORDS, register)) {
    throw templateError(`${path}.register`, "a register is eax, ebx, ecx or edx, not", register);
  }
  const { mask, value } = parseBitmap(entry.bitmap, 32, `${path}.bitmap`);
  return {
    register: register as CpuidRegisterChange["register"],
    mask: Number(mask),
    value: Number(value),
  };
}

function parseMsrModifier(json: unknown, path: string): MsrChange {
  const entry = record(json, path, ["addr", "bitmap"]);
  return {
    index: parseNumber(entry.addr, `${path}.addr`),
    ...parseBitmap(entry.bitmap, 64, `${path}.bitmap`),
  };
}

/** A u32 as a string: hexadecimal, binary or decimal. */
function parseNumber(json: unknown, path: string): number {
  const valid = typeof json === "string" && /^(0x[0-9a-f]+|0b[01]+|[0-9]+)$/i.test(json);
  const value = valid ? Number(json) : Number.NaN;
  if (!(value < 2 ** 32)) {
    throw templateError(
      path,
      'a 32-bit number is a string like "0x1f", "0b101" or "31", not',
      json,
    );
  }
  return value;
}

function parseBitmap(
  json: unknown,
  bits: number,
  path: string,
): { readonly mask: bigint; readonly value: bigint } {
  const digits = typeof json === "string" ? /^0b([01x_]+)$/.exec(json)?.[1] : undefined;
  const compact = digits?.replaceAll("_", "") ?? "";
  if (compact === "") {
    throw templateError(path, 'a bitmap is a string like "0bx01x_x1", not', json);
  }
  if (compact.length > bits) {
    throw templateError(
      path,
      `a bitmap has at most ${bits} bits here, not ${compact.length}:`,
      json,
    );
  }
  return {
    mask: BigInt(`0b${compact.replaceAll("0", "1").replaceAll("x", "0")}`),
    value: BigInt(`0b${compact.replaceAll("x", "0")}`),
  };
}

/** `json` as an object with no other keys than these. */
function record(json: unknown, path: string, keys: readonly string[]): Record<string, unknown> {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw templateError(path, "an object is needed, not", json);
  }
  for (const key of Object.keys(json)) {
    if (!keys.includes(key)) {
      const hint = `possible here: ${keys.join(", ")}; not`;
      throw templateError(path === "" ? key : `${path}.${key}`, hint, key);
    }
  }
  return json as Record<string, unknown>;
}

function list<T>(
  parent: Record<string, unknown>,
  key: string,
  parse: (json: unknown, path: string) => T,
  prefix = "",
): T[] {
  const json = parent[key] ?? [];
  if (!Array.isArray(json)) throw templateError(`${prefix}${key}`, "a list is needed, not", json);
  return json.map((element, i) => parse(element, `${prefix}${key}[${i}]`));
}

function templateError(path: string, problem: string, json: unknown): EstaloError {
  const found = (JSON.stringify(json) ?? "nothing").slice(0, 80);
  const place = path === "" ? "CPU template" : `CPU template, ${path}`;
  return new EstaloError("ERR_ESTALO_CPU_TEMPLATE", `${place}: ${problem} ${found}`, {
    data: { path },
  });
}

/**
 * The CPUID entries with the template's bits; `entries` stays as it is. Comes before
 * normalizeCpuid.
 *
 * @throws ERR_ESTALO_CPU_TEMPLATE when the template changes a leaf that KVM does not have
 */
export function applyCpuidTemplate(entries: Uint32Array, template: CpuTemplate): Uint32Array {
  const changed = entries.slice();
  for (const { leaf, subleaf, registers } of template.cpuid) {
    const at = findEntry(changed, leaf, subleaf);
    if (at === undefined) {
      throw new EstaloError(
        "ERR_ESTALO_CPU_TEMPLATE",
        `the CPU template changes CPUID leaf ${hex(leaf)} subleaf ${hex(subleaf)}, ` +
          "which this host's KVM does not offer",
        { data: { leaf, subleaf } },
      );
    }
    for (const { register, mask, value } of registers) {
      const word = at + REGISTER_WORDS[register];
      changed[word] = (changed[word] & ~mask) | value;
    }
  }
  return changed;
}

function findEntry(entries: Uint32Array, leaf: number, subleaf: number): number | undefined {
  for (let at = 0; at < entries.length; at += regs.ENTRY_WORDS) {
    const here = entries[at + regs.FUNCTION_WORD] === leaf;
    if (here && entries[at + regs.INDEX_WORD] === subleaf) return at;
  }
  return undefined;
}

/**
 * The MSRs to set for the template.
 *
 * @param current - value of each MSR that the template names, as the vCPU has it now
 * @throws ERR_ESTALO_CPU_TEMPLATE for an MSR that is not in `current`
 */
export function applyMsrTemplate(
  current: ReadonlyMap<number, bigint>,
  template: CpuTemplate,
): KvmMsrEntry[] {
  return template.msrs.map(({ index, mask, value }) => {
    const old = current.get(index);
    if (old === undefined) {
      throw new EstaloError(
        "ERR_ESTALO_CPU_TEMPLATE",
        `the CPU template changes MSR ${hex(index)}, which this host's KVM does not offer`,
        { data: { index } },
      );
    }
    return { index, data: (old & ~mask) | value };
  });
}
