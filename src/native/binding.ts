/**
 * Loads the addon: the only file that does. The interfaces below say what its classes take and give;
 * each one's thread and ownership is in the header of the same name (kvm.h, vm.h, vcpu.h, …).
 *
 * Every method may throw a Node system error (`code` is the errno's name, `syscall` the KVM constant or
 * call): whoever calls one words it with `hostError`, naming the object.
 */
import { createRequire } from "node:module";
import { EstaloError } from "../errors.js";
import type { MemoryRegion, PluggableRegion } from "./guest-memory.js";

/** /dev/kvm. */
export interface NativeKvm {
  readonly apiVersion: number;
  readonly vcpuMmapBytes: number;
  checkExtension(capability: number): number;
  /** Records of ten words: struct kvm_cpuid_entry2. */
  getSupportedCpuid(): Uint32Array;
  /** A VM's descriptor, for `Vm`, which owns it from then on. */
  createVm(): number;
  close(): void;
}

/** Guest memory's mapping; `GuestMemory` gives checked access to `buffer`. */
export interface NativeGuestMapping {
  /** A SharedArrayBuffer over the mapping: make it once, and share that one with all threads. */
  readonly buffer: SharedArrayBuffer;
  /** Puts a private copy of a sealed image at `gpa`, in whole pages inside one region (else EINVAL). */
  mapImage(image: NativeImageFile, gpa: number): void;
  /**
   * Gives back the pages of `count` ranges (guest-physical start and length in bytes, whole pages inside one
   * region), which read as zeros from then on. Returns the bytes of those that could be.
   */
  reclaim(starts: Float64Array, lengths: Float64Array, count: number): number;
  /** Whole blocks of the pluggable region: whether the addon takes them for memory. Beside GuestMemory's. */
  setPlugged(gpa: number, sizeBytes: number, isPlugged: boolean): void;
  /** Gives the pages of whole blocks of the pluggable region back. */
  discard(gpa: number, sizeBytes: number): void;
  /** Gives the pages back at once; a view still held reads zeros. Idempotent. */
  close(): void;
}

export interface NativeVm {
  setTssAddr(gpa: number): void;
  setIdentityMapAddr(gpa: number): void;
  createIrqchip(): void;
  createPit2(): void;
  /** The PIT's ticks that a guest misses are not given to it later. It is not closed before this is fulfilled. */
  dropMissedTicks(): Promise<void>;
  /** RAM, in slots 0 and on; a pluggable region is left out. */
  setUserMemory(mapping: NativeGuestMapping): void;
  /** A range of that mapping as a slot of its own. */
  setMemorySlot(slot: number, gpa: number, sizeBytes: number): void;
  removeMemorySlot(slot: number): void;
  /** A file's whole window; the VM keeps it mapped. */
  setFileSlot(slot: number, gpa: number, mapping: NativeFileMapping): void;
  /** `match`: only writes of this value ring; -1 for any. */
  ioeventfd(eventFd: number, address: number, sizeBytes: number, match: number): void;
  irqfd(eventFd: number, gsi: number): void;
  /** An edge on an interrupt line, delivered before it returns. Of one thread only: see docs/adr/0016. */
  pulseIrq(gsi: number): void;
  /** A vCPU's descriptor, for `Vcpu`, which owns it from then on. */
  createVcpu(id: number): number;
  /** Fulfilled when the kernel has let go of the VM, which takes milliseconds. Idempotent. */
  close(): Promise<void>;
}

/** Which structure `getStruct` and `setStruct` mean: enum estalo_vcpu_struct in kvm_core.h. */
export const VCPU_REGS = 0;
export const VCPU_SREGS = 1;
export const VCPU_FPU = 2;
export const VCPU_LAPIC = 3;
export const VCPU_MP_STATE = 4;
export const VCPU_EVENTS = 5;

