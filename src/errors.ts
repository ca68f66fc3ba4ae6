/**
 * Every error a user of Estalo can meet: five families, one catalogue of stable codes.
 *
 * Match on `code`, never on the message or on `instanceof`: errors cross threads and processes as plain
 * records (Node's structured clone drops class and code) and are revived from them. `docs/errors.md`
 * lists each code with cause and remedy; `spec/errors.spec.ts` holds both lists against each other.
 */

/** Whose mistake it is: the caller's input, the moment, the guest, the host, or ours. */
export type ErrorFamily = "config" | "state" | "guest" | "host" | "bug";

/** The catalogue: each code with its family. Codes are never reused or renamed. */
export const ERROR_FAMILIES = {
  // The caller's input.
  ERR_ESTALO_CONFIG_INVALID: "config",
  ERR_ESTALO_CONFIG_FILE: "config",
  ERR_ESTALO_USAGE: "config",
  ERR_ESTALO_KERNEL_FILE: "config",
  ERR_ESTALO_KERNEL_FORMAT: "config",
  ERR_ESTALO_KERNEL_TRUNCATED: "config",
  ERR_ESTALO_INITRD_FILE: "config",
  ERR_ESTALO_INITRD_TOO_LARGE: "config",
  ERR_ESTALO_MEMORY_TOO_SMALL: "config",
  ERR_ESTALO_CMDLINE_TOO_LONG: "config",
  ERR_ESTALO_CPU_TEMPLATE: "config",
  ERR_ESTALO_DRIVE_FILE: "config",
  ERR_ESTALO_DRIVE_UNKNOWN: "config",
  ERR_ESTALO_PMEM_FILE: "config",
  ERR_ESTALO_PMEM_UNKNOWN: "config",
  ERR_ESTALO_TAP: "config",
  ERR_ESTALO_PASST: "config",
  ERR_ESTALO_INTERFACE_UNKNOWN: "config",
  ERR_ESTALO_VSOCK_SOCKET: "config",
  ERR_ESTALO_DEVICE_LIMIT: "config",
  ERR_ESTALO_DEFAULT_GUEST: "config",
  ERR_ESTALO_REQUEST: "config",
  ERR_ESTALO_NOT_FOUND: "config",
  ERR_ESTALO_METHOD: "config",
  ERR_ESTALO_MEDIA_TYPE: "config",
  ERR_ESTALO_TOO_LARGE: "config",
  ERR_ESTALO_UNAUTHORIZED: "config",
  ERR_ESTALO_FORBIDDEN: "config",
  ERR_ESTALO_JAIL_CONFIG: "config",
  ERR_ESTALO_ISOLATION: "config",
  // The moment.
  ERR_ESTALO_STATE: "state",
  ERR_ESTALO_STATE_LOCKED: "state",
  ERR_ESTALO_ABORTED: "state",
  ERR_ESTALO_NAME_TAKEN: "state",
  ERR_ESTALO_IDEMPOTENCY: "state",
  ERR_ESTALO_BUSY: "state",
  ERR_ESTALO_EVENTS_GAP: "state",
  // The guest.
  ERR_ESTALO_VSOCK: "guest",
  ERR_ESTALO_AGENT_UNREACHABLE: "guest",
  ERR_ESTALO_AGENT_LOST: "guest",
  ERR_ESTALO_AGENT_PROTOCOL: "guest",
  ERR_ESTALO_AGENT_TIMEOUT: "guest",
  ERR_ESTALO_AGENT_FAILED: "guest",
  ERR_ESTALO_GUEST_FAULT: "guest",
  ERR_ESTALO_VCPU_STOPPED: "guest",
  // The host.
  ERR_ESTALO_HOST: "host",
  ERR_ESTALO_NETWORK: "host",
  ERR_ESTALO_KVM_MISSING: "host",
  ERR_ESTALO_KVM_PERMISSION: "host",
  ERR_ESTALO_KVM_CAPABILITY: "host",
  ERR_ESTALO_ADDON: "host",
  ERR_ESTALO_PRESSURE: "host",
  ERR_ESTALO_LISTEN: "host",
  ERR_ESTALO_STATE_FILE: "host",
  ERR_ESTALO_STATE_WRITE: "host",
  ERR_ESTALO_CONNECT: "host",
  ERR_ESTALO_REPLY: "host",
  ERR_ESTALO_JAIL: "host",
  ERR_ESTALO_CELL: "host",
  // Ours.
  ERR_ESTALO_THREAD_DIED: "bug",
  ERR_ESTALO_DEVICE_FAILED: "bug",
  ERR_ESTALO_INTERNAL: "bug",
  ERR_ESTALO_BUG: "bug",
} as const satisfies Record<string, ErrorFamily>;

