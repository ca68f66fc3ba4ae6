/**
 * What code planted in a jailed process tries, to get out: for a jail's program and for a cell of a server.
 *
 * Each attempt is JavaScript whose value is the result of a system call, made by spec/support/plant.c: past the
 * seccomp filters, as if there were none.
 */
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { constants } from "node:os";
import { onTestFinished } from "vitest";
import { syscallNumber } from "../../src/jail/seccomp/syscalls.js";
import type { Plant } from "./plant.js";

/** What an attempt may know: processes and a port outside. */
export interface Outside {
  readonly hostPid: number;
  readonly jailPid: number;
  readonly port: number;
}

/** Servers of this process, and a key in the session that jails are started from; gone after the test. */
export async function outsideOf(jailPid: number, plant: Plant): Promise<Outside> {
  const server = createServer().listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  const abstractServer = createServer().listen(`\0estalo-escapes-${port}`);
  onTestFinished(() => void abstractServer.close());
  const { call } = createRequire(import.meta.url)(plant.file) as {
    call: (...words: unknown[]) => number;
  };
  const [type, name] = ["user", "estalo-escapes"].map((text) => Buffer.from(`${text}\0`));
  const key = call(syscallNumber("add_key"), type, name, Buffer.from("x"), 1, -3);
  onTestFinished(() => void (key > 0 && call(syscallNumber("keyctl"), 3, key)));
  return { hostPid: process.pid, jailPid, port };
}

export type Attempt = readonly [what: string, code: string, errnos: readonly string[]];