export interface NativeVcpu {
  readonly fd: number;
  getStruct(which: number): Uint8Array;
  setStruct(which: number, bytes: Uint8Array): void;
  setCpuid2(entries: Uint32Array): void;
  /** How many were taken; the first that KVM refused is at that index. */
  setMsrs(indexes: Uint32Array, values: BigUint64Array): number;
  /** As many values as KVM has, in order: the first MSR it does not know ends them. */
  getMsrs(indexes: Uint32Array): BigUint64Array;
  kvmclockCtrl(): void;
  /** Makes the vCPU leave KVM_RUN; set `pending` in its control block first. */
  kick(): void;
  close(): void;
}

/** A worker thread's hold on a vCPU. */
export interface NativeVcpuRunner {
  /** struct kvm_run and the pages behind it; detached by `release`. */
  readonly runPage: ArrayBuffer;
  /** Enters the guest; returns KVM_EXIT_* or EXIT_KICKED. */
  run(): number;
  release(): void;
}

export interface NativeEventFd {
  readonly fd: number;
  signal(): void;
  /** How often it was signalled since the last call, which makes it 0 again. */
  take(): number;
  close(): void;
}

/** KVM's own counters of one vCPU (KVM_GET_STATS_FD); also while it runs. */
export interface NativeVcpuStats {
  /** Fills one value for each name; 0 for a counter that this kernel has not. */
  read(values: Float64Array): void;
  close(): void;
}

export interface NativePoller {
  add(fd: number, token: number): void;
  remove(fd: number): void;
  close(): void;
}

export interface NativeIoUring {
  /**
   * Takes the first `words` of the command stream (io_uring.h): at most one system call. Returns how many
   * requests the kernel had no memory for: they go out with the next call.
   */
  submit(words: number): number;
  /** Fills (tag, result) pairs; returns how many. */
  reap(): number;
  /** Nobody waits for the results any more: a long one that is not whole yet fails with ECANCELED. */
  abandon(): void;
  close(): void;
}

/** Bytes that many guests begin with: filled through `fd`, sealed, then mapped by each. */
export interface NativeImageFile {
  readonly fd: number;
  /** From now on it can neither be written nor change its size. */
  seal(): void;
  /** What was mapped stays mapped. */
  close(): void;
}

/** A file as guest memory; nothing in this process reads or writes it. */
export interface NativeFileMapping {
  /** The file's bytes, rounded up to 2 MiB. */
  readonly windowBytes: number;
  close(): void;
}

/** An open tap; the tables are those of devices/virtio/chain-table.ts. */
export interface NativeTap {
  readonly fd: number;
  /** The memory that chains lie in; once, before any of them. */
  connect(mapping: NativeGuestMapping): void;
  /** TUN_F_* flags. */
  setOffloads(flags: number): void;
  /** Whether this queue of several takes part in its interface. */
  setAttached(isAttached: boolean): void;
  /** Sends chains `first` to before `end`; returns how many are done with, sent or lost. */
  send(
    addresses: Float64Array,
    lengths: Uint32Array,
    ends: Uint32Array,
    first: number,
    end: number,
  ): number;
  /** Fills chains with frames; returns how many frames, with their bytes and chains. */
  receive(
    addresses: Float64Array,
    lengths: Uint32Array,
    ends: Uint32Array,
    first: number,
    end: number,
    mergeable: boolean,
    frameBytes: Uint32Array,
    frameBuffers: Uint16Array,
  ): number;
  sendBytes(frame: Uint8Array): boolean;
  /** The descriptor, which the caller owns from then on. */
  release(): number;
  /** The frame's length; 0: none waits. */
  receiveBytes(into: Uint8Array): number;
  close(): void;
}

/** Pages of guest memory, as src/native/guest_memory.h numbers them. */
export const GUEST_PAGES = { default: 0, transparent: 1, reserved: 2 } as const;
export type GuestPages = (typeof GUEST_PAGES)[keyof typeof GUEST_PAGES];

