/**
 * Control groups of a jail, version 1 and 2: `<mount>/<parent>/<id>`, with the values asked for. Planned here, made and
 * joined by the launcher, which is the process that becomes the program.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { jailConfigError, onHost } from "./jail-error.js";
import type { CgroupSetting } from "./options.js";

/** What to write, once all folders are there. */
export interface FileSetting {
  readonly file: string;
  readonly value: string;
}

/** What to make, and what to join. */
export interface JailCgroups {
  /** Folders, in order, that are made where they are missing and go with the last jail that is in them. */
  readonly folders: readonly string[];
  readonly settings: readonly FileSetting[];
  /** `cgroup.procs` files. */
  readonly joins: readonly string[];
}

/** What is asked for. */
export interface CgroupRequest {
  readonly version: 1 | 2;
  readonly settings: readonly CgroupSetting[];
  /** Undefined: none was given. */
  readonly parent: string | undefined;
  /** The parent when none was given. */
  readonly defaultParent: string;
  /** See JailOptions. */
  readonly sharesParent: boolean;
  readonly id: string;
}

/** A hierarchy that is mounted: /proc/mounts. */
interface Hierarchy {
  readonly mount: string;
  readonly version: 1 | 2;
  readonly options: readonly string[];
}

/** The hierarchies of `/proc/mounts`, whose blanks in paths are `\040`. */
export function parseHierarchies(mounts: string): Hierarchy[] {
  return mounts.split("\n").flatMap((line) => {
    const [, path, type, options] = line.split(" ");
    if (type !== "cgroup" && type !== "cgroup2") return [];
    const mount = path.replace(/\\(\d{3})/g, (_, octal) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    );
    return [{ mount, version: type === "cgroup" ? 1 : 2, options: options.split(",") }];
  });
}

/** Plans them; raises ERR_ESTALO_JAIL_CONFIG when this host has not what is asked for. */
export function planCgroups(
  request: CgroupRequest,
  mounts = readFileSync("/proc/mounts", "utf8"),
): JailCgroups {
  const { version, settings, parent } = request;
  const hierarchies = parseHierarchies(mounts).filter((one) => one.version === version);
  if (settings.length === 0 && (version === 1 || parent === undefined)) {
    return { folders: [], settings: [], joins: [] };
  }
  return version === 1 ? planV1(request, hierarchies) : planV2(request, hierarchies);
}

function planV1(
  { settings, parent, defaultParent, sharesParent, id }: CgroupRequest,
  hierarchies: readonly Hierarchy[],
): JailCgroups {
  const folders = new Set<string>();
  const files: FileSetting[] = [];
  const joins = new Set<string>();
  for (const { controller, file, value } of settings) {
    const hierarchy = hierarchies.find(({ options }) => options.includes(controller));
    if (hierarchy === undefined) throw unavailable(controller, 1);
    const { mount } = hierarchy;
    const above = join(mount, parent ?? defaultParent);
    const folder = join(above, id);
    const procs = join(folder, "cgroup.procs");
    if (sharesParent) folders.add(above);
    for (const missing of missingFolders(mount, folder)) folders.add(missing);
    if (controller === "cpuset" && !joins.has(procs)) {
      files.push(...cpusets(mount, folder, sharesParent ? above : undefined));
    }
    files.push({ file: join(folder, file), value });
    joins.add(procs);
  }
  return { folders: [...folders], settings: files, joins: [...joins] };
}

function planV2(
  { settings, parent, defaultParent, sharesParent, id }: CgroupRequest,
  [hierarchy]: readonly Hierarchy[],
): JailCgroups {
  if (hierarchy === undefined) {
    throw jailConfigError("Hierarchy not found: cgroup2", "mount one, or use --cgroup-version 1");
  }
  const { mount } = hierarchy;
  const above = join(mount, parent ?? defaultParent);
  if (settings.length === 0) {
    // Nothing to set: the parent's limits are the jail's.
    if (!existsSync(above)) throw jailConfigError(`Hierarchy not found: ${above}`);
    return { folders: [], settings: [], joins: [join(above, "cgroup.procs")] };
  }
  const folder = join(above, id);
  const controllers = new Set(settings.map(({ controller }) => controller));
  controllers.delete("cgroup");
  const available = words(join(mount, "cgroup.controllers"));
  for (const controller of controllers) {
    if (!available.includes(controller)) throw unavailable(controller, 2);
  }
  return {
    folders: [...new Set([...(sharesParent ? [above] : []), ...missingFolders(mount, folder)])],
    settings: [
      ...[...controllers].flatMap((controller) =>
        handingDown(controller, mount, above, sharesParent),
      ),
      ...settings.map(({ file, value }) => ({ file: join(folder, file), value })),
    ],
    joins: [join(folder, "cgroup.procs")],
  };
}

function unavailable(controller: string, version: 1 | 2) {
  return jailConfigError(
    `Controller ${controller} is unavailable`,
    `no mounted hierarchy of version ${version} has it; try --cgroup-version ${version === 1 ? 2 : 1}`,
  );
}

/** The folders of `path` below `top` that are not there yet. */
function missingFolders(top: string, path: string): string[] {
  if (path === top || existsSync(path)) return [];
  return [...missingFolders(top, dirname(path)), path];
}

/**
 * From the top down, each group hands the controller to those below it. `isShared`: the last jail in this one may
 * take it away before the launcher comes, which makes it again: what it says now is said again.
 */
function handingDown(
  controller: string,
  top: string,
  folder: string,
  isShared = false,
): FileSetting[] {
  const above = folder === top ? [] : handingDown(controller, top, dirname(folder));
  const file = join(folder, "cgroup.subtree_control");
  if (!isShared && readIfThere(file).split(" ").includes(controller)) return above;
  return [...above, { file, value: `+${controller}` }];
}

/**
 * A group of version 1 without processors or memory nodes takes no process: it has its parent's. `shared`: as above.
 */
function cpusets(top: string, folder: string, shared: string | undefined): FileSetting[] {
  const settings: FileSetting[] = [];
  const inherit = (group: string, name: string): string => {
    const file = join(group, name);
    const own = group === top ? read(file) : readIfThere(file);
    if (group === top || (own !== "" && group !== shared)) return own;
    const value = own === "" ? inherit(dirname(group), name) : own;
    settings.push({ file, value });
    return value;
  };
  for (const name of ["cpuset.cpus", "cpuset.mems"]) inherit(folder, name);
  return settings;
}

function read(file: string): string {
  return onHost("read", file, () => readFileSync(file, "utf8")).trim();
}

/** Nothing for a group that is not there, or goes just now. */
function readIfThere(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENODEV") return "";
    return onHost("read", file, () => {
      throw error;
    });
  }
}

function words(file: string): string[] {
  return read(file).split(" ");
}
