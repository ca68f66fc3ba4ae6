/**
 * What went wrong between a client and its server, as errors: the server's own refusals with their code, and
 * everything else that can come over a wire.
 */
import { type ErrorFamily, type ErrorRecord, EstaloError } from "../../errors.js";
import type { ServerAddress } from "./server-address.js";

/** How much of a reply that makes no sense is shown. */
const EXCERPT_CHARACTERS = 200;

/** A reply, read whole. */
export interface HttpReply {
  readonly status: number;
  readonly contentType: string;
  readonly body: Uint8Array;
}

/** The call was given up by its signal. */
export function abortedError(signal: AbortSignal): EstaloError {
  return new EstaloError("ERR_ESTALO_ABORTED", "the call was aborted", { cause: signal.reason });
}

/** The call was given up by its client, which ends. */
export function closedError(): EstaloError {
  return new EstaloError("ERR_ESTALO_ABORTED", "the client was closed");
}

/** The advice for a connection that the system or TLS refused. */
function connectHint(errno: string, { socketPath }: ServerAddress): string | undefined {
  switch (errno) {
    case "ENOENT":
    case "ECONNREFUSED":
      return "is estalo serve running? ESTALO_HOST or --host names another server";
    case "EACCES":
    case "EPERM":
      return socketPath === undefined
        ? undefined
        : "the socket belongs to the user who runs estalo serve";
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return "the host's name is not known here; check ESTALO_HOST";
    case "EPROTO":
      return "the server may speak http:// rather than https://";
    case "HPE_INVALID_CONSTANT":
      return "the server may speak https:// rather than http://";
    case "ENOTSOCK":
      return "this is a file, not a socket";
  }
  if (/CERT|SELF_SIGNED|UNABLE_TO_|ISSUER/.test(errno)) {
    return "ESTALO_TLS_CA names the certificate that signs the server's";
  }
  return undefined;
}

/** The connection was not made, or broke. */
export function connectError(address: ServerAddress, error: unknown): EstaloError {
  if (error instanceof EstaloError) return error;
  const { code, message, errors } = error as NodeJS.ErrnoException & { errors?: unknown[] };
  // A name with several addresses, none of which answers: the first tells enough.
  if (Array.isArray(errors) && errors.length > 0) return connectError(address, errors[0]);
  const errno = typeof code === "string" ? code : undefined;
  // Without an errno it is its message that says something.
  const text = errno === undefined || errno === "ECONNRESET" ? message : errno;
  const hint = errno === undefined ? undefined : connectHint(errno, address);
  return new EstaloError("ERR_ESTALO_CONNECT", `connect to ${address.name}: ${text}`, {
    data: { host: address.name, ...(errno === undefined ? {} : { errno }) },
    ...(errno === undefined ? { cause: error } : {}),
    ...(hint === undefined ? {} : { hint }),
  });
}

/** The server is there and does not say anything. */
export function silentError({ name }: ServerAddress, what: string, timeoutMs: number): EstaloError {
  return new EstaloError(
    "ERR_ESTALO_CONNECT",
    `${what}: ${name} has said nothing for ${timeoutMs / 1000} s`,
    { data: { host: name, timeoutMs } },
  );
}

/** What came is not what `estalo serve` would have answered. */
export function replyError(
  address: ServerAddress,
  what: string,
  wrong: string,
  reply?: HttpReply,
): EstaloError {
  const data = reply && {
    status: reply.status,
    contentType: reply.contentType,
    start: excerpt(reply.body),
  };
  return new EstaloError("ERR_ESTALO_REPLY", `${what}: ${address.name} ${wrong}`, {
    data: { host: address.name, ...data },
    hint: "is this estalo serve, of the same version? ESTALO_HOST or --host names another server",
  });
}

function excerpt(body: Uint8Array): string {
  const text = Buffer.from(body.subarray(0, 4 * EXCERPT_CHARACTERS)).toString("utf8");
  // Whatever it is, it may be shown on a terminal.
  return text.replace(/[^\x20-\x7e\u00a0-\uffff]+/g, " ").slice(0, EXCERPT_CHARACTERS);
}

/** Whose mistake a status says it is, for a code that is not known here. */
function familyOf(status: number): ErrorFamily {
  if (status === 409) return "state";
  if (status === 503) return "host";
  return status < 500 ? "config" : "bug";
}

/** The error in the reply to a request that was refused. */
export function refusal(address: ServerAddress, what: string, reply: HttpReply): EstaloError {
  const problem = isJson(reply) ? parse(reply.body) : undefined;
  const record = (problem as { error?: unknown } | undefined)?.error;
  if (isErrorRecord(record)) return errorOf(record, familyOf(reply.status));
  const type = reply.contentType === "" ? "" : ` with ${reply.contentType}`;
  return replyError(address, what, `answered ${reply.status}${type}, not as Estalo does`, reply);
}

/** A reply's JSON; `undefined` when it is none. */
export function parse(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("utf8"));
  } catch {
    return undefined;
  }
}

/** Whether a reply says that it is JSON. */
export function isJson({ contentType }: HttpReply): boolean {
  return /^application\/(json|problem\+json)\s*(;|$)/i.test(contentType);
}

function isErrorRecord(value: unknown): value is ErrorRecord {
  if (typeof value !== "object" || value === null) return false;
  const { code, message } = value as Record<string, unknown>;
  return typeof code === "string" && /^ERR_[A-Z0-9_]{1,100}$/.test(code) && isText(message);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

/** Kept to this depth: a server's chain of causes must not be our stack. */
const CAUSES_MAX = 8;

/** An error as a server told it: its code is kept, whether or not the catalogue knows it. */
function errorOf(record: ErrorRecord, family: ErrorFamily, depth = 0): EstaloError {
  const { code, message, hint, data, cause } = record;
  const isPlain = typeof data === "object" && data !== null && !Array.isArray(data);
  return new EstaloError(code, message, {
    family,
    ...(isText(hint) ? { hint } : {}),
    ...(isPlain ? { data } : {}),
    ...(isErrorRecord(cause) && depth < CAUSES_MAX
      ? { cause: errorOf(cause, family, depth + 1) }
      : {}),
  });
}
