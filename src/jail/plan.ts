/**
 * From what is asked for to the words of the launcher (src/native/jail/plan.c), which makes everything and takes it
 * away again when it fails. Nothing of a jail is made here: who plans one may be killed before the launcher is there.
 */
import {
  accessSync,
  constants,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
} from "node:fs";
import { basename, join } from "node:path";
import { EstaloError, hostError, isEstaloError } from "../errors.js";
import { planCgroups } from "./cgroups.js";
import { jailConfigError, onHost } from "./jail-error.js";
import {
  checkCgroups,
  checkCgroupVersion,
  checkId,
  checkLimits,
  checkParentCgroup,
  checkUser,
  type JailOptions,
} from "./options.js";
import { findProgram, type Program } from "./program.js";

/** A jail that can be started. */
export interface JailPlan {
  /** `<base>/<name of the program>/<id>`. */
  readonly folder: string;
  /** Of the launcher, after `start`. */
  readonly words: readonly string[];
  /** Environment of the launcher: none. The program's is among the words. */
  readonly program: Program;
}

/** Beside the jail's root, where the program cannot reach it: what is to be removed with the jail. */
const RECORD_FILE = "estalo-jail.json";

const MEM_MAJOR = 1;
const MISC_MAJOR = 10;
/** Path, major and minor number, whether the jail is of no use without; linux/Documentation/admin-guide/devices.txt. */
const DEVICES = [
  ["/dev/net/tun", MISC_MAJOR, 200, true],
  ["/dev/kvm", MISC_MAJOR, 232, true],
  ["/dev/urandom", MEM_MAJOR, 9, false],
  ["/dev/null", MEM_MAJOR, 3, false],
] as const;

/**
 * Checks everything; makes the base folder, if it is not there. Raises ERR_ESTALO_JAIL or ERR_ESTALO_JAIL_CONFIG.
 */
export function makePlan(options: JailOptions, program: Program | undefined = undefined): JailPlan {
  const { id, netns } = options;
  checkId(id);
  const found = program ?? findProgram(options.execFile);
  const user = checkUserAndGroup(options);
  const limits = checkLimits(options.resourceLimits);
  const cgroups = planCgroups({
    version: checkCgroupVersion(options.cgroupVersion),
    settings: checkCgroups(options.cgroups),
    parent:
      options.parentCgroup === undefined ? undefined : checkParentCgroup(options.parentCgroup),
    defaultParent: found.name,
    sharesParent: options.sharesParentCgroup ?? false,
    id,
  });
  const base = onHost("Failed to create directory", options.baseFolder, () => {
    mkdirSync(options.baseFolder, { recursive: true });
    return realpathSync(options.baseFolder);
  });
  const folder = join(base, found.name, id);
  refuseUsed(folder);
  const words = [
    ...["folder", folder, ...newRecord(folder, cgroups.folders)],
    ...["host-name", id, "uid", `${user.uid}`, "gid", `${user.gid}`],
    ...(user.isRoot ? [] : ["rootless"]),
    ...(netns === undefined ? [] : ["netns", netns]),
    ...(options.hasEmptyNetwork && netns === undefined ? ["empty-network"] : []),
    ...(options.hasPidNamespace ? ["new-pid-ns"] : []),
    ...(options.isDaemon ? ["daemonize"] : []),
    ...(options.isAttached ? ["attached"] : []),
    ...(options.cleans ? ["clean"] : []),
    ...["no-file", `${limits.noFile}`],
    ...(limits.fsize === undefined ? [] : ["fsize", `${limits.fsize}`]),
    ...["pid-file", `${found.name}.pid`],
    ...(options.kept ?? []).flatMap((fd) => ["keep", `${fd}`]),
    ...cgroups.folders.flatMap((path) => ["cgroup", path]),
    ...cgroups.settings.flatMap(({ file, value }) => ["cgroup-setting", file, value]),
    ...cgroups.joins.flatMap((file) => ["join", file]),
    ...found.binds.flatMap(({ source, target, isExecutable }) => [
      isExecutable ? "bind-executable" : "bind",
      source,
      target,
    ]),
    ...(user.isRoot ? deviceNodes(options.devices) : deviceBinds(options.devices)),
    ...found.environment.flatMap((variable) => ["environment", variable]),
    ...["--", ...found.command, "--id", id, ...options.arguments],
  ];
  return { folder, words, program: found };
}

