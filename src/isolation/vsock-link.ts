/**
 * The Unix socket of an isolated microVM's vsock device is in its cell's jail; at the configured path there is a
 * symbolic link to it.
 */
import { lstatSync, readlinkSync, realpathSync, symlinkSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import type { CheckedConfig } from "../actors/config.js";
import { hostError } from "../errors.js";

/** Makes the link, if there is to be one; returns what removes it. Raises ERR_ESTALO_VSOCK_SOCKET. */
export function linkVsock({ id, vsock }: CheckedConfig, root: string): () => void {
  const path = vsock?.udsPath;
  if (path === undefined) return () => {};
  const target = join(root, "run", `${id}.vsock`);
  try {
    symlinkSync(target, path);
  } catch (error) {
    throw hostError("link", `vsock socket ${path}`, error, "ERR_ESTALO_VSOCK_SOCKET");
  }
  return () => removeVsockLink(path, target);
}

/** Removes a link that leads to `target`, or below the folder that it names; what else has the path stays. */
export function removeVsockLink(path: string, target: string): void {
  try {
    if (!lstatSync(path).isSymbolicLink()) return;
    const found = readlinkSync(path);
    if (found === target || found.startsWith(`${realPath(target)}/`)) unlinkSync(path);
  } catch {
    // It is gone.
  }
}

/** As jails are named, wherever their folder is reached by. */
function realPath(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    // It may be gone, with all that was in it.
    return folder;
  }
}
