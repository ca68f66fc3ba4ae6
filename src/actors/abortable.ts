/**
 * Calls that their caller may give up: by an AbortSignal, with ERR_ESTALO_ABORTED.
 */
import { EstaloError } from "../errors.js";

function aborted(signal: AbortSignal): EstaloError {
  return new EstaloError("ERR_ESTALO_ABORTED", "the call was aborted", { cause: signal.reason });
}

/** Raises ERR_ESTALO_ABORTED when the call is given up already. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted(signal);
}

/** `work`, or a rejection as soon as `signal` aborts; the work itself goes on. */
export function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(aborted(signal));
    // Heard in any case: nobody else sees it when the work fails later.
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}
