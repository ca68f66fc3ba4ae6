/**
 * Errors as door 2 answers them: the one mapping from an error's code to a status and a body.
 */
import { type ErrorCode, type ErrorFamily, EstaloError, toEstaloError } from "../errors.js";
import type { ApiReply } from "./http.js";

/** By family, where a code says nothing else. */
const FAMILY_STATUS: Readonly<Record<ErrorFamily, number>> = {
  config: 400,
  state: 409,
  guest: 409,
  host: 503,
  bug: 500,
};

const CODE_STATUS: ReadonlyMap<ErrorCode, number> = new Map([
  ["ERR_ESTALO_UNAUTHORIZED", 401],
  ["ERR_ESTALO_FORBIDDEN", 403],
  ["ERR_ESTALO_NOT_FOUND", 404],
  ["ERR_ESTALO_DRIVE_UNKNOWN", 404],
  ["ERR_ESTALO_PMEM_UNKNOWN", 404],
  ["ERR_ESTALO_INTERFACE_UNKNOWN", 404],
  ["ERR_ESTALO_METHOD", 405],
  ["ERR_ESTALO_NAME_TAKEN", 409],
  ["ERR_ESTALO_IDEMPOTENCY", 409],
  ["ERR_ESTALO_TOO_LARGE", 413],
  ["ERR_ESTALO_MEDIA_TYPE", 415],
  ["ERR_ESTALO_INTERNAL", 500],
  // What comes with the package is broken, whatever the client asked for.
  ["ERR_ESTALO_DEFAULT_GUEST", 503],
  ["ERR_ESTALO_BUSY", 503],
]);

/** The HTTP status of an error. */
export function statusOf(error: EstaloError): number {
  return CODE_STATUS.get(error.code) ?? FAMILY_STATUS[error.family];
}

/**
 * The reply for anything thrown: `{"error":{"code","message","hint"?,"data"?}}`. What is no error of ours has
 * its text kept back (it may tell of paths and code) and is ERR_ESTALO_INTERNAL.
 */
export function errorReply(thrown: unknown, headers?: Readonly<Record<string, string>>): ApiReply {
  let error = toEstaloError(thrown);
  if (error.code === "ERR_ESTALO_BUG") {
    error = new EstaloError("ERR_ESTALO_INTERNAL", "internal error; the server's log has it");
  }
  const { code, message, hint, data } = error.toRecord();
  return {
    status: statusOf(error),
    ...(headers === undefined ? {} : { headers }),
    body: JSON.stringify({ error: { code, message, hint, data } }),
  };
}
