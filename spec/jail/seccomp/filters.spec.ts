/** The measured filters: how many calls each kind of thread has. A filter that grows is a decision: change it here, too. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { assemble, type SeccompFilter } from "../../../src/jail/seccomp/filter.js";
import { defaultFilters, type SeccompFilters } from "../../../src/jail/seccomp/filters.js";
import { SYSCALL_NAMES, syscallNumber } from "../../../src/jail/seccomp/syscalls.js";
import { runFilter } from "../../support/bpf.js";

/** Calls of each kind of thread. */
const MOST = { process: 94, vcpu: 23, pool: 38, platform: 22 } as const;

const PID = 4711;
const filters = defaultFilters(PID);
const ALLOW = 0x7fff_0000;

/** Calls that are let through with some arguments or all. */
function allowed({ rules }: SeccompFilter): Set<string> {
  return new Set(rules.filter(({ action }) => action === undefined).map(({ syscall }) => syscall));
}

function answer(kind: keyof SeccompFilters, name: string, ...args: bigint[]): string {
  const word = runFilter(assemble(filters[kind]), syscallNumber(name) as number, args);
  if (word === ALLOW) return "allow";
  return word === 0x0003_0000 ? "trap" : `errno ${word - 0x0005_0000}`;
}

describe("defaultFilters", () => {
  it.each([
    ["process", MOST.process],
    ["vcpu", MOST.vcpu],
    ["pool", MOST.pool],
    ["platform", MOST.platform],
  ] as const)("of %s let %d calls through, as docs/jailer.md says", (kind, most) => {
    const calls = [...allowed(filters[kind])].sort();
    expect(calls.length).toBe(most);
    const docs = readFileSync(new URL("../../../docs/jailer.md", import.meta.url), "utf8");
    const listed = new RegExp(`^\\| \`${kind}\` \\| ${most} \\|(.*)\\|`, "m").exec(docs)?.[1] ?? "";
    expect([...listed.matchAll(/`(\w+)`/g)].map(([, name]) => name).sort()).toEqual(calls);
  });

  it("of one thread are within those of the process", () => {
    const all = allowed(filters.process);
    for (const kind of ["vcpu", "pool", "platform"] as const) {
      expect([...allowed(filters[kind])].filter((name) => !all.has(name))).toEqual([]);
    }
  });

  it.each([
    ...["execve", "execveat", "fork", "vfork", "ptrace", "process_vm_writev", "mount", "umount2"],
    ...["pivot_root", "chroot", "setns", "unshare", "open_tree", "move_mount", "fsopen"],
    ...["keyctl", "add_key", "request_key", "bpf", "perf_event_open", "init_module"],
    ...["finit_module", "kexec_load", "setuid", "setresuid", "capset", "personality", "mknod"],
    ...["mknodat", "socketpair", "getdents64", "userfaultfd", "pidfd_getfd", "quotactl"],
    ...["iopl", "ioperm", "modify_ldt", "swapon", "reboot", "acct", "name_to_handle_at"],
    "open_by_handle_at",
  ])("let nobody call %s", (name) => {
    for (const kind of ["process", "vcpu", "pool", "platform"] as const) {
      expect(answer(kind, name, ...Array(6).fill(0n))).toBe("trap");
    }
  });

  it("answer what libraries can do without by an error", () => {
    expect(answer("process", "clone3")).toBe("errno 38");
    expect(answer("process", "pkey_alloc")).toBe("errno 38");
    expect(answer("vcpu", "openat")).toBe("errno 2");
  });

  it("look at arguments", () => {
    expect(answer("process", "socket", 1n)).toBe("allow");
    for (const family of [2n, 10n, 16n, 17n, 40n]) {
      expect(answer("process", "socket", family)).toBe("trap");
    }
    expect(answer("process", "clone", 0x3d0f00n)).toBe("allow");
    expect(answer("process", "clone", 0x1200011n)).toBe("trap");
    expect(answer("process", "kill", BigInt(PID))).toBe("allow");
    expect(answer("process", "kill", 1n)).toBe("trap");
    expect(answer("process", "tgkill", 1n, 1n)).toBe("trap");
    expect(answer("process", "ioctl", 3n, 0xae80n)).toBe("allow");
    // SIOCGIFINDEX and TUNSETIFF open a tap, TUNSETQUEUE takes a queue of it; TIOCSTI types for the user.
    expect(answer("process", "ioctl", 3n, 0x8933n)).toBe("allow");
    expect(answer("process", "ioctl", 3n, 0x4004_54can)).toBe("allow");
    expect(answer("process", "ioctl", 3n, 0x4004_54d9n)).toBe("allow");
    expect(answer("process", "ioctl", 0n, 0x5412n)).toBe("trap");
    expect(answer("process", "mmap", 0n, 4096n, 3n)).toBe("allow");
    expect(answer("process", "mmap", 0n, 4096n, 5n)).toBe("trap");
    expect(answer("process", "prctl", 15n)).toBe("allow");
    expect(answer("process", "prctl", 22n)).toBe("trap");
    for (const command of [5n, 6n, 8n, 37n]) {
      expect(answer("process", "fcntl", 3n, command)).toBe("trap");
    }
  });

  it("let a pool's thread do nothing to KVM but drop missed ticks", () => {
    expect(answer("pool", "ioctl", 3n, 0xae71n)).toBe("allow");
    for (const request of [0xae01n, 0xae80n, 0x4020_ae46n, 0x5421n]) {
      expect(answer("pool", "ioctl", 3n, request)).toBe("trap");
    }
  });

  it("let a vCPU's thread do nothing to KVM but enter the guest", () => {
    expect(answer("vcpu", "ioctl", 3n, 0xae80n)).toBe("allow");
    for (const request of [0xae01n, 0x4020_ae46n, 0x4040_ae79n, 0x5421n]) {
      expect(answer("vcpu", "ioctl", 3n, request)).toBe("trap");
    }
    for (const name of ["open", "socket", "connect", "clone", "io_uring_enter", "sendmsg"]) {
      expect(answer("vcpu", name)).toBe("trap");
    }
  });

  it("fit into the kernel's limit with room", () => {
    for (const filter of Object.values(filters)) {
      expect(assemble(filter).byteLength / 8).toBeLessThan(1000);
    }
    expect(SYSCALL_NAMES.size).toBeGreaterThan(370);
  });
});
