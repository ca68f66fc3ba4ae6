/**
 * `estalo compat`: puts links to the drop-ins for Firecracker's programs into a folder. npm does not put them on
 * the PATH: they must not stand in front of the real ones unasked.
 */
import { lstatSync, mkdirSync, readdirSync, readlinkSync, symlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { EstaloError, hostError, isEstaloError } from "../errors.js";

/** Programs of the package that stand for one of Firecracker's. */
const PROGRAMS = ["firecracker", "jailer"];

/** Links every program that this package has into the folder; returns the links, those that were there too. */
export function linkPrograms(folder: string): string[] {
  const bin = fileURLToPath(new URL("../bin/", import.meta.url));
  const present = new Set(readdirSync(bin));
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw hostError("make folder", folder, error);
  }
  return PROGRAMS.filter((name) => present.has(name)).map((name) =>
    link(join(bin, name), resolve(folder, name)),
  );
}

function link(program: string, path: string): string {
  try {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found?.isSymbolicLink() && readlinkSync(path) === program) return path;
    if (found !== undefined) {
      throw new EstaloError("ERR_ESTALO_USAGE", `${path} is there already, and not ours`, {
        hint: "remove it, or name another folder",
      });
    }
    symlinkSync(program, path);
  } catch (error) {
    throw isEstaloError(error) ? error : hostError("link", path, error);
  }
  return path;
}