/** The addon's export table. */
export interface NativeAddon {
  readonly Kvm: new (path: string) => NativeKvm;
  readonly GuestMapping: new (
    regions: readonly (MemoryRegion | PluggableRegion)[],
    pages?: GuestPages,
  ) => NativeGuestMapping;
  readonly FileMapping: new (fd: number, sizeBytes: number, readOnly: boolean) => NativeFileMapping;
  readonly ImageFile: new (sizeBytes: number) => NativeImageFile;
  readonly Vm: new (fd: number) => NativeVm;
  readonly Vcpu: new (fd: number, mmapBytes: number, control: Uint32Array) => NativeVcpu;
  readonly VcpuRunner: new (
    vcpuFd: number,
    mmapBytes: number,
    control: Uint32Array,
    trace: Uint32Array,
    threadName: string,
  ) => NativeVcpuRunner;
  readonly VcpuStats: new (vcpuFd: number, names: readonly string[]) => NativeVcpuStats;
  readonly EventFd: new () => NativeEventFd;
  readonly Poller: new (ready: Uint32Array, callback: (count: number) => void) => NativePoller;
  readonly IoUring: new (
    mapping: NativeGuestMapping,
    depth: number,
    eventFd: number,
    commands: Float64Array,
    completions: Int32Array,
  ) => NativeIoUring;
  /** By its name, or by a descriptor that was opened so. `status`: two words, frames that the last call lost and the errno of the last of them. */
  readonly Tap: new (
    nameOrFd: string | number,
    status: Int32Array,
    /** Which of the interface's queues: the only one, the first, a further one. */
    queue: 0 | 1 | 2,
  ) => NativeTap;
  /** The interface that this is an open queue of goes with its last descriptor. */
  readonly endTapWithDescriptor: (fd: number) => void;
  readonly blockDeviceBytes: (fd: number) => number;
  /** Two ends of a Unix stream socket, for who closes them. */
  readonly socketPair: () => [number, number];
  /** Never waits: throws EAGAIN when the other end does not take them. */
  readonly sendDescriptor: (socket: number, fd: number) => void;
  /** One that was sent, the caller's to close; throws EAGAIN when there is none. */
  readonly receiveDescriptor: (socket: number) => number;
  readonly signalEventFd: (fd: number) => void;
  /** TSC and CLOCK_MONOTONIC in nanoseconds, now: low word and high word of each. */
  readonly sampleClocks: (words: Uint32Array) => void;
  /** Replaces the process by another program, which gets the descriptors `kept`; returns by an error only. */
  readonly execute: (
    file: string,
    words: readonly string[],
    environment: readonly string[],
    kept: readonly number[],
  ) => never;
  /** Paths of the shared libraries that this process has loaded, the loader among them. */
  readonly sharedObjects: () => string[];
  /** seccomp filters of all threads; see seccomp.h. Once in a process. */
  readonly confine: (
    process: Uint8Array,
    vcpu: Uint8Array,
    pool: Uint8Array,
    platform: Uint8Array,
    names: string,
  ) => void;
  /** Where a call that a filter traps is told to, beside standard error; -1: nowhere. */
  readonly setViolationLog: (fd: number) => void;
  readonly trimMemory: () => void;
  readonly numbers: Readonly<Record<string, number>>;
}

/** Beside the bundle in a package; in dist/ when a spec runs the sources. */
const CANDIDATES = ["./estalo.node", "../../dist/estalo.node"];

function load(): NativeAddon {
  const require = createRequire(import.meta.url);
  const failures: string[] = [];
  for (const candidate of CANDIDATES) {
    try {
      return require(candidate) as NativeAddon;
    } catch (error) {
      failures.push((error as Error).message.split("\n")[0]);
    }
  }
  throw new EstaloError(
    "ERR_ESTALO_ADDON",
    `the native addon did not load: ${failures.join("; ")}`,
    {
      hint: "npm run setup builds it for this Node.js",
    },
  );
}

let addon: NativeAddon | undefined;

/** The addon, loaded on first use; raises ERR_ESTALO_ADDON when it is not built for this Node.js. */
export function native(): NativeAddon {
  addon ??= load();
  return addon;
}
