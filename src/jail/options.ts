/**
 * What a jail is asked for, and its checks: everything that can be refused before anything was made. The texts
 * are those of Firecracker's jailer (1.16, src/jailer/src/main.rs).
 */
import { jailConfigError } from "./jail-error.js";

/** A jail, as asked for. */
export interface JailOptions {
  /** 1 to 64 letters, digits and hyphens. */
  readonly id: string;
  /** The program; `bin/firecracker`, `bin/estalo.js` and Node.js itself become `estalo vmm`. */
  readonly execFile: string;
  /** User and group of the program, as decimal numbers. */
  readonly uid: string;
  readonly gid: string;
  /** Where jails are: the jail's root is `<base>/<name of the program>/<id>/root`. */
  readonly baseFolder: string;
  /** File of a network namespace to join. */
  readonly netns?: string;
  /** Without `netns`: a network namespace with nothing in it, instead of the caller's. */
  readonly hasEmptyNetwork: boolean;
  /** In the background, in a session of its own, standard streams on /dev/null. */
  readonly isDaemon: boolean;
  readonly hasPidNamespace: boolean;
  /**
   * With `hasPidNamespace`: the launcher stays until the program has ended, ends with the process that started
   * it, and the program with the launcher. Default: false.
   */
  readonly isAttached?: boolean;
  /** `file=value`, for example `memory.limit_in_bytes=268435456`. */
  readonly cgroups: readonly string[];
  /** "1" or "2". */
  readonly cgroupVersion: string;
  /** Below the hierarchy's mount; default: the program's name. */
  readonly parentCgroup?: string;
  /** The parent is of such jails alone, and goes with the last of them. Default: false, it goes with who made it. */
  readonly sharesParentCgroup?: boolean;
  /** `fsize=BYTES` or `no-file=NUMBER`. */
  readonly resourceLimits: readonly string[];
  /** Remove folder and control groups when the program has ended. */
  readonly cleans: boolean;
  /** Devices that it gets, by their paths. Default: all that there are for jails. */
  readonly devices?: readonly string[];
  /** Descriptors that the program gets beside the standard streams. Default: none. */
  readonly kept?: readonly number[];
  /** Given to the program after its `--id`. */
  readonly arguments: readonly string[];
}

/** Resource limits, in bytes and descriptors. */
export interface ResourceLimits {
  readonly fsize?: bigint;
  readonly noFile: bigint;
}

/** Firecracker's default. */
const NO_FILE_DEFAULT = 2048n;
const ID_LENGTH_MAX = 64;
/** (uid_t)-1 means "leave it as it is" to the kernel. */
const USER_MAX = 0xffff_fffe;
/** What setrlimit(2) takes, without its sign: RLIM_INFINITY is no limit. */
const LIMIT_MAX = 2n ** 63n - 1n;

/** Raises ERR_ESTALO_JAIL_CONFIG. */
export function checkId(id: string): void {
  const { length } = id;
  if (length < 1 || length > ID_LENGTH_MAX) {
    throw jailConfigError(
      `Invalid instance ID: Invalid len (${length});  the length must be between 1 and 64`,
    );
  }
  const place = id.search(/[^A-Za-z0-9-]/);
  if (place < 0) return;
  throw jailConfigError(
    `Invalid instance ID: Invalid char (${id[place]}) at position ${place + 1}`,
  );
}

/** A user's or a group's number; raises ERR_ESTALO_JAIL_CONFIG. */
export function checkUser(kind: "uid" | "gid", text: string): number {
  const value = Number(text);
  if (/^\d{1,10}$/.test(text) && value <= USER_MAX) return value;
  throw jailConfigError(`Invalid ${kind}: ${text}`);
}

/** The limits, the last of each kind; raises ERR_ESTALO_JAIL_CONFIG. */
export function checkLimits(words: readonly string[]): ResourceLimits {
  const limits: { fsize?: bigint; noFile: bigint } = { noFile: NO_FILE_DEFAULT };
  for (const word of words) {
    const [name, text, ...more] = word.split("=");
    if (text === undefined || more.length > 0) {
      throw jailConfigError(`Invalid format for resources limits: ${word}`);
    }
    if (name !== "fsize" && name !== "no-file") {
      throw jailConfigError(`Invalid resource argument: ${name}`);
    }
    const value = /^\d{1,19}$/.test(text) ? BigInt(text) : LIMIT_MAX + 1n;
    if (value > LIMIT_MAX) {
      throw jailConfigError(`Invalid limit value for resource: ${text}: not a whole number`);
    }
    if (name === "fsize") limits.fsize = value;
    else limits.noFile = value;
  }
  return limits;
}

/** A file of the control group and what to write there. */
export interface CgroupSetting {
  /** For example `memory.max`. */
  readonly file: string;
  /** The part before the file's first dot. */
  readonly controller: string;
  readonly value: string;
}

/** Raises ERR_ESTALO_JAIL_CONFIG. */
export function checkCgroups(words: readonly string[]): CgroupSetting[] {
  return words.map((word) => {
    const [file, value, ...more] = word.split("=");
    // A value may hold further ones: io.max=254:0 rbps=1048576.
    const whole = [value, ...more].join("=");
    if (value === undefined || file === "" || whole === "" || /[\0\n]/.test(word)) {
      throw jailConfigError(`Invalid format for cgroups: ${word}`);
    }
    const controller = file.split(".")[0];
    if (!/^[a-z][a-z0-9_]*\.[A-Za-z0-9_.]+$/.test(file) || file.includes("..")) {
      throw jailConfigError(`Cgroup invalid file: ${file}`);
    }
    return { file, controller, value: whole };
  });
}

/** Raises ERR_ESTALO_JAIL_CONFIG. */
export function checkParentCgroup(path: string): string {
  const parts = path.split("/");
  if (parts.some((part) => part === "" || part === "." || part === "..") || path.includes("\0")) {
    throw jailConfigError(
      "Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'",
    );
  }
  return path;
}

/** Raises ERR_ESTALO_JAIL_CONFIG. */
export function checkCgroupVersion(version: string): 1 | 2 {
  if (version === "1" || version === "2") return version === "1" ? 1 : 2;
  throw jailConfigError(`${version} is an invalid cgroup version specifier`);
}
