/**
 * From what was asked to what is done: the microVM's configuration, and how its streams join ours.
 *
 *     default guest, we have a terminal    frames, the command gets a terminal too
 *     default guest, otherwise             frames, the command gets pipes
 *     --console, or a system of the user's  plain bytes between us and the serial port
 */
import type { MicroVmConfig } from "../actors/config.js";
import { type DefaultGuest, withoutRoot } from "../actors/default-guest.js";
import { EstaloError } from "../errors.js";
import { addressWords } from "./net-options.js";
import type { RunOptions } from "./run-options.js";

/** How the guest's streams join ours. */
export type StreamMode = "terminal" | "pipes" | "console";

/** What planning needs to know of our side. */
export interface HostStreams {
  /** Our standard input and output are a terminal. */
  readonly isTerminal: boolean;
  readonly rows: number;
  readonly columns: number;
  /** TERM, for a command that gets a terminal. */
  readonly term: string | undefined;
}

export interface RunPlan {
  readonly mode: StreamMode;
  readonly config: MicroVmConfig;
}

/** For a kernel of the user's: its console on the serial port, and a reboot or panic ends the microVM. */
const FOREIGN_BOOT_ARGS =
  "console=ttyS0 reboot=k panic=1 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce";

/** Whether the default guest's own system is what runs. */
export function usesDefaultSystem(options: RunOptions): boolean {
  const { configFile, kernel, initrd, rootfs } = options;
  return [configFile, kernel, initrd, rootfs].every((given) => given === undefined);
}

/** How the streams are joined. */
export function streamMode(options: RunOptions, host: HostStreams): StreamMode {
  if (options.console || !usesDefaultSystem(options)) return "console";
  return host.isTerminal && !options.json ? "terminal" : "pipes";
}

/** The plan for the default guest's kernel, with its system or one of the user's. */
export function planWithGuest(
  options: RunOptions,
  host: HostStreams,
  guest: DefaultGuest,
): RunPlan {
  const mode = streamMode(options, host);
  const ownSystem = usesDefaultSystem(options);
  const kernelArgs = ownSystem ? guest.bootArgs : withoutRoot(guest.bootArgs);
  const words = [
    options.verbose ? withoutWords(kernelArgs, /^quiet$/) : kernelArgs,
    ...addressWords(options.nets),
    ...(options.cmdline === undefined ? [] : [options.cmdline]),
    ...(ownSystem ? initWords(options, host, mode) : []),
  ];
  const root = { id: "rootfs", path: guest.rootfs, isRoot: true, readOnly: true } as const;
  return {
    mode,
    config: machine(options, {
      kernel: guest.kernel,
      bootArgs: words.join(" "),
      drives: ownSystem ? [root, ...options.drives] : userDrives(options),
    }),
  };
}

/** The plan for a kernel of the user's. */
export function planWithKernel(options: RunOptions, kernel: string): RunPlan {
  return {
    mode: "console",
    config: machine(options, {
      kernel,
      bootArgs: [...addressWords(options.nets), options.cmdline ?? FOREIGN_BOOT_ARGS].join(" "),
      drives: userDrives(options),
    }),
  };
}

function userDrives({ rootfs, drives }: RunOptions) {
  return rootfs === undefined ? drives : [rootfs, ...drives];
}

function machine(options: RunOptions, boot: MicroVmConfig): MicroVmConfig {
  const { initrd, nets, vcpuCount, memoryMib, cpuTemplate, name } = options;
  return {
    ...boot,
    ...(nets.length === 0 ? {} : { networkInterfaces: nets.map(({ config }) => config) }),
    ...(initrd === undefined ? {} : { initrd }),
    ...(vcpuCount === undefined ? {} : { vcpuCount }),
    ...(memoryMib === undefined ? {} : { memoryMib }),
    ...(cpuTemplate === undefined ? {} : { cpuTemplate }),
    ...(name === undefined ? {} : { id: name }),
  };
}

/** What the default guest's init reads from the kernel's command line (guest/init/cmdline.c). */
function initWords(options: RunOptions, host: HostStreams, mode: StreamMode): string[] {
  const { workdir, name } = options;
  const env = mode === "terminal" && host.term ? [`TERM=${host.term}`] : [];
  env.push(...options.env);
  const command = options.command.length === 0 ? shell(mode) : options.command;
  checkCount("the command", command);
  checkCount("--env", env);
  return [
    stdioWord(host, mode),
    ...(env.length === 0 ? [] : [`estalo.env=${encodeWords(env)}`]),
    ...(workdir === undefined ? [] : [`estalo.cwd=${encodeWords([workdir])}`]),
    ...(name === undefined ? [] : [`estalo.hostname=${encodeWords([name])}`]),
    ...(command.length === 0 ? [] : [`estalo.cmd=${encodeWords(command)}`]),
  ];
}

/** What init has room for (MAX_WORDS in guest/init/init.h), without what it sets itself. */
const WORDS_MAX = 250;

function checkCount(what: string, words: readonly string[]): void {
  if (words.length <= WORDS_MAX) return;
  throw new EstaloError(
    "ERR_ESTALO_CMDLINE_TOO_LONG",
    `${what} has ${words.length} words, at most ${WORDS_MAX} are possible`,
    { data: { words: words.length, maximum: WORDS_MAX } },
  );
}

/** Without a terminal a shell reads a script; with one, init's own choice is right. */
function shell(mode: StreamMode): readonly string[] {
  return mode === "pipes" ? ["sh"] : [];
}

function stdioWord({ rows, columns }: HostStreams, mode: StreamMode): string {
  if (mode === "console") return "estalo.stdio=console";
  return mode === "pipes" ? "estalo.stdio=frames" : `estalo.stdio=frames,tty,${rows},${columns}`;
}

const utf8 = new TextEncoder();

/** Words as init decodes them: comma-separated, UTF-8, all but a few characters as %XX. */
export function encodeWords(words: readonly string[]): string {
  const encode = (word: string) =>
    word.replace(/[^A-Za-z0-9_./:=@-]/gu, (character) =>
      [...utf8.encode(character)]
        .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`)
        .join(""),
    );
  return words.map(encode).join(",");
}

function withoutWords(args: string, unwanted: RegExp): string {
  return args
    .split(" ")
    .filter((word) => !unwanted.test(word))
    .join(" ");
}
