/** Puts this process's threads under seccomp filters. Once; there is no way back. */
import { readFileSync } from "node:fs";
import { isatty } from "node:tty";
import { native } from "../../native/binding.js";
import { onHost } from "../jail-error.js";
import { parseFilters } from "./custom.js";
import { assemble } from "./filter.js";
import { defaultFilters, type SeccompFilters } from "./filters.js";
import { SYSCALL_NAMES } from "./syscalls.js";

/** Reads a filter file; raises ERR_ESTALO_JAIL or ERR_ESTALO_JAIL_CONFIG. */
export function readFilters(path: string): SeccompFilters {
  return parseFilters(onHost("read seccomp filter", path, () => readFileSync(path, "utf8")));
}

/**
 * From now on a system call that a thread's filter does not allow ends the process with status 148 and a line
 * on standard error. Raises ERR_ESTALO_JAIL when the kernel does not take them.
 */
export function confine(filters: SeccompFilters = defaultFilters(process.pid)): void {
  const [all, vcpu, pool, platform] = [
    filters.process,
    filters.vcpu,
    filters.pool,
    filters.platform,
  ].map(assemble);
  const most = Math.max(...SYSCALL_NAMES.keys());
  const names = Array.from(
    { length: most + 1 },
    (_, number) => `${SYSCALL_NAMES.get(number) ?? "unknown"}\n`,
  );
  openTerminals();
  onHost("install", "seccomp filters", () =>
    native().confine(all, vcpu, pool, platform, names.join("")),
  );
}

/**
 * Standard streams that are terminals: when one is first asked for libuv looks for the terminal's name, in a jail
 * through all of /dev, by calls that nothing else needs.
 */
function openTerminals(): void {
  const streams = [() => process.stdin, () => process.stdout, () => process.stderr];
  for (const [fd, open] of streams.entries()) if (isatty(fd)) open();
}

/** A trapped call is told to this descriptor as well; -1: to standard error only. */
export function setViolationLog(fd: number): void {
  native().setViolationLog(fd);
}