/** A stable, documented error code. */
export type ErrorCode = keyof typeof ERROR_FAMILIES;

/** What an error carries beside code and message. */
export interface ErrorDetails {
  /** What to do about it, as one sentence or command. */
  readonly hint?: string;
  /** The values behind the message (paths, sizes, the failing operation), all plain data. */
  readonly data?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
  /** Of a code from elsewhere that the catalogue does not have. Default "bug". */
  readonly family?: ErrorFamily;
}

/** An error as it crosses threads, sockets and logs. */
export interface ErrorRecord {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint?: string;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly cause?: ErrorRecord;
}

function isCatalogued(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_FAMILIES, code);
}

/** The one error class: `code` says what, `family` whose, `hint` what to do, `data` the values. */
export class EstaloError extends Error {
  override readonly name = "EstaloError";
  readonly code: ErrorCode;
  readonly family: ErrorFamily;
  readonly hint: string | undefined;
  readonly data: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    // A newer server may know codes that this catalogue does not.
    this.family = isCatalogued(code) ? ERROR_FAMILIES[code] : (details.family ?? "bug");
    this.hint = details.hint;
    this.data = details.data ?? {};
  }

  /** The plain form that survives a message port, JSON and a log line. */
  toRecord(): ErrorRecord {
    return {
      code: this.code,
      message: this.message,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(Object.keys(this.data).length === 0 ? {} : { data: this.data }),
      ...(this.cause === undefined ? {} : { cause: toEstaloError(this.cause).toRecord() }),
    };
  }

  /** The error back from its plain form. */
  static fromRecord(record: ErrorRecord): EstaloError {
    return new EstaloError(record.code, record.message, {
      ...(record.hint === undefined ? {} : { hint: record.hint }),
      ...(record.data === undefined ? {} : { data: record.data }),
      ...(record.cause === undefined ? {} : { cause: EstaloError.fromRecord(record.cause) }),
    });
  }
}

/** True for an Estalo error, also one from another copy of the package. */
export function isEstaloError(value: unknown): value is EstaloError {
  if (value instanceof EstaloError) return true;
  const code = value instanceof Error ? (value as { code?: unknown }).code : undefined;
  return typeof code === "string" && isCatalogued(code);
}

/** Anything thrown, as an Estalo error: ours unchanged, all else as a bug that keeps its cause's text. */
export function toEstaloError(value: unknown, code: ErrorCode = "ERR_ESTALO_BUG"): EstaloError {
  if (isEstaloError(value)) return value;
  const text = value instanceof Error ? (value.stack ?? value.message) : String(value);
  return new EstaloError(code, text);
}

/**
 * A system call that failed, by operation, object and errno (in `data`, too). What is no system error keeps
 * its own text, as the cause.
 */
export function hostError(
  operation: string,
  object: string,
  error: unknown,
  code: ErrorCode = "ERR_ESTALO_HOST",
  hint?: string,
): EstaloError {
  const system = error as NodeJS.ErrnoException;
  const errno = typeof system?.code === "string" ? system.code : undefined;
  const text = errno ?? (error instanceof Error ? error.message : String(error));
  return new EstaloError(code, `${operation} ${object}: ${text}`, {
    data: { operation, object, ...(errno === undefined ? {} : { errno }) },
    ...(errno === undefined ? { cause: error } : {}),
    ...(hint === undefined ? {} : { hint }),
  });
}
