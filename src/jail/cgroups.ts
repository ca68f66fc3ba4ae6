/**
 * Control groups of a jail, version 1 and 2: `<mount>/<parent>/<id>`, with the values asked for. Joined by the
 * launcher, which is the process that becomes the program.
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { jailConfigError, onHost } from "./jail-error.js";
import type { CgroupSetting } from "./options.js";

/** What was made, and what to join. */
export interface JailCgroups {
  /** Folders made, in order. */
  readonly made: readonly string[];
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

/** Makes and fills them. What fails leaves nothing behind. */
export function makeCgroups(
  request: CgroupRequest,
  mounts = readFileSync("/proc/mounts", "utf8"),
): JailCgroups {
  const { version, settings, parent } = request;
  const hierarchies = parseHierarchies(mounts).filter((one) => one.version === version);
  if (settings.length === 0 && (version === 1 || parent === undefined)) {
    return { made: [], joins: [] };
  }
  const made: string[] = [];
  try {
    const joins =
      version === 1 ? fillV1(request, hierarchies, made) : fillV2(request, hierarchies, made);
    return { made, joins };
  } catch (error) {
    removeCgroups(made);
    throw error;
  }
}

/** In reverse; they must be empty. What is gone already is fine. */
export function removeCgroups(made: readonly string[]): void {
  for (const folder of [...made].reverse()) {
    try {
      rmdirSync(folder);
    } catch {
      // Somebody else's group is in it by now: it is in use, and theirs.
    }
  }
}

function fillV1(
  { settings, parent, defaultParent, id }: CgroupRequest,
  hierarchies: readonly Hierarchy[],
  made: string[],
): string[] {
  const joins = new Set<string>();
  for (const { controller, file, value } of settings) {
    const hierarchy = hierarchies.find(({ options }) => options.includes(controller));
    if (hierarchy === undefined) throw unavailable(controller, 1);
    const folder = join(hierarchy.mount, parent ?? defaultParent, id);
    makeFolders(hierarchy.mount, folder, made);
    if (controller === "cpuset") inheritCpuset(hierarchy.mount, folder);
    writeSetting(join(folder, file), value);
    joins.add(join(folder, "cgroup.procs"));
  }
  return [...joins];
}

function fillV2(
  { settings, parent, defaultParent, id }: CgroupRequest,
  [hierarchy]: readonly Hierarchy[],
  made: string[],
): string[] {
  if (hierarchy === undefined) {
    throw jailConfigError("Hierarchy not found: cgroup2", "mount one, or use --cgroup-version 1");
  }
  const { mount } = hierarchy;
  const above = join(mount, parent ?? defaultParent);
  if (settings.length === 0) {
    // Nothing to set: the parent's limits are the jail's.
    if (!existsSync(above)) throw jailConfigError(`Hierarchy not found: ${above}`);
    return [join(above, "cgroup.procs")];
  }
  const folder = join(above, id);
  const available = words(join(mount, "cgroup.controllers"));
  for (const { controller } of settings) {
    if (controller !== "cgroup" && !available.includes(controller))
      throw unavailable(controller, 2);
  }
  makeFolders(mount, folder, made);
  for (const { controller } of settings) {
    if (controller !== "cgroup") enable(controller, mount, above);
  }
  for (const { file, value } of settings) writeSetting(join(folder, file), value);
  return [join(folder, "cgroup.procs")];
}

function unavailable(controller: string, version: 1 | 2) {
  return jailConfigError(
    `Controller ${controller} is unavailable`,
    `no mounted hierarchy of version ${version} has it; try --cgroup-version ${version === 1 ? 2 : 1}`,
  );
}

/** The folders of `path` below `top` that are not there yet. */
function makeFolders(top: string, path: string, made: string[]): void {
  if (path === top || existsSync(path)) return;
  makeFolders(top, dirname(path), made);
  onHost("create cgroup", path, () => mkdirSync(path));
  made.push(path);
}

/** From the top down, each group hands the controller to those below it. */
function enable(controller: string, top: string, folder: string): void {
  if (folder !== top) enable(controller, top, dirname(folder));
  const file = join(folder, "cgroup.subtree_control");
  if (!words(file).includes(controller)) writeSetting(file, `+${controller}`);
}

/** A group of version 1 without processors or memory nodes takes no process. */
function inheritCpuset(top: string, folder: string): void {
  if (folder === top) return;
  inheritCpuset(top, dirname(folder));
  for (const name of ["cpuset.cpus", "cpuset.mems"]) {
    const file = join(folder, name);
    if (read(file) === "") writeSetting(file, read(join(dirname(folder), name)));
  }
}

function read(file: string): string {
  return onHost("read", file, () => readFileSync(file, "utf8")).trim();
}

function words(file: string): string[] {
  return read(file).split(" ");
}

function writeSetting(file: string, value: string): void {
  // Without O_CREAT: a name that the controller does not have is an error.
  onHost(`write ${value} to`, file, () => writeFileSync(file, value, { flag: "r+" }));
}
