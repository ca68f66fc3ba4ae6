/**
 * From what is asked for to the words of the launcher (src/native/jail/plan.c): checks first, then folders and
 * control groups, which the launcher takes away again when it fails.
 */
import {
  accessSync,
  constants,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { EstaloError, isEstaloError } from "../errors.js";
import { makeCgroups, removeCgroups } from "./cgroups.js";
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

/** Checks everything, then makes folder and control groups. Raises ERR_ESTALO_JAIL or ERR_ESTALO_JAIL_CONFIG. */
export function makePlan(options: JailOptions, program: Program | undefined = undefined): JailPlan {
  const { id, netns } = options;
  checkId(id);
  const found = program ?? findProgram(options.execFile);
  const user = checkUserAndGroup(options);
  const limits = checkLimits(options.resourceLimits);
  const request = {
    version: checkCgroupVersion(options.cgroupVersion),
    settings: checkCgroups(options.cgroups),
    parent:
      options.parentCgroup === undefined ? undefined : checkParentCgroup(options.parentCgroup),
    defaultParent: found.name,
    id,
  };
  const base = onHost("Failed to create directory", options.baseFolder, () => {
    mkdirSync(options.baseFolder, { recursive: true });
    return realpathSync(options.baseFolder);
  });
  const { folder, isNew } = makeFolder(base, found.name, id);
  // Before its groups are touched; of two that start at once the launcher's lock lets one in.
  if (!isNew) refuseUsed(folder);
  let cgroups: ReturnType<typeof makeCgroups>;
  try {
    cgroups = makeCgroups(request);
  } catch (error) {
    if (isNew) removeNewFolder(folder);
    throw error;
  }
  try {
    writeRecord(folder, cgroups.made);
  } catch (error) {
    removeCgroups(cgroups.made);
    throw error;
  }
  const words = [
    ...["folder", folder, "host-name", id, "uid", `${user.uid}`, "gid", `${user.gid}`],
    ...(user.isRoot ? [] : ["rootless"]),
    ...(netns === undefined ? [] : ["netns", netns]),
    ...(options.hasEmptyNetwork && netns === undefined ? ["empty-network"] : []),
    ...(options.hasPidNamespace ? ["new-pid-ns"] : []),
    ...(options.isDaemon ? ["daemonize"] : []),
    ...(options.isAttached ? ["attached"] : []),
    ...(options.cleans ? ["clean"] : []),
    ...(isNew ? [] : ["keep-folder"]),
    ...["no-file", `${limits.noFile}`],
    ...(limits.fsize === undefined ? [] : ["fsize", `${limits.fsize}`]),
    ...["pid-file", `${found.name}.pid`],
    ...(options.kept ?? []).flatMap((fd) => ["keep", `${fd}`]),
    ...cgroups.joins.flatMap((file) => ["join", file]),
    ...cgroups.made.flatMap((path) => ["cgroup", path]),
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

function makeFolder(base: string, name: string, id: string) {
  const folder = join(base, name, id);
  const say = "Failed to create directory";
  onHost(say, folder, () => mkdirSync(join(base, name), { recursive: true }));
  let isNew = true;
  onHost(say, folder, () => {
    try {
      mkdirSync(folder);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      // A client put the guest's files there already.
      isNew = false;
    }
  });
  try {
    onHost(say, join(folder, "root"), () => mkdirSync(join(folder, "root"), { recursive: true }));
  } catch (error) {
    if (isNew) removeNewFolder(folder);
    throw error;
  }
  return { folder, isNew };
}

/** Raises ERR_ESTALO_JAIL when a process has the jail's root. */
function refuseUsed(folder: string): void {
  const root = statSync(join(folder, "root"));
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

/** What `makeFolder` made, with nothing in it. */
function removeNewFolder(folder: string): void {
  for (const path of [join(folder, "root"), folder, join(folder, "..")]) {
    try {
      rmdirSync(path);
    } catch {
      // Not empty: other jails are beside it.
    }
  }
}

function writeRecord(folder: string, cgroups: readonly string[]): void {
  const file = join(folder, RECORD_FILE);
  onHost("write", file, () => {
    // Not through a link that somebody left there.
    const flag = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
    // Of a jail that runs here, whose start this one is not, the groups are to go as well.
    const all = [...new Set([...knownCgroups(folder), ...cgroups])];
    writeFileSync(file, JSON.stringify({ cgroups: all }), {
      flag: flag as unknown as string,
      mode: 0o600,
    });
  });
}

function knownCgroups(folder: string): string[] {
  try {
    return readRecord(folder);
  } catch {
    return [];
  }
}

function readRecord(folder: string): string[] {
  const file = join(folder, RECORD_FILE);
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT") throw error;
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
