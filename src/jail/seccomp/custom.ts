/**
 * Filters from a file, for `--seccomp-filter`: JSON in the form of Firecracker's seccompiler (1.16,
 * docs/seccompiler.md), with our kinds of threads as keys. `process` must be there; a kind that is not has no
 * filter beyond it.
 *
 *     { "process": { "default_action": "trap", "filter_action": "allow",
 *                    "filter": [ { "syscall": "read" },
 *                                { "syscall": "socket", "args": [ { "index": 0, "type": "dword", "op": "eq", "val": 1 } ] } ] } }
 */
import { isEstaloError } from "../../errors.js";
import { jailConfigError } from "../jail-error.js";
import type { SeccompAction, SeccompCondition, SeccompFilter, SeccompRule } from "./filter.js";
import type { SeccompFilters } from "./filters.js";

const KINDS = ["process", "vcpu", "pool", "platform"] as const;
const ACTIONS = ["allow", "kill_process", "kill_thread", "log", "trap"] as const;
const OPERATORS = ["eq", "ne", "lt", "le", "gt", "ge"] as const;

/** On top of `process`: nothing more. */
const ALLOW_ALL: SeccompFilter = { defaultAction: "allow", filterAction: "allow", rules: [] };

/** The filters of a file's text; raises ERR_ESTALO_JAIL_CONFIG, with the place. */
export function parseFilters(text: string): SeccompFilters {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw jailConfigError(`the seccomp filter is not JSON: ${(error as Error).message}`);
  }
  try {
    const kinds = record(value, "it", KINDS);
    if (kinds.process === undefined) throw refusal("process", "missing");
    const [process, vcpu, pool, platform] = KINDS.map((kind) =>
      kinds[kind] === undefined ? ALLOW_ALL : parseFilter(kinds[kind], kind),
    );
    return { process, vcpu, pool, platform };
  } catch (error) {
    throw isEstaloError(error) ? error : jailConfigError(`the seccomp filter: ${String(error)}`);
  }
}

function parseFilter(value: unknown, at: string): SeccompFilter {
  const fields = record(value, at, ["default_action", "filter_action", "filter"]);
  return {
    defaultAction: parseAction(fields.default_action, `${at}.default_action`),
    filterAction: parseAction(fields.filter_action, `${at}.filter_action`),
    rules: list(fields.filter, `${at}.filter`).map((rule, index) =>
      parseRule(rule, `${at}.filter[${index}]`),
    ),
  };
}

function parseRule(value: unknown, at: string): SeccompRule {
  const { syscall, args } = record(value, at, ["syscall", "args", "comment"]);
  if (typeof syscall !== "string") throw refusal(`${at}.syscall`, "not a name");
  if (args === undefined) return { syscall };
  const conditions = list(args, `${at}.args`).map((condition, index) =>
    parseCondition(condition, `${at}.args[${index}]`),
  );
  return { syscall, conditions };
}

function parseCondition(value: unknown, at: string): SeccompCondition {
  const fields = record(value, at, ["index", "type", "op", "val", "comment"]);
  const { index, type, op } = fields;
  if (type !== "dword" && type !== "qword") throw refusal(`${at}.type`, "not dword or qword");
  if (typeof index !== "number") throw refusal(`${at}.index`, "not a number");
  const base = { index, width: type, value: wholeNumber(fields.val, `${at}.val`) } as const;
  const plain = OPERATORS.find((name) => name === op);
  if (plain !== undefined) return { ...base, op: plain };
  const { masked_eq: mask } = record(op, `${at}.op`, ["masked_eq"]);
  return { ...base, op: "maskedEq", mask: wholeNumber(mask, `${at}.op.masked_eq`) };
}

function parseAction(value: unknown, at: string): SeccompAction {
  const plain = ACTIONS.find((name) => name === value);
  if (plain !== undefined) return plain;
  const { errno } = record(value, at, ["errno"]);
  if (typeof errno !== "number") throw refusal(at, "not an action");
  return { errno };
}

function wholeNumber(value: unknown, at: string): bigint {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  throw refusal(at, "not a whole number");
}

function list(value: unknown, at: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw refusal(at, "not a list");
}

function record<Name extends string>(
  value: unknown,
  at: string,
  names: readonly Name[],
): Partial<Record<Name, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw refusal(at, "not an object");
  }
  const unknown = Object.keys(value).find((name) => !names.some((known) => known === name));
  if (unknown !== undefined) throw refusal(`${at}.${unknown}`, "unknown");
  return value as Partial<Record<Name, unknown>>;
}

function refusal(at: string, why: string) {
  return jailConfigError(`the seccomp filter: ${at} is ${why}`);
}