/** `s`: a C string; `n`: the number of a call. Each gives the call's result. */
export const ATTEMPTS: readonly Attempt[] = [
  ["read a file of the host", `call(n.openat, -100, s("/etc/passwd"), 0)`, ["ENOENT"]],
  [
    "leave the root by its parent",
    `call(n.openat, -100, s("/../../../etc/shadow"), 0)`,
    ["ENOENT"],
  ],
  [
    "enter another jail's folder",
    `call(n.openat, -100, s("/../../two/root/node.pid"), 0)`,
    ["ENOENT"],
  ],
  ["look into /proc", `call(n.openat, -100, s("/proc/sys/kernel/core_pattern"), 1)`, ["ENOENT"]],
  ["look into /sys", `call(n.openat, -100, s("/sys/kernel/uevent_helper"), 1)`, ["ENOENT"]],
  ["mount proc", `call(n.mount, s("proc"), s("/run"), s("proc"), 0, 0)`, ["EPERM"]],
  ["mount a tmpfs", `call(n.mount, s("x"), s("/run"), s("tmpfs"), 0, 0)`, ["EPERM"]],
  ["make the program writable", `call(n.mount, 0, s(program), 0, 4128, 0)`, ["EPERM"]],
  ["write to the program", `call(n.openat, -100, s(program), 1)`, ["EROFS", "EACCES"]],
  ["write to the bundle", `call(n.openat, -100, s(bundle), 1)`, ["EROFS", "EACCES"]],
  ["take a mount away", `call(n.umount2, s(program), 2)`, ["EPERM"]],
  ["open a tree of mounts", `call(n.open_tree, -100, s("/"), 1)`, ["EPERM"]],
  ["change the root", `call(n.chroot, s("/run"))`, ["EPERM"]],
  ["pivot the root", `call(n.pivot_root, s("."), s("."))`, ["EPERM", "EINVAL"]],
  [
    "make the host's disk",
    `call(n.mknod, s("/run/disk"), 0o60600, 254 * 256)`,
    ["EPERM", "EACCES"],
  ],
  ["make /dev/mem", `call(n.mknod, s("/run/mem"), 0o20600, 257)`, ["EPERM", "EACCES"]],
  ["open a file by handle", `call(n.open_by_handle_at, 3, u32(8, 1, 2, 0), 0)`, ["EPERM"]],
  ["a new user namespace", `call(n.clone, 0x10000011, 0, 0, 0, 0)`, ["ENOSPC", "EPERM"]],
  ["a new mount namespace", `call(n.unshare, 0x00020000)`, ["EPERM"]],
  ["a new network namespace", `call(n.unshare, 0x40000000)`, ["EPERM"]],
  ["become root", `call(n.setuid, 0)`, ["EPERM", "EINVAL"]],
  ["become root's group", `call(n.setgid, 0)`, ["EPERM", "EINVAL"]],
  [
    "take a capability",
    `call(n.capset, caps(0x20080522), caps(0xffffffff, 0xffffffff, 0xffffffff))`,
    ["EPERM"],
  ],
  [
    "run a program of its own",
    `(copy(program, "/run/x", 0o4755), call(n.execve, s("/run/x"), 0, 0))`,
    ["EACCES"],
  ],
  ["signal a process of the host", `call(n.kill, outside.hostPid, 0)`, ["EPERM", "ESRCH"]],
  ["signal another jail's process", `call(n.kill, outside.jailPid, 0)`, ["EPERM", "ESRCH"]],
  ["trace a process of the host", `call(n.ptrace, 16, outside.hostPid, 0, 0)`, ["EPERM", "ESRCH"]],
  ["trace another jail's process", `call(n.ptrace, 16, outside.jailPid, 0, 0)`, ["EPERM", "ESRCH"]],
  [
    "read another jail's memory",
    `call(n.process_vm_readv, outside.jailPid, iov(), 1, iov(), 1, 0)`,
    ["EPERM", "ESRCH"],
  ],
  [
    "take another jail's descriptor",
    `call(n.pidfd_getfd, call(n.pidfd_open, outside.jailPid, 0), 0, 0)`,
    ["EPERM", "EBADF"],
  ],
  ["reach the host by TCP", `tcp(outside.port)`, ["ENETUNREACH", "EACCES"]],
  [
    "reach the host by an abstract socket",
    `abstractSocket("estalo-escapes-" + outside.port)`,
    ["ECONNREFUSED", "EPERM"],
  ],
  ["a raw socket", `call(n.socket, 2, 3, 1)`, ["EPERM"]],
  ["a packet socket", `call(n.socket, 17, 3, 768)`, ["EPERM"]],
  ["change the host's name", `call(n.sethostname, s("x"), 1)`, ["EPERM"]],
  ["load a kernel module", `call(n.init_module, s("x"), 1, s(""))`, ["EPERM", "ENOSYS"]],
  ["remove a kernel module", `call(n.delete_module, s("x"), 0)`, ["EPERM", "ENOSYS"]],
  ["load a kernel", `call(n.kexec_load, 0, 0, 0, 0)`, ["EPERM", "ENOSYS"]],
  ["load a BPF program", `call(n.bpf, 5, new Uint8Array(128), 128)`, ["EPERM", "ENOSYS"]],
  [
    "find the caller's key",
    `call(n.keyctl, 10, -3, s("user"), s("estalo-escapes"), 0)`,
    ["ENOKEY", "ENOSYS"],
  ],
  ["restart the host", `call(n.reboot, 0xfee1dead, 672274793, 0, 0)`, ["EPERM"]],
  ["set the clock", `call(n.settimeofday, u32(8, 1, 2, 0), 0)`, ["EPERM"]],
  ["ports of the machine", `call(n.iopl, 3)`, ["EPERM", "ENOSYS"]],
  ["more descriptors", `call(n.prlimit64, 0, 7, u64(999999n, 999999n), 0)`, ["EPERM"]],
  ["real time", `call(n.sched_setscheduler, 0, 1, u32(50))`, ["EPERM"]],
  ["swap", `call(n.swapoff, s("/dev/zram0"))`, ["EPERM", "ENOSYS"]],
];

