/**
 * A seccomp filter as data, and as the program that the kernel runs for every system call.
 *
 * The program is classic BPF over `struct seccomp_data` (linux/seccomp.h): another architecture and x32 calls
 * are killed; then each call of the table is compared in order, its rules one after another; the first that
 * holds decides, else the default action does. A call that has no conditions costs nothing: the kernel (5.11
 * and later) remembers that its answer is constant.
 */
import { jailConfigError } from "../jail-error.js";
import { syscallNumber } from "./syscalls.js";

/** What becomes of a call. `trap`: our handler names it and ends the process with status 148. */
export type SeccompAction =
  | "allow"
  | "kill_process"
  | "kill_thread"
  | "log"
  | "trap"
  | { readonly errno: number };

/** A condition on an argument; `maskedEq`: (argument & mask) == value. */
export interface SeccompCondition {
  /** 0 to 5. */
  readonly index: number;
  readonly op: "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "maskedEq";
  /** dword: the lower half of the argument only, as the kernel reads an int. */
  readonly width: "dword" | "qword";
  readonly value: bigint;
  readonly mask?: bigint;
}

/** All conditions must hold; without any, the call as such. */
export interface SeccompRule {
  readonly syscall: string;
  readonly conditions?: readonly SeccompCondition[];
  /** Instead of the filter's. */
  readonly action?: SeccompAction;
}

/** One thread's filter. */
export interface SeccompFilter {
  /** Of the calls that no rule knows. */
  readonly defaultAction: SeccompAction;
  /** Of those that one does. */
  readonly filterAction: SeccompAction;
  readonly rules: readonly SeccompRule[];
}

/** linux/bpf_common.h, linux/filter.h */
const BPF_LD_W_ABS = 0x20;
const BPF_ALU_AND_K = 0x54;
const BPF_JMP_JA = 0x05;
const BPF_JMP_JEQ_K = 0x15;
const BPF_JMP_JGT_K = 0x25;
const BPF_JMP_JGE_K = 0x35;
const BPF_RET_K = 0x06;
const INSTRUCTION_BYTES = 8;
/** BPF_MAXINSNS */
const INSTRUCTIONS_MAX = 4096;
const JUMP_MAX = 255;

/** Offsets in struct seccomp_data. */
const NUMBER_OFFSET = 0;
const ARCH_OFFSET = 4;
const ARGUMENTS_OFFSET = 16;

const AUDIT_ARCH_X86_64 = 0xc000_003e;
/** __X32_SYSCALL_BIT */
const X32_BIT = 0x4000_0000;

const ACTIONS = {
  allow: 0x7fff_0000,
  log: 0x7ffc_0000,
  trap: 0x0003_0000,
  kill_thread: 0x0000_0000,
  kill_process: 0x8000_0000,
} as const;
const RET_ERRNO = 0x0005_0000;
/** MAX_ERRNO */
const ERRNO_MAX = 4095;

/** Code, true and false offset, constant. */
type Instruction = readonly [code: number, whenTrue: number, whenFalse: number, k: number];

/** Offset of a condition's jump that is not known yet: to the next rule. */
const NEXT = -1;

/** The program's bytes: `struct sock_filter[]`. Raises ERR_ESTALO_JAIL_CONFIG. */
export function assemble(filter: SeccompFilter): Uint8Array {
  const program: Instruction[] = [
    [BPF_LD_W_ABS, 0, 0, ARCH_OFFSET],
    [BPF_JMP_JEQ_K, 1, 0, AUDIT_ARCH_X86_64],
    [BPF_RET_K, 0, 0, ACTIONS.kill_process],
    [BPF_LD_W_ABS, 0, 0, NUMBER_OFFSET],
    [BPF_JMP_JGE_K, 0, 1, X32_BIT],
    [BPF_RET_K, 0, 0, ACTIONS.kill_process],
  ];
  for (const [syscall, rules] of bySyscall(filter.rules)) {
    const number = syscallNumber(syscall);
    if (number === undefined) throw jailConfigError(`${syscall} is no system call of x86-64`);
    const block = [
      ...rules.flatMap((rule) => assembleRule(rule, rule.action ?? filter.filterAction)),
      // None of them held.
      ret(filter.defaultAction),
    ];
    program.push([BPF_JMP_JEQ_K, 1, 0, number], [BPF_JMP_JA, 0, 0, block.length], ...block);
  }
  program.push(ret(filter.defaultAction));
  if (program.length > INSTRUCTIONS_MAX) {
    throw jailConfigError(`a seccomp filter has ${program.length} instructions of at most 4096`);
  }
  return encode(program);
}

/** Rules of one call together, in the order of the call's first. */
function bySyscall(rules: readonly SeccompRule[]): Map<string, SeccompRule[]> {
  const groups = new Map<string, SeccompRule[]>();
  for (const rule of rules) groups.set(rule.syscall, [...(groups.get(rule.syscall) ?? []), rule]);
  return groups;
}

