/**
 * The path of a Unix socket to listen on: checked before the server binds it, since uWebSockets.js copies a
 * path of any length into 108 bytes and removes whatever file has that name.
 */
import { chmodSync, lstatSync, type Stats, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { EstaloError, hostError } from "../errors.js";

/** sun_path of unix(7) without its closing NUL. */
export const UNIX_PATH_MAX_BYTES = 107;

/**
 * Returns when `path` may be bound: nothing is there any more.
 *
 * @param removeStale Remove a socket nobody listens on; without it, whatever exists is refused.
 * @throws ERR_ESTALO_LISTEN when the path is too long, or taken: by a live server, by another kind of file,
 *   or (without `removeStale`) by anything
 */
export async function claimUnixPath(path: string, removeStale: boolean): Promise<void> {
  const bytes = Buffer.byteLength(path);
  if (bytes === 0 || bytes > UNIX_PATH_MAX_BYTES || path.includes("\0")) {
    throw refused(
      path,
      `a socket's path has 1 to ${UNIX_PATH_MAX_BYTES} bytes and no NUL, this one has ${bytes}`,
      "ENAMETOOLONG",
    );
  }
  const found = statOf(path);
  if (found === undefined) return;
  if (!found.isSocket()) throw refused(path, "a file that is no socket has this name", "EEXIST");
  if (!removeStale) throw refused(path, "a socket has this name already", "EADDRINUSE");
  if (await answers(path)) throw refused(path, "another server listens there", "EADDRINUSE");
  removeSocket(path, found);
}

/** Gives a socket that was just bound mode 0600, and tells which it is. */
export function settleSocket(path: string): Stats {
  try {
    chmodSync(path, 0o600);
    return lstatSync(path);
  } catch (error) {
    throw hostError("chmod", path, error, "ERR_ESTALO_LISTEN");
  }
}

/** Removes the socket of a server that ends, as far as that can be done: the rest of it is to end in any case. */
export function dropSocket(path: string, known: Stats): void {
  try {
    removeSocket(path, known);
  } catch {
    // Its file system takes no writes, or its folder is gone; who listens there next removes what is left.
  }
}

/** Removes the socket if it is still the one that `known` tells of. */
function removeSocket(path: string, known: Stats): void {
  const now = statOf(path);
  if (now === undefined || now.ino !== known.ino || now.dev !== known.dev) return;
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
      throw hostError("unlink", path, error, "ERR_ESTALO_LISTEN");
    }
  }
}

function statOf(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw hostError("stat", path, error, "ERR_ESTALO_LISTEN");
  }
}

/** Whether somebody accepts connections there. Any doubt (EACCES, EAGAIN: its queue is full) means yes. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => resolve(true));
    socket.once("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"),
    );
    socket.once("connect", () => socket.destroy());
  });
}

function refused(path: string, why: string, errno: string): EstaloError {
  return new EstaloError("ERR_ESTALO_LISTEN", `listen on ${path.slice(0, 200)}: ${why}`, {
    data: { operation: "listen", object: path.slice(0, 200), errno },
  });
}
