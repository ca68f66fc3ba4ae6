/**
 * What SQLite says, as the errors of the fleet's state.
 */
import { EstaloError, hostError } from "../errors.js";

export const WRITE_HINT = "make room on its file system, or name another folder with --state";

/** ERR_ESTALO_STATE_FILE. */
export function badFile(path: string, reason: string): EstaloError {
  return new EstaloError("ERR_ESTALO_STATE_FILE", `fleet state ${path}: ${reason}`, {
    data: { path, reason },
    hint: "put back a copy, or move the file away to begin with an empty fleet",
  });
}

/** What SQLite says, as the errno behind it: its own codes keep none. */
const ERRNO_OF: Readonly<Record<string, string>> = {
  SQLITE_FULL: "ENOSPC",
  SQLITE_READONLY: "EROFS",
  SQLITE_IOERR: "EIO",
  SQLITE_CANTOPEN: "EACCES",
};

/** The primary code of an SQLite error; extended ones (SQLITE_IOERR_WRITE) begin with it. */
export function sqliteCode(error: unknown): string {
  const code = String((error as { code?: unknown })?.code ?? "");
  return /^SQLITE_[A-Z]+/.exec(code)?.[0] ?? code;
}

/**
 * What an operation on the database threw: ERR_ESTALO_STATE_FILE when the file is damaged, else
 * ERR_ESTALO_STATE_WRITE with the errno.
 */
export function stateError(operation: string, path: string, error: unknown): EstaloError {
  const code = sqliteCode(error);
  if (code === "SQLITE_CORRUPT" || code === "SQLITE_NOTADB") {
    return badFile(path, (error as Error).message);
  }
  const errno = ERRNO_OF[code];
  const cause = errno === undefined ? error : Object.assign(new Error(), { code: errno });
  return hostError(operation, path, cause, "ERR_ESTALO_STATE_WRITE", WRITE_HINT);
}
