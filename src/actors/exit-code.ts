/**
 * The exit code of a command that ran a microVM, by how the microVM ended. docs/exit-codes.md lists them;
 * `estalo run` and `npm start` use them.
 */
import type { ExitReason } from "./messages.js";

/** The guest's kernel panicked. */
export const EXIT_PANIC = 121;
/** A vCPU met a triple fault. */
export const EXIT_TRIPLE_FAULT = 122;
/** `--timeout` ran out (as timeout(1)). */
export const EXIT_TIMEOUT = 124;
/** Estalo itself failed: bad usage, no KVM, a vCPU that cannot go on. */
export const EXIT_FAILURE = 125;
/** Killed: 128 + SIGKILL. */
export const EXIT_KILLED = 137;

/**
 * The exit code for this end. A guest that powered off or rebooted passes on what its command reported
 * (126: not executable, 127: not found, 128 + n: signal n, as a shell says it), or 0 if it reported nothing.
 */
export function exitCodeOf(reason: ExitReason, guestStatus: number | undefined): number {
  switch (reason) {
    case "poweroff":
    case "reboot":
      return guestStatus ?? 0;
    case "panic":
      return EXIT_PANIC;
    case "triple-fault":
      return EXIT_TRIPLE_FAULT;
    case "killed":
      return EXIT_KILLED;
    case "failed":
      return EXIT_FAILURE;
  }
}
