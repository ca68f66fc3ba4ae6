/**
 * Code planted in a jailed process, which may make any system call, tries to get out: once past the seccomp
 * filters (as if there were none), and once under those of `estalo vmm`.
 */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { constants, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { makePlan } from "../../src/jail/plan.js";
import { syscallNumber } from "../../src/jail/seccomp/syscalls.js";
import {
  inJail,
  isRoot,
  jailOptions,
  makeBase,
  nodeProgram,
  startJail,
  startPlan,
  until,
} from "../support/jails.js";

const HEADERS = join(dirname(dirname(process.execPath)), "include/node");
const canBuild = existsSync(join(HEADERS, "node_api.h")) && existsSync("/usr/bin/cc");

let folder = "";
let plant = "";
beforeAll(() => {
  if (!isRoot || !canBuild) return;
  folder = mkdtempSync(join(tmpdir(), "estalo-plant-"));
  plant = join(folder, "plant.node");
  const source = new URL("../support/plant.c", import.meta.url).pathname;
  execFileSync("cc", ["-shared", "-fPIC", "-I", HEADERS, source, "-o", plant]);
});
afterAll(() => {
  if (folder !== "") rmSync(folder, { recursive: true, force: true });
});

/** What an attempt may know: processes and a port outside. */
interface Outside {
  readonly hostPid: number;
  readonly jailPid: number;
  readonly port: number;
}

type Attempt = readonly [what: string, code: string, errnos: readonly string[]];

/** `s`: a C string; `n`: the number of a call. Each gives the call's result. */
const ATTEMPTS: readonly Attempt[] = [
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
  ["make the program writable", `call(n.mount, 0, s("/node"), 0, 4128, 0)`, ["EPERM"]],
  ["write to the program", `call(n.openat, -100, s("/node"), 1)`, ["EROFS", "EACCES"]],
  ["write to the bundle", `call(n.openat, -100, s("/estalo/dist/vmm.js"), 1)`, ["EROFS", "EACCES"]],
  ["take a mount away", `call(n.umount2, s("/node"), 2)`, ["EPERM"]],
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
    `(copy("/node", "/run/x", 0o4755), call(n.execve, s("/run/x"), 0, 0))`,
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

const NUMBERS = Object.fromEntries(
  [
    ...ATTEMPTS.flatMap(([, code]) => [...code.matchAll(/\bn\.(\w+)/g)].map(([, name]) => name)),
    "connect",
    "socket",
  ].map((name) => [name, syscallNumber(name)]),
);

const HELPERS = (outside: Outside) => `
const { call } = require("/plant.node"), fs = require("node:fs");
const n = ${JSON.stringify(NUMBERS)}, outside = ${JSON.stringify(outside)};
const s = (text) => Buffer.from(text + "\\0"), u32 = (...w) => new Uint8Array(Uint32Array.from(w).buffer);
const u64 = (...w) => new Uint8Array(BigUint64Array.from(w).buffer);
const caps = (...w) => u32(...w, 0, 0, 0, 0, 0, 0), iov = () => u64(4096n, 8n);
const copy = (from, to, mode) => { fs.writeFileSync(to, fs.readFileSync(from)); fs.chmodSync(to, mode); };
const tcp = (port) => call(n.connect, call(n.socket, 2, 1, 0),
  Buffer.from([2, 0, port >> 8, port & 255, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), 16);
const abstractSocket = (name) => call(n.connect, call(n.socket, 1, 1, 0),
  Buffer.from("\\x01\\0\\0" + name), 3 + name.length);`;

/** In a jail with a neighbour that has the same user, and a server and a key on the host. */
async function setUp(): Promise<{ base: string; outside: Outside }> {
  const base = makeBase();
  const neighbour = startJail("setInterval(() => {}, 1000)", jailOptions(base, { id: "two" }));
  await until(() => existsSync(join(base, "node/two/root/node.pid")), "the neighbour");
  const server = createServer().listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  const abstractServer = createServer().listen(`\0estalo-escapes-${port}`);
  onTestFinished(() => void abstractServer.close());
  mkdirSync(join(base, "node/one/root"), { recursive: true });
  copyFileSync(plant, join(base, "node/one/root/plant.node"));
  const jailPid = neighbour.child.pid as number;
  await until(() => readFileSync(`/proc/${jailPid}/comm`, "utf8") === "node\n", "the neighbour");
  return { base, outside: { hostPid: process.pid, jailPid, port } };
}

const errnoName = (result: number) =>
  Object.entries(constants.errno).find(([, value]) => value === -result)?.[0] ??
  (result === -126 ? "ENOKEY" : String(result));

describe.runIf(isRoot && canBuild)("code in a jail (needs root and a C compiler)", () => {
  it("past the seccomp filters cannot get out", async () => {
    const { base, outside } = await setUp();
    const { call } = createRequire(import.meta.url)(plant) as {
      call: (...words: unknown[]) => number;
    };
    const text = (value: string) => Buffer.from(`${value}\0`);
    // A key in the session that the jail is started from.
    const key = call(
      syscallNumber("add_key"),
      text("user"),
      text("estalo-escapes"),
      text("x"),
      1,
      -3,
    );
    onTestFinished(() => void (key > 0 && call(syscallNumber("keyctl"), 3, key)));
    const code = `${HELPERS(outside)}
      const results = [${ATTEMPTS.map(([, attempt]) => `() => ${attempt}`).join(",\n")}];
      console.log(JSON.stringify(results.map((attempt) => attempt())));`;
    const results = await inJail<number[]>(code, jailOptions(base));
    const wrong = ATTEMPTS.flatMap(([what, , errnos], index) => {
      const got = errnoName(results[index]);
      return errnos.includes(got) ? [] : [`${what}: ${got}`];
    });
    expect(wrong).toEqual([]);
    expect(results).toHaveLength(ATTEMPTS.length);
  });

  it("cannot write by a descriptor that it got for reading, nor open its file anew", async () => {
    const { base } = await setUp();
    const disk = join(base, "disk");
    writeFileSync(disk, "mine");
    // The jail's user may write it, if only it could be named.
    chmodSync(disk, 0o666);
    const fd = openSync(disk, "r");
    onTestFinished(() => closeSync(fd));
    const code = `const { call } = require("/plant.node");
      const s = (text) => Buffer.from(text + "\\0");
      const numbers = ${JSON.stringify(["pwrite64", "ftruncate", "openat", "linkat"].map(syscallNumber))};
      const [pwrite64, ftruncate, openat, linkat] = numbers;
      console.log(JSON.stringify([
        call(pwrite64, 3, s("theirs"), 6, 0), call(ftruncate, 3, 0),
        call(openat, -100, s("/proc/self/fd/3"), 2), call(openat, -100, s("/dev/fd/3"), 2),
        call(openat, 3, s(""), 2), call(linkat, 3, s(""), -100, s("/run/disk"), 0x1000),
      ]))`;
    const plan = makePlan(jailOptions(base, { kept: [3] }), nodeProgram(code));
    const { stdout, stderr } = await startPlan(plan, [fd]).ended;
    expect(stderr.replace(/^estalo jail: without .*\n/gm, "")).toBe("");
    const errnos = (JSON.parse(stdout) as number[]).map(errnoName);
    expect(errnos.slice(0, 5)).toEqual(["EBADF", "EINVAL", "ENOENT", "ENOENT", "ENOENT"]);
    expect(["ENOENT", "EXDEV", "EPERM"]).toContain(errnos[5]);
    expect(readFileSync(disk, "utf8")).toBe("mine");
  });

  it("in a process namespace of its own does not even see the others", async () => {
    const { base, outside } = await setUp();
    const code = `${HELPERS(outside)}
      console.log(JSON.stringify([process.pid, call(n.kill, outside.jailPid, 0), call(n.kill, -1, 0)]))`;
    const options = jailOptions(base, { hasPidNamespace: true, isDaemon: false });
    const { stdout } = await startJail(code, options).ended;
    const [pid, neighbour, everybody] = JSON.parse(stdout) as number[];
    expect([pid, errnoName(neighbour), errnoName(everybody)]).toEqual([1, "ESRCH", "ESRCH"]);
  });

  it.each([
    ["start a program", "call(59, s('/node'), 0, 0)", "execve"],
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
  ])("under the filters dies when it tries to %s", async (_, attempt, name) => {
    const { base, outside } = await setUp();
    const code = `${HELPERS(outside)}
      import("/estalo/dist/vmm.js").then(({ vmm }) => vmm(["--api-sock", "/run/api.sock"]));
      setInterval(() => fs.existsSync("/run/api.sock") && ${attempt}, 10)`;
    const { status, stderr } = await startJail(code, jailOptions(base)).ended;
    expect(stderr).toContain(`, ${name}, in thread node)`);
    expect(status).toBe(148);
  });
});
