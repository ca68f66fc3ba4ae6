/**
 * Command line of `estalo jail` and `bin/jailer`: that of Firecracker's jailer (1.16, src/jailer/src/main.rs)
 * and three switches more. What follows ` -- ` is the program's.
 */
import type { JailOptions } from "../jail/options.js";
import { ArgumentError, type FirecrackerFlag, flagsText, takeApart } from "./firecracker-flags.js";

const CLEAN_HELP = "Remove the jail's folder and control groups when the program has ended.";

// biome-ignore format: one row for each flag
export const JAIL_FLAGS: readonly FirecrackerFlag[] = [
  { name: "cgroup", value: "FILE=VALUE", isMultiple: true, help: "Set a file of the jail's control group; may be repeated." },
  { name: "cgroup-version", value: "1|2", help: "Version of the control groups. Default: 1." },
  { name: "chroot-base-dir", value: "PATH", help: "Folder of all jails. Default: /srv/jailer." },
  { name: "clean", help: CLEAN_HELP },
  { name: "daemonize", help: "In the background, in a session of its own, streams on /dev/null." },
  { name: "empty-network", help: "Without --netns: a network namespace with nothing in it.", forbids: "host-network" },
  { name: "exec-file", value: "PATH", isRequired: true, help: "The program: bin/firecracker, Node.js, or any other." },
  { name: "gid", value: "GID", isRequired: true, help: "Its group." },
  { name: "host-network", help: "Without --netns: the network namespace of the caller." },
  { name: "id", value: "ID", isRequired: true, help: "1 to 64 letters, digits and hyphens." },
  { name: "netns", value: "PATH", help: "File of a network namespace to join." },
  { name: "new-pid-ns", help: "A process namespace of its own." },
  { name: "parent-cgroup", value: "PATH", help: "Parent of its control group. Default: the program's name." },
  { name: "resource-limit", value: "NAME=VALUE", isMultiple: true, help: "fsize=BYTES or no-file=NUMBER (default 2048); may be repeated." },
  { name: "uid", value: "UID", isRequired: true, help: "Its user." },
  { name: "version", help: "Print the version." },
];

// biome-ignore format: one row for each flag
export const REMOVAL_FLAGS: readonly FirecrackerFlag[] = [
  { name: "chroot-base-dir", value: "PATH", help: "Folder of all jails. Default: /srv/jailer." },
  { name: "exec-file", value: "PATH", help: "The program that was jailed. Default: firecracker." },
  { name: "force", help: "End what runs in it first." },
];

const BASE_FOLDER = "/srv/jailer";

/** Takes the words apart; raises an ArgumentError. `hasEmptyNetwork`: when the words do not say. */
export function parseJailArguments(
  words: readonly string[],
  hasEmptyNetwork: boolean,
): JailOptions | "help" | "version" {
  const end = words.indexOf("--");
  const own = end < 0 ? words : words.slice(0, end);
  if (own.includes("--help")) return "help";
  if (own.includes("--version")) return "version";
  const given = takeApart(JAIL_FLAGS, own);
  const text = (name: string) => given.get(name)?.[0];
  const [netns, parentCgroup] = [text("netns"), text("parent-cgroup")];
  return {
    id: text("id") as string,
    execFile: text("exec-file") as string,
    uid: text("uid") as string,
    gid: text("gid") as string,
    baseFolder: text("chroot-base-dir") ?? BASE_FOLDER,
    ...(netns === undefined ? {} : { netns }),
    hasEmptyNetwork: given.has("empty-network") || (hasEmptyNetwork && !given.has("host-network")),
    isDaemon: given.has("daemonize"),
    hasPidNamespace: given.has("new-pid-ns"),
    cgroups: given.get("cgroup") ?? [],
    cgroupVersion: text("cgroup-version") ?? "1",
    ...(parentCgroup === undefined ? {} : { parentCgroup }),
    resourceLimits: given.get("resource-limit") ?? [],
    cleans: given.has("clean"),
    arguments: end < 0 ? [] : words.slice(end + 1),
  };
}

/** A jail to remove. */
export interface JailRemoval {
  readonly id: string;
  readonly baseFolder: string;
  readonly execFile: string;
  readonly kills: boolean;
}

/** Takes the words of `estalo jail rm ID` apart; raises an ArgumentError. */
export function parseRemovalArguments(words: readonly string[]): JailRemoval | "help" {
  if (words.includes("--help")) return "help";
  const [id, ...rest] = words;
  if (id?.startsWith("--")) throw new ArgumentError("The jail's id comes first: estalo jail rm ID");
  const given = takeApart(REMOVAL_FLAGS, rest);
  return {
    id: id ?? "",
    baseFolder: given.get("chroot-base-dir")?.[0] ?? BASE_FOLDER,
    execFile: given.get("exec-file")?.[0] ?? "firecracker",
    kills: given.has("force"),
  };
}

/** The flags, for `--help`. */
export function jailHelp(): string {
  return `Jailer: a second wall around a microVM

  estalo jail --id ID --exec-file PATH --uid UID --gid GID [OPTION…] [-- ARGUMENT…]
${flagsText(JAIL_FLAGS)}
  estalo jail rm ID [OPTION…]
${flagsText(REMOVAL_FLAGS)}
estalo jail gives the program an empty network without --netns; bin/jailer the caller's, as Firecracker's does.
`;
}
