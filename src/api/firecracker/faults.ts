/**
 * What Firecracker says when it refuses, word for word where its clients may look at the words.
 * Firecracker 1.16, src/firecracker/src/api_server/parsed_request.rs and the error types of src/vmm.
 */
import { constants } from "node:os";
import { EstaloError } from "../../errors.js";

/** A request that is refused: the status and the `fault_message` of its reply. */
export class Fault extends Error {
  override readonly name = "Fault";
  readonly status: number;

  constructor(message: string, status = 400) {
    super(message);
    this.status = status;
  }
}

export const NOT_BEFORE_BOOT =
  "The requested operation is not supported before starting the microVM.";
export const NOT_AFTER_BOOT =
  "The requested operation is not supported after starting the microVM.";
export const EMPTY_ID = "The ID cannot be empty.";
export const INVALID_ID =
  "API Resource IDs can only contain alphanumeric characters and underscores.";
export const ID_MISMATCH = "The id from the path does not match the id from the body!";

/** No operation of that method and path. */
export function noSuchOperation(method: string, path: string): Fault {
  return new Fault(`Invalid request method and/or path: ${method} ${path}.`);
}

/** A body that is no JSON, or not what the operation takes; `text` is the check's. */
export function unreadableBody(text: string): Fault {
  return new Fault(`An error occurred when deserializing the json body of a request: ${text}.`);
}

/** The C library's words for the errors that files and devices give; Rust shows them with the number. */
const SYSTEM_ERRORS: Readonly<Record<string, string>> = {
  EACCES: "Permission denied",
  EBUSY: "Device or resource busy",
  EEXIST: "File exists",
  EINVAL: "Invalid argument",
  EIO: "Input/output error",
  EISDIR: "Is a directory",
  ELOOP: "Too many levels of symbolic links",
  EMFILE: "Too many open files",
  ENAMETOOLONG: "File name too long",
  ENFILE: "Too many open files in system",
  ENODEV: "No such device",
  ENOENT: "No such file or directory",
  ENOMEM: "Cannot allocate memory",
  ENOSPC: "No space left on device",
  ENOTDIR: "Not a directory",
  ENXIO: "No such device or address",
  EPERM: "Operation not permitted",
  EROFS: "Read-only file system",
  ETXTBSY: "Text file busy",
};

/** A failed system call as Firecracker words it; any other error in its own words. */
export function hostText(error: unknown): string {
  const code = errnoOf(error);
  const text = code === undefined ? undefined : SYSTEM_ERRORS[code];
  if (code === undefined || text === undefined) {
    return error instanceof Error ? error.message : String(error);
  }
  const number = constants.errno[code as keyof typeof constants.errno];
  return `${text} (os error ${number})`;
}

function errnoOf(error: unknown): string | undefined {
  const code =
    error instanceof EstaloError ? error.data.errno : (error as { code?: unknown })?.code;
  return typeof code === "string" ? code : undefined;
}
