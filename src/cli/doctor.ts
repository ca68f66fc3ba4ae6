/**
 * `estalo doctor`: runs the checks and shows what they found.
 */
import type { Check, CheckResult, CheckStatus, HostProbes } from "./doctor-checks.js";
import { CHECKS } from "./doctor-checks.js";
import { hostProbes } from "./doctor-probes.js";

/** This host cannot run a microVM. */
export const EXIT_UNFIT = 1;

const MARKS: Readonly<Record<CheckStatus, { readonly mark: string; readonly colour: number }>> = {
  ok: { mark: "ok  ", colour: 32 },
  warn: { mark: "warn", colour: 33 },
  fail: { mark: "FAIL", colour: 31 },
};
const NAME_COLUMNS = 15;

/** Runs checks in order; one that throws has failed. */
export async function diagnose(
  host: HostProbes,
  checks: readonly Check[] = CHECKS,
): Promise<CheckResult[]> {
  const results: CheckResult[] = [];
  for (const check of checks) results.push(await check(host));
  return results;
}

/** Whether a microVM can run. */
export function isFit(results: readonly CheckResult[]): boolean {
  return results.every(({ status }) => status !== "fail");
}

/** The results for a person. */
export function doctorText(results: readonly CheckResult[], isColoured: boolean): string {
  const lines = results.map(({ name, status, detail, remedy }) => {
    const { mark, colour } = MARKS[status];
    const shown = isColoured ? `\x1b[${colour}m${mark}\x1b[0m` : mark;
    const line = `${shown}  ${name.padEnd(NAME_COLUMNS)}${detail}`;
    return remedy === undefined ? line : `${line}\n${" ".repeat(6 + NAME_COLUMNS)}→ ${remedy}`;
  });
  const verdict = isFit(results)
    ? "This host can run microVMs."
    : "This host cannot run microVMs yet.";
  return `${lines.join("\n")}\n\n${verdict}\n`;
}

/** The verb; its exit status. */
export async function doctor(asJson: boolean): Promise<number> {
  const results = await diagnose(hostProbes());
  const fit = isFit(results);
  if (asJson) {
    process.stdout.write(`${JSON.stringify({ ok: fit, checks: results }, null, 2)}\n`);
  } else {
    // NO_COLOR counts when it is not empty (no-color.org).
    const isColoured = process.stdout.isTTY === true && !process.env.NO_COLOR;
    process.stdout.write(doctorText(results, isColoured));
  }
  return fit ? 0 : EXIT_UNFIT;
}
