/**
 * What runs in a jail, and the files it needs there.
 *
 * Node.js is no single file: its libraries, the loader, our addon and bundles come along. They are bound into
 * the jail from where they are on the host, so that all jails share them and none is copied. The libraries are
 * those this very process has loaded, since it is the same Node.js.
 */
import { existsSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { native } from "../native/binding.js";
import { jailConfigError, onHost } from "./jail-error.js";

/** A file or folder of the host that shows in the jail, read-only. */
export interface Bind {
  readonly source: string;
  /** Absolute, in the jail. */
  readonly target: string;
  /** The program, and the loader that starts it. */
  readonly isExecutable: boolean;
}

/** A program in its jail. */
export interface Program {
  /** Of its file: a part of the jail's folder, and the process's name. */
  readonly name: string;
  readonly binds: readonly Bind[];
  /** The first word is the program. */
  readonly command: readonly string[];
  /** `NAME=value`: all it has. */
  readonly environment: readonly string[];
}

/** Our folder in the jail. */
const HOME = "/estalo";
/** Firecracker's command line; `estalo vmm` is the other way to write it. */
const DEFAULT_SCRIPT = "firecracker";

/** Of cells: a part of their jails' folders, and the processes' name. */
export const CELL_NAME = "cell";

/** The package's own folder: above dist/ in a package, above src/ when a spec runs the sources. */
export function packageFolder(): string {
  const near = fileURLToPath(new URL("..", import.meta.url));
  return existsSync(join(near, "package.json")) ? near : join(near, "..");
}

/** What `execFile` is; raises ERR_ESTALO_JAIL_CONFIG. `folder`: the package it may belong to. */
export function findProgram(execFile: string, folder = packageFolder()): Program {
  const file = onHost("Failed to canonicalize path", execFile, () => realpathSync(execFile));
  if (!statSync(file).isFile()) throw jailConfigError(`${execFile} is not a file`);
  const home = realpathSync(folder);
  const nodeFile = realpathSync(process.execPath);
  const name = basename(file);
  if (file === nodeFile) return nodeProgram(name, home, DEFAULT_SCRIPT);
  if (dirname(file) === join(home, "bin")) return nodeProgram(name, home, name);
  return {
    name,
    binds: [{ source: file, target: `/${name}`, isExecutable: true }],
    command: [`/${name}`],
    environment: [],
  };
}

/** The program of a server's cells: Node.js with a bundle that needs no package. */
export function cellProgram(folder = packageFolder()): Program {
  const home = realpathSync(folder);
  return {
    name: CELL_NAME,
    binds: nodeBinds(CELL_NAME, home),
    command: [`/${CELL_NAME}`, `${HOME}/dist/cell.js`],
    environment: NODE_ENVIRONMENT,
  };
}

function nodeProgram(name: string, home: string, script: string): Program {
  return {
    name,
    binds: [
      ...nodeBinds(name, home),
      shared(home, `bin/${script}`),
      {
        source: findPackage(home, "uWebSockets.js"),
        target: `${HOME}/node_modules/uWebSockets.js`,
        isExecutable: false,
      },
    ],
    command: [`/${name}`, `${HOME}/bin/${script}`, ...(script === "estalo.js" ? ["vmm"] : [])],
    environment: NODE_ENVIRONMENT,
  };
}

const NODE_ENVIRONMENT = [`LD_LIBRARY_PATH=${HOME}/lib`];

function nodeBinds(name: string, home: string): Bind[] {
  return [
    { source: realpathSync(process.execPath), target: `/${name}`, isExecutable: true },
    ...libraries(),
    shared(home, "package.json"),
    shared(home, "dist"),
  ];
}

function shared(home: string, path: string): Bind {
  return { source: join(home, path), target: `${HOME}/${path}`, isExecutable: false };
}

function libraries(): Bind[] {
  return native()
    .sharedObjects()
    .filter((path) => !path.endsWith(".node"))
    .map((path) => {
      const file = basename(path);
      // The kernel starts it at the path that is written in the program.
      const isLoader = /^ld-(linux|musl)/.test(file);
      return {
        source: realpathSync(path),
        target: isLoader ? path : `${HOME}/lib/${file}`,
        isExecutable: isLoader,
      };
    });
}

function findPackage(home: string, name: string): string {
  for (let folder = home; ; folder = dirname(folder)) {
    const found = join(folder, "node_modules", name);
    if (existsSync(found)) return realpathSync(found);
    if (folder === dirname(folder)) {
      throw jailConfigError(`the package ${name} is not installed`, "npm install");
    }
  }
}