/** Calls that a filter ends the process for: what is tried, the code, the call's name. */
export const FORBIDDEN = [
  ["start a program", "call(59, s(program), 0, 0)", "execve"],
  ["fork", "call(57)", "fork"],
  ["fork by clone", "call(56, 17, 0, 0, 0, 0)", "clone"],
  ["trace itself", "call(101, 0, 0, 0, 0)", "ptrace"],
  ["use the network", "call(41, 2, 1, 0)", "socket"],
  ["use vsock of the host", "call(41, 40, 1, 0)", "socket"],
  ["mount", "call(165, s('x'), s('/run'), s('tmpfs'), 0, 0)", "mount"],
  ["make a namespace", "call(272, 0x10000000)", "unshare"],
  ["search a keyring", "call(250, 10, -3, s('user'), s('x'), 0)", "keyctl"],
  ["signal another process", "call(62, outside.jailPid, 0)", "kill"],
  ["map a file as code", "call(9, 0, 4096, 5, 2, fs.openSync('/plant.node'), 0)", "mmap"],
] as const;

const numbersIn = (attempts: readonly Attempt[]) =>
  Object.fromEntries(
    [
      ...attempts.flatMap(([, code]) => [...code.matchAll(/\bn\.(\w+)/g)].map(([, name]) => name)),
      "connect",
      "getsockopt",
      "pidfd_open",
      "recvmsg",
      "sendmsg",
      "socket",
    ].map((name) => [name, syscallNumber(name)]),
  );

/** What attempts are written with. `program` and `bundle`: the jail's files. */
export const helpers = (
  outside: Outside,
  program: string,
  bundle: string,
  attempts: readonly Attempt[] = ATTEMPTS,
) => `
const { call, address } = require("/plant.node"), fs = require("node:fs");
const n = ${JSON.stringify(numbersIn(attempts))}, outside = ${JSON.stringify(outside)};
const program = ${JSON.stringify(program)}, bundle = ${JSON.stringify(bundle)};
const s = (text) => Buffer.from(text + "\\0"), u32 = (...w) => new Uint8Array(Uint32Array.from(w).buffer);
const u64 = (...w) => new Uint8Array(BigUint64Array.from(w).buffer);
const caps = (...w) => u32(...w, 0, 0, 0, 0, 0, 0), iov = () => u64(4096n, 8n);
const copy = (from, to, mode) => { fs.writeFileSync(to, fs.readFileSync(from)); fs.chmodSync(to, mode); };
const tcp = (port) => call(n.connect, call(n.socket, 2, 1, 0),
  Buffer.from([2, 0, port >> 8, port & 255, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), 16);
const abstractSocket = (name) => call(n.connect, call(n.socket, 1, 1, 0),
  Buffer.from("\\x01\\0\\0" + name), 3 + name.length);
// A message of one byte with room for a descriptor, or with one.
const message = (bytes, fd) => {
  const control = fd === undefined ? Buffer.alloc(64) : Buffer.from(u32(20, 0, 1, 1, fd, 0));
  const iov = Buffer.from(u64(address(bytes), BigInt(bytes.length)));
  const head = Buffer.from(u64(0n, 0n, address(iov), 1n, address(control), BigInt(control.length), 0n));
  return { head, kept: [bytes, control, iov] };
};
// The process at the other end of a socket (SO_PEERPIDFD, Linux 6.5).
const peer = (socket) => {
  const place = u32(0xffffffff);
  const result = call(n.getsockopt, socket, 1, 77, place, u32(4));
  return result < 0 ? result : new DataView(place.buffer).getInt32(0, true);
};`;

/** Code that makes all attempts; its value is the list of their results. */
export const tryAll = (attempts: readonly Attempt[]) =>
  `[${attempts.map(([, code]) => `() => ${code}`).join(",\n")}].map((attempt) => attempt())`;

/** Name of a call's error; the number itself when it is none. */
export const errnoName = (result: number) =>
  Object.entries(constants.errno).find(([, value]) => value === -result)?.[0] ??
  (result === -126 ? "ENOKEY" : String(result));

/** What did not fail as it should. */
export function unexpected(attempts: readonly Attempt[], results: readonly number[]): string[] {
  return attempts.flatMap(([what, , errnos], index) => {
    const got = errnoName(results[index]);
    return errnos.includes(got) ? [] : [`${what}: ${got}`];
  });
}
