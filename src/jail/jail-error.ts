/** The jailer's two kinds of errors: what was asked for, and what the host refused. */
import { EstaloError, hostError } from "../errors.js";

/** Input that cannot be; the words are Firecracker's jailer's, where it has any. */
export function jailConfigError(message: string, hint?: string): EstaloError {
  return new EstaloError("ERR_ESTALO_JAIL_CONFIG", message, hint === undefined ? {} : { hint });
}

/** Runs a call to the host; what it throws gets operation, object and errno. */
export function onHost<T>(operation: string, object: string, call: () => T, hint?: string): T {
  try {
    return call();
  } catch (error) {
    throw hostError(operation, object, error, "ERR_ESTALO_JAIL", hint);
  }
}
