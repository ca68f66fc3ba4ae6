/** Exit statuses of `estalo vmm`, which are Firecracker's (1.16, src/vmm/src/lib.rs, FcExitCode). */
import { constants } from "node:os";

export const EXIT_OK = 0;
export const EXIT_ERROR = 1;
/** Something that we thought impossible. */
export const EXIT_UNEXPECTED = 2;
export const EXIT_BAD_CONFIGURATION = 152;
export const EXIT_BAD_ARGUMENTS = 153;

/** Signals that end the process with a status of their own. */
export const SIGNAL_EXITS = {
  SIGXFSZ: 151,
  SIGXCPU: 154,
  SIGHUP: 156,
} as const;

/** A shell's status for a process that a signal ended, where the signal itself cannot end it. */
export function signalStatus(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** Ends the process without waiting for any of its threads. */
export function endAtOnce(): never {
  process.kill(process.pid, "SIGKILL");
  // The first process of a namespace is not ended by its own SIGKILL, but by a fault.
  process.abort();
}