function assembleRule({ conditions = [] }: SeccompRule, action: SeccompAction): Instruction[] {
  const block = [...conditions.flatMap(assembleCondition), ret(action)];
  return block.map(([code, whenTrue, whenFalse, k], place) => {
    // Past the rule's end.
    const next = block.length - place - 1;
    if (next > JUMP_MAX) throw jailConfigError("a seccomp rule has too many conditions");
    return [code, whenTrue === NEXT ? next : whenTrue, whenFalse === NEXT ? next : whenFalse, k];
  });
}

/** Falls through to what follows when it holds, else jumps to NEXT. */
function assembleCondition(condition: SeccompCondition): Instruction[] {
  const { index, op, width, value } = condition;
  if (!Number.isInteger(index) || index < 0 || index > 5) {
    throw jailConfigError(`a system call has the arguments 0 to 5, not ${index}`);
  }
  const mask = op === "maskedEq" ? (condition.mask ?? 0n) : undefined;
  const most = width === "dword" ? 0xffff_ffffn : 0xffff_ffff_ffff_ffffn;
  if (value < 0n || value > most || (mask !== undefined && (mask < 0n || mask > most))) {
    throw jailConfigError(`a seccomp condition's value does not fit: ${value}`);
  }
  const low = Number(value & 0xffff_ffffn);
  const high = Number(value >> 32n);
  const lowOffset = ARGUMENTS_OFFSET + 8 * index;
  const loadLow: Instruction = [BPF_LD_W_ABS, 0, 0, lowOffset];
  const loadHigh: Instruction = [BPF_LD_W_ABS, 0, 0, lowOffset + 4];
  const isHalf = width === "dword";
  switch (op) {
    case "eq":
      return [...(isHalf ? [] : [loadHigh, equal(high)]), loadLow, equal(low)];
    case "ne":
      return isHalf
        ? [loadLow, [BPF_JMP_JEQ_K, NEXT, 0, low]]
        : // Differs above: holds, past the two below.
          [loadHigh, [BPF_JMP_JEQ_K, 0, 2, high], loadLow, [BPF_JMP_JEQ_K, NEXT, 0, low]];
    case "maskedEq":
      return [
        ...(isHalf ? [] : masked(loadHigh, Number((mask as bigint) >> 32n), high)),
        ...masked(loadLow, Number((mask as bigint) & 0xffff_ffffn), low),
      ];
    default:
      return order(op, isHalf, loadLow, loadHigh, low, high);
  }
}

function equal(k: number): Instruction {
  return [BPF_JMP_JEQ_K, 0, NEXT, k];
}

function masked(load: Instruction, mask: number, value: number): Instruction[] {
  return [load, [BPF_ALU_AND_K, 0, 0, mask], equal(value)];
}

/** gt and ge hold as they are; lt and le when ge and gt do not. */
function order(
  op: "lt" | "le" | "gt" | "ge",
  isHalf: boolean,
  loadLow: Instruction,
  loadHigh: Instruction,
  low: number,
  high: number,
): Instruction[] {
  const code = op === "gt" || op === "le" ? BPF_JMP_JGT_K : BPF_JMP_JGE_K;
  const isPlain = op === "gt" || op === "ge";
  const lower: Instruction[] = [loadLow, isPlain ? [code, 0, NEXT, low] : [code, NEXT, 0, low]];
  if (isHalf) return lower;
  const above: Instruction = [BPF_JMP_JGT_K, isPlain ? 3 : NEXT, 0, high];
  // Below, the upper half is not greater: smaller decides, equal leaves it to the lower half.
  const below: Instruction = [BPF_JMP_JEQ_K, 0, isPlain ? NEXT : 2, high];
  return [loadHigh, above, below, ...lower];
}

function ret(action: SeccompAction): Instruction {
  if (typeof action === "string") return [BPF_RET_K, 0, 0, ACTIONS[action]];
  const { errno } = action;
  if (Number.isInteger(errno) && errno >= 0 && errno <= ERRNO_MAX) {
    return [BPF_RET_K, 0, 0, RET_ERRNO + errno];
  }
  throw jailConfigError(`errno must be 0 to ${ERRNO_MAX}, not ${errno}`);
}

function encode(program: readonly Instruction[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(program.length * INSTRUCTION_BYTES));
  program.forEach(([code, whenTrue, whenFalse, k], place) => {
    const offset = place * INSTRUCTION_BYTES;
    view.setUint16(offset, code, true);
    view.setUint8(offset + 2, whenTrue);
    view.setUint8(offset + 3, whenFalse);
    view.setUint32(offset + 4, k, true);
  });
  return new Uint8Array(view.buffer);
}
