/**
 * Which system calls each kind of thread of `estalo vmm` may make once it listens. Measured over everything a microVM
 * does, then read through; docs/jailer.md has the figures and says how, and spec/jail/seccomp/filters.spec.ts fails when
 * a list grows. What Node.js and V8 need to go on is in there: threads, memory, their event loops.
 *
 * Missing on purpose: execve, fork, ptrace, mount, setns, unshare, chroot, keyctl, bpf, listing folders, sockets
 * other than Unix ones, new executable mappings of files, and every call of newer kernels nobody here uses.
 */
import type { SeccompCondition, SeccompFilter, SeccompRule } from "./filter.js";

/** Filters by kind of thread. `process` holds for all of them; the others come on top. */
export interface SeccompFilters {
  /** Main thread (API, devices), workers as they start, Node.js's own. */
  readonly process: SeccompFilter;
  /** A thread that enters guests. */
  readonly vcpu: SeccompFilter;
  /** libuv's: files. */
  readonly pool: SeccompFilter;
  /** V8's: garbage collection and compilation. */
  readonly platform: SeccompFilter;
}

const ENOENT = 2;
const ENOSYS = 38;

const AF_UNIX = 1n;
const CLONE_THREAD = 0x1_0000n;
const PROT_EXEC = 4n;
const SECCOMP_SET_MODE_FILTER = 1n;

/** Linux headers: asm-generic/ioctls.h, linux/sockios.h, linux/if_tun.h, linux/fs.h. */
const IOCTLS = {
  TCGETS: 0x5401n,
  TCSETS: 0x5402n,
  TCSETSW: 0x5403n,
  TCSETSF: 0x5404n,
  TIOCGWINSZ: 0x5413n,
  FIONBIO: 0x5421n,
  SIOCGIFINDEX: 0x8933n,
  TUNSETIFF: 0x4004_54can,
  TUNSETOFFLOAD: 0x4004_54d0n,
  TUNSETQUEUE: 0x4004_54d9n,
  TUNSETVNETHDRSZ: 0x4004_54d8n,
  BLKGETSIZE64: 0x8008_1272n,
} as const;
const IOCTL_TYPE_MASK = 0xff00n;
const KVM_TYPE = 0xae00n;
const KVM_RUN = 0xae80n;
const KVM_REINJECT_CONTROL = 0xae71n;

/** F_DUPFD to F_SETFL, F_DUPFD_CLOEXEC, seals. No locks: a file that was handed in may be others' as well. */
const FCNTLS = [0, 1, 2, 3, 4, 1030, 1033, 1034] as const;
/** PR_SET_NAME, PR_GET_NAME, PR_SET_VMA. */
const PRCTLS = [15, 16, 0x5356_4d41] as const;

/** What every thread does that runs JavaScript or frees memory. */
const MEMORY = "brk munmap madvise mprotect pkey_mprotect mremap";
const TIME_AND_WAIT =
  "clock_gettime gettimeofday clock_nanosleep nanosleep futex sched_yield restart_syscall";
const SIGNALS_AND_END = "rt_sigreturn rt_sigprocmask getpid gettid exit exit_group";

const PROCESS_CALLS = `
epoll_pwait epoll_wait epoll_ctl epoll_create1 poll eventfd2 pipe2
io_uring_enter io_uring_setup io_uring_register
read write readv writev pread64 pwrite64 preadv pwritev lseek
open openat close fstat stat lstat newfstatat statx access readlink getcwd
ftruncate fdatasync fchmod chmod link unlink memfd_create dup3
accept4 bind listen connect shutdown getsockname getpeername getsockopt setsockopt
sendto recvfrom sendmsg recvmsg
set_robust_list rseq set_tid_address rt_sigaction sched_getaffinity prlimit64 getrusage
getuid getgid geteuid getegid capget uname sysinfo getrandom
${MEMORY} ${TIME_AND_WAIT} ${SIGNALS_AND_END}`;

const VCPU_CALLS = `
write read close epoll_pwait brk munmap madvise mprotect pkey_mprotect futex clock_gettime sched_yield restart_syscall
${SIGNALS_AND_END}`;

const POOL_CALLS = `
read write readv writev pread64 pwrite64 preadv pwritev
open openat close fstat stat newfstatat statx fdatasync
${MEMORY} ${TIME_AND_WAIT} ${SIGNALS_AND_END}`;

const PLATFORM_CALLS = `write ${MEMORY} ${TIME_AND_WAIT} ${SIGNALS_AND_END}`;

/** The filters of a process with this id: it may signal itself only. */
export function defaultFilters(pid: number): SeccompFilters {
  const prctls = PRCTLS.map((option) => rule("prctl", eq(0, BigInt(option))));
  const kernelMemory = [withoutExecution("mmap")];
  return {
    process: filter([
      rule("ioctl", maskedEq(1, IOCTL_TYPE_MASK, KVM_TYPE)),
      ...Object.values(IOCTLS).map((request) => rule("ioctl", eq(1, request))),
      ...plain(PROCESS_CALLS),
      ...kernelMemory,
      ...FCNTLS.map((command) => rule("fcntl", eq(1, BigInt(command)))),
      rule("socket", eq(0, AF_UNIX)),
      // Threads, not processes. Behind clone3's pointer nobody sees the flags: glibc then takes clone.
      rule("clone", maskedEq(0, CLONE_THREAD, CLONE_THREAD)),
      { syscall: "clone3", action: { errno: ENOSYS } },
      { syscall: "pkey_alloc", action: { errno: ENOSYS } },
      rule("kill", eq(0, BigInt(pid))),
      rule("tgkill", eq(0, BigInt(pid))),
      ...prctls,
      // A thread's own filter, on top of this one.
      rule("seccomp", eq(0, SECCOMP_SET_MODE_FILTER)),
    ]),
    vcpu: filter([
      rule("ioctl", eq(1, KVM_RUN)),
      ...plain(VCPU_CALLS),
      ...kernelMemory,
      rule("tgkill", eq(0, BigInt(pid))),
      ...prctls,
      // The allocator looks for a setting in /proc when it gives memory back.
      { syscall: "openat", action: { errno: ENOENT } },
    ]),
    pool: filter([
      // Each VM's, once: it waits.
      rule("ioctl", eq(1, KVM_REINJECT_CONTROL)),
      ...plain(POOL_CALLS),
      ...kernelMemory,
      ...prctls,
    ]),
    platform: filter([
      ...plain(PLATFORM_CALLS),
      ...kernelMemory,
      ...prctls,
      { syscall: "openat", action: { errno: ENOENT } },
    ]),
  };
}

function filter(rules: readonly SeccompRule[]): SeccompFilter {
  return { defaultAction: "trap", filterAction: "allow", rules };
}

function plain(calls: string): SeccompRule[] {
  return calls
    .trim()
    .split(/\s+/)
    .map((syscall) => ({ syscall }));
}

function rule(syscall: string, condition: SeccompCondition): SeccompRule {
  return { syscall, conditions: [condition] };
}

function eq(index: number, value: bigint): SeccompCondition {
  return { index, op: "eq", width: "dword", value };
}

function maskedEq(index: number, mask: bigint, value: bigint): SeccompCondition {
  return { index, op: "maskedEq", width: "dword", mask, value };
}

/** V8 makes its code executable by mprotect; only the loader maps files so, and it has done its work. */
function withoutExecution(syscall: string): SeccompRule {
  return rule(syscall, maskedEq(2, PROT_EXEC, 0n));
}
