/**
 * What a verb of the command is, and the options that several of them have.
 */

/** One option of a verb. */
export interface OptionSpec {
  readonly name: string;
  readonly short?: string;
  /** What the value is called in help; absent: a switch. `FILE` and `PATH` complete file names. */
  readonly value?: string;
  /** The value when none is given: one is given after an equals sign only. */
  readonly bare?: string;
  /** May be given more than once. */
  readonly multiple?: boolean;
  readonly help: string;
}

/** One verb. */
export interface VerbSpec {
  readonly name: string;
  readonly summary: string;
  /** What follows the options. */
  readonly operands?: string;
  /** The first word that is no option, and all after it, are the operands: a command's own options stay its own. */
  readonly takesCommand?: boolean;
  /** Its operands are microVMs of a server; in which states. Empty: in any. For completion. */
  readonly microvmStates?: readonly string[];
  readonly options: readonly OptionSpec[];
  readonly details?: string;
  /** Command and what it does. */
  readonly examples: readonly (readonly [string, string])[];
}

export const HELP: OptionSpec = { name: "help", short: "h", help: "Show this help." };

/** What a microVM is made of, for `run` and `create`. */
export const MACHINE_OPTIONS: readonly OptionSpec[] = [
  {
    name: "kernel",
    value: "FILE",
    help: "Boot this vmlinux or bzImage. Default: the guest that comes with Estalo.",
  },
  { name: "initrd", value: "FILE", help: "Initial RAM disk for the kernel." },
  {
    name: "rootfs",
    value: "FILE",
    help: "Root file system image, attached first, writable; FILE:ro for read-only.",
  },
  {
    name: "drive",
    value: "FILE[:ro][,KEY=VALUE…]",
    multiple: true,
    help: "Attach a disk. Keys: id=NAME, cache=writeback|unsafe, io=auto|io_uring|libuv.",
  },
  {
    name: "net",
    value: "tap=NAME|bridge=NAME|user|none[,KEY=VALUE…]",
    multiple: true,
    help: "Attach a network interface. Keys: id=, mac=, mtu=; tap, bridge: queues=, ip=ADDRESS/BITS, gateway=, dns=; user: tcp=HOSTPORT:GUESTPORT, udp=. Default none.",
  },
  { name: "cni", value: "FILE", multiple: true, help: "Attach the interface of a CNI result." },
  { name: "vcpus", short: "c", value: "N", help: "Virtual CPUs, 1 to 32. Default 1." },
  {
    name: "memory",
    short: "m",
    value: "MIB",
    help: "Guest memory in MiB, or with a suffix: 512M, 2G. Default 128.",
  },
  {
    name: "cmdline",
    value: "ARGS",
    help: "Kernel arguments: added to the default guest's, or all of them with --kernel.",
  },
  {
    name: "env",
    short: "e",
    value: "KEY=VALUE",
    multiple: true,
    help: "Set the command's environment.",
  },
  {
    name: "workdir",
    short: "w",
    value: "FOLDER",
    help: "Run the command in this folder of the guest.",
  },
  { name: "name", value: "NAME", help: "Name of the microVM, and host name of the guest." },
  { name: "cpu-template", value: "FILE", help: "Custom CPU template in Firecracker's JSON." },
  { name: "config-file", value: "FILE", help: "The whole machine in Firecracker's JSON." },
  { name: "verbose", short: "v", help: "Show the guest's kernel messages." },
];

/** Where the server is, for every verb that asks one. */
export const HOST_OPTION: OptionSpec = {
  name: "host",
  short: "H",
  value: "URL",
  help: "The server: unix:///PATH, http://… or https://HOST:PORT. Default: $ESTALO_HOST.",
};

/** What a server keeps of a microVM beside the machine. */
export const RECORD_OPTIONS: readonly OptionSpec[] = [
  {
    name: "label",
    short: "l",
    value: "KEY=VALUE",
    multiple: true,
    help: "On the server: a label, for ps --filter label=KEY=VALUE.",
  },
  {
    name: "restart",
    value: "POLICY",
    help: "On the server: start it again: no, on-failure, on-failure:TIMES, always.",
  },
  { name: "rm", help: "On the server: delete it when it has ended." },
  HOST_OPTION,
];