/** The words that take a jail away; raises ERR_ESTALO_JAIL_CONFIG when there is none. */
export function removalWords(
  baseFolder: string,
  name: string,
  id: string,
  kills: boolean,
): string[] {
  checkId(id);
  const base = onHost("Failed to canonicalize path", baseFolder, () => realpathSync(baseFolder));
  if (basename(name) !== name || ["", ".", ".."].includes(name))
    throw jailConfigError(`${name} is not the name of a program`);
  const folder = join(base, name, id);
  const made = readRecord(folder);
  return [
    ...["folder", folder],
    ...made.flatMap((path) => ["cgroup", path]),
    ...(kills ? ["kill"] : []),
  ];
}

function checkUserAndGroup(options: JailOptions) {
  const uid = checkUser("uid", options.uid);
  const gid = checkUser("gid", options.gid);
  const [ownUid, ownGid] = [process.geteuid?.(), process.getegid?.()];
  const isRoot = ownUid === 0;
  if (!isRoot && (uid !== ownUid || gid !== ownGid)) {
    throw jailConfigError(
      `Without root, a jail can only be this user's: --uid ${ownUid} --gid ${ownGid}, not ${uid} and ${gid}`,
      "start it as root to change the user",
    );
  }
  return { uid, gid, isRoot };
}

/** Raises ERR_ESTALO_JAIL when a process has the jail's root: of two that start at once the launcher lets one in. */
function refuseUsed(folder: string): void {
  const path = join(folder, "root");
  const root = onHost("stat", path, () => statSync(path, { throwIfNoEntry: false }));
  if (root === undefined) return;
  const isInmate = (pid: string) => {
    try {
      const { dev, ino } = statSync(`/proc/${pid}/root`);
      return dev === root.dev && ino === root.ino;
    } catch {
      // Gone by now, or another user's.
      return false;
    }
  };
  if (!readdirSync("/proc").some((name) => /^\d+$/.test(name) && isInmate(name))) return;
  throw new EstaloError("ERR_ESTALO_JAIL", `a program runs already in ${folder}`, {
    data: { operation: "start", object: folder, errno: "EBUSY" },
    hint: "take another --id, or end it: estalo jail rm ID --force",
  });
}

/** Words for the record of what is to go with the jail, unless what is there says so already. */
function newRecord(folder: string, cgroups: readonly string[]): string[] {
  const known = knownCgroups(folder);
  // What an earlier start has made in a folder that stays is to go as well.
  const all = [...new Set([...(known ?? []), ...cgroups])];
  return all.length === known?.length ? [] : ["record", JSON.stringify({ cgroups: all })];
}

function knownCgroups(folder: string): string[] | undefined {
  try {
    return readRecord(folder);
  } catch {
    return undefined;
  }
}

function readRecord(folder: string): string[] {
  const file = join(folder, RECORD_FILE);
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT") throw hostError("read", file, error, "ERR_ESTALO_JAIL");
    throw jailConfigError(`There is no jail in ${folder}`, "ls its base folder");
  }
  try {
    const { cgroups } = JSON.parse(text) as { cgroups: unknown };
    const isList = Array.isArray(cgroups) && cgroups.every((path) => typeof path === "string");
    if (!isList) throw jailConfigError(`${file} is not a jail's record`);
    return cgroups;
  } catch (error) {
    throw isEstaloError(error) ? error : jailConfigError(`${file} is not a jail's record`);
  }
}

function devices(wanted: readonly string[] | undefined) {
  return DEVICES.filter(([path]) => wanted === undefined || wanted.includes(path));
}

function deviceNodes(wanted: readonly string[] | undefined): string[] {
  const userfault = /^\s*(\d+) userfaultfd$/m.exec(readText("/proc/misc"))?.[1];
  return [
    ...devices(wanted).flatMap(([path, major, minor, isNeeded]) => [
      isNeeded ? "device" : "device-if-possible",
      path,
      `${major}`,
      `${minor}`,
    ]),
    ...(userfault === undefined || wanted !== undefined
      ? []
      : ["device-if-possible", "/dev/userfaultfd", `${MISC_MAJOR}`, userfault]),
  ];
}

/** Without root no node can be made: the host's own show, as far as this user may use them. */
function deviceBinds(wanted: readonly string[] | undefined): string[] {
  return devices(wanted).flatMap(([path]) => {
    try {
      accessSync(path, constants.R_OK | constants.W_OK);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      process.stderr.write(`estalo jail: without ${path}: ${code}\n`);
      return [];
    }
    return ["bind-device", path, path];
  });
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
