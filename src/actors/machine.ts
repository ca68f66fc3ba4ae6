/**
 * The kernel objects of one microVM: memory, VM, interrupt chips, vCPUs. Made in order, closed in reverse,
 * each exactly once.
 *
 * Thread: the supervisor's. Nothing here runs a vCPU; vCPU threads borrow the descriptors it owns, and have
 * let go of them before `close`.
 */
import { BOOT_FPU, BOOT_MSRS, type BootRegisters, setLapicPins } from "../boot/boot-registers.js";
import { physicalAddressBits } from "../boot/cpuid.js";
import type { GuestImages } from "../boot/kernel-images.js";
import { KVM_TSS_GPA } from "../boot/layout.js";
import { EstaloError, hostError } from "../errors.js";
import {
  GUEST_PAGES,
  type GuestPages,
  type NativeGuestMapping,
  type NativeKvm,
  type NativeVcpu,
  type NativeVm,
  native,
  VCPU_FPU,
  VCPU_LAPIC,
  VCPU_REGS,
  VCPU_SREGS,
} from "../native/binding.js";
import { GuestMemory, type MemoryRegion, type PluggableRegion } from "../native/guest-memory.js";
import { KVM_FPU, KVM_REGS, KVM_SREGS } from "../native/kvm-structs.js";
import * as k from "../native/layouts.js";
import { type Gpa, hex, PAGE_BYTES } from "../units.js";
import type { HugePages } from "./config.js";
import type { SharedBlock } from "./shared-block.js";

export const KVM_DEVICE = "/dev/kvm";
/** KVM_SYNC_X86_REGS in what KVM_CAP_SYNC_REGS gives: general registers. */
const SYNC_REGS = 1;

const PERMISSION_HINT = `sudo usermod -aG kvm "$USER" and log in again; estalo doctor checks it`;
const MISSING_HINT =
  "enable virtualisation in the firmware or the cloud instance, then modprobe kvm_intel or kvm_amd; " +
  "estalo doctor explains";

/** What Estalo needs of KVM; Firecracker's list, without what it uses for snapshots only. */
export const REQUIRED_CAPABILITIES = {
  KVM_CAP_IRQCHIP: k.KVM_CAP_IRQCHIP,
  KVM_CAP_USER_MEMORY: k.KVM_CAP_USER_MEMORY,
  KVM_CAP_SET_TSS_ADDR: k.KVM_CAP_SET_TSS_ADDR,
  KVM_CAP_EXT_CPUID: k.KVM_CAP_EXT_CPUID,
  KVM_CAP_MP_STATE: k.KVM_CAP_MP_STATE,
  KVM_CAP_IRQFD: k.KVM_CAP_IRQFD,
  KVM_CAP_PIT2: k.KVM_CAP_PIT2,
  KVM_CAP_IOEVENTFD: k.KVM_CAP_IOEVENTFD,
  KVM_CAP_IMMEDIATE_EXIT: k.KVM_CAP_IMMEDIATE_EXIT,
} as const;

/** Capabilities by name, as they are insisted on. */
type Capabilities = Iterable<readonly [string, number]>;

/** Opens /dev/kvm and checks it, or says why this host cannot run a microVM and what to do about it. */
export function openKvm(
  path = KVM_DEVICE,
  capabilities: Capabilities = Object.entries(REQUIRED_CAPABILITIES),
): NativeKvm {
  let kvm: NativeKvm | undefined;
  try {
    kvm = new (native().Kvm)(path);
    checkKvm(kvm, capabilities);
    return kvm;
  } catch (error) {
    kvm?.close();
    throw error instanceof EstaloError ? error : kvmError(path, error);
  }
}

/** KVM as this process has it. */
interface HostKvm {
  readonly kvm: NativeKvm;
  /** Records of ten words: what KVM offers a guest. Not to be changed. */
  readonly supportedCpuid: Uint32Array;
  readonly vcpuMmapBytes: number;
  readonly hasSyncRegs: boolean;
  /** Capabilities that were asked for and are there. */
  readonly capabilities: Set<number>;
}

let heldKvm: HostKvm | undefined;

/**
 * KVM, opened by the first microVM and kept until the process ends: what it offers takes 0.4 ms to ask for, a
 * tenth of a start. While the descriptor is held the module cannot be replaced, so that the answers stay true.
 */
function hostKvm(capabilities: Capabilities): HostKvm {
  heldKvm ??= askKvm();
  const unchecked = [...capabilities].filter(([, number]) => !heldKvm?.capabilities.has(number));
  checkCapabilities(heldKvm.kvm, unchecked);
  for (const [, number] of unchecked) heldKvm.capabilities.add(number);
  return heldKvm;
}

function askKvm(): HostKvm {
  const kvm = openKvm(KVM_DEVICE, []);
  try {
    const supportedCpuid = kvm.getSupportedCpuid();
    return {
      kvm,
      supportedCpuid,
      vcpuMmapBytes: kvm.vcpuMmapBytes,
      hasSyncRegs: (kvm.checkExtension(k.KVM_CAP_SYNC_REGS) & SYNC_REGS) !== 0,
      capabilities: new Set(),
    };
  } catch (error) {
    kvm.close();
    throw error;
  }
}

function kvmError(path: string, error: unknown): EstaloError {
  const { code, syscall } = error as NodeJS.ErrnoException;
  const operation = syscall ?? "open";
  switch (code) {
    case "EACCES":
    case "EPERM":
      return hostError(operation, path, error, "ERR_ESTALO_KVM_PERMISSION", PERMISSION_HINT);
    case "ENOENT":
    case "ENODEV":
    case "ENXIO":
    case "ENOTTY":
      return hostError(operation, path, error, "ERR_ESTALO_KVM_MISSING", MISSING_HINT);
    default:
      return hostError(operation, path, error);
  }
}

function checkKvm(kvm: NativeKvm, capabilities: Capabilities): void {
  if (kvm.apiVersion !== k.KVM_API_VERSION) {
    throw new EstaloError(
      "ERR_ESTALO_KVM_CAPABILITY",
      `KVM has API version ${kvm.apiVersion}, not 12`,
    );
  }
  checkCapabilities(kvm, capabilities);
}

function checkCapabilities(kvm: NativeKvm, capabilities: Capabilities): void {
  for (const [name, capability] of capabilities) {
    if (kvm.checkExtension(capability) > 0) continue;
    throw new EstaloError("ERR_ESTALO_KVM_CAPABILITY", `this host's KVM has no ${name}`, {
      data: { capability: name },
    });
  }
}

/** Raises ERR_ESTALO_KVM_CAPABILITY where the host's processors cannot address all of the memory. */
function checkAddressBits(supportedCpuid: Uint32Array, memoryEnd: Gpa): void {
  const bits = physicalAddressBits(supportedCpuid);
  if (memoryEnd <= 2 ** bits) return;
  throw new EstaloError(
    "ERR_ESTALO_KVM_CAPABILITY",
    `guest memory would end at ${hex(memoryEnd)}, and addresses have ${bits} bits on this host`,
    { data: { memoryEnd, addressBits: bits } },
  );
}

/** VMs closed here that the kernel has not freed yet. */
const releasing = new Set<Promise<void>>();

/** Fulfilled when every VM closed by now is freed: what could not be made leaves nothing behind either. */
export async function machinesReleased(): Promise<void> {
  await Promise.all(releasing);
}

/** What a machine is made from. */
export interface MachineOptions {
  readonly regions: readonly MemoryRegion[];
  /** Memory that is plugged while the machine runs, behind the regions. */
  readonly pluggable?: PluggableRegion | undefined;
  /** First address after all memory, also that of devices. */
  readonly memoryEnd: Gpa;
  readonly hugePages: HugePages;
  /** What this host's KVM must offer. */
  readonly capabilities: Capabilities;
}

const HUGE_PAGES_HINT = "sudo sysctl vm.nr_hugepages=N reserves huge pages; half as many as MiB";

function pagesOf(hugePages: HugePages): GuestPages {
  if (hugePages === "transparent") return GUEST_PAGES.transparent;
  return hugePages ? GUEST_PAGES.reserved : GUEST_PAGES.default;
}

/** Everything a vCPU starts with; `boot` for vCPU 0 only. */
export interface VcpuState {
  readonly cpuid: Uint32Array;
  /** Beside BOOT_MSRS. */
  readonly msrs: ReadonlyMap<number, bigint>;
  readonly boot: BootRegisters | undefined;
}

/** See the file's header. */
export class Machine {
  readonly mapping: NativeGuestMapping;
  readonly memory: GuestMemory;
  readonly vm: NativeVm;
  /** Records of ten words: what KVM offers a guest. */
  readonly supportedCpuid: Uint32Array;
  readonly vcpuMmapBytes: number;
  /** Whether KVM_RUN can leave the general registers in the run page. */
  readonly hasSyncRegs: boolean;
  readonly vcpus: NativeVcpu[] = [];
  readonly #closers: (() => void)[] = [];
  #released: Promise<void> = Promise.resolve();
  #ticks: Promise<void> | undefined;

  /** Raises ERR_ESTALO_KVM_* or ERR_ESTALO_HOST; what was made by then is closed again. */
  constructor(options: MachineOptions) {
    const addon = native();
    try {
      const { kvm, supportedCpuid, vcpuMmapBytes, hasSyncRegs } = hostKvm(options.capabilities);
      this.supportedCpuid = supportedCpuid;
      this.vcpuMmapBytes = vcpuMmapBytes;
      this.hasSyncRegs = hasSyncRegs;
      checkAddressBits(supportedCpuid, options.memoryEnd);
      const { regions, pluggable } = options;
      const mapped = pluggable === undefined ? regions : [...regions, pluggable];
      this.mapping = new addon.GuestMapping(mapped, pagesOf(options.hugePages));
      this.#closers.push(() => this.mapping.close());
      this.memory = new GuestMemory(this.mapping.buffer, regions, pluggable);
      this.vm = new addon.Vm(kvm.createVm());
      this.#closers.push(() => {
        const closed = this.#ticks?.then(() => this.vm.close()) ?? this.vm.close();
        const released = closed.finally(() => releasing.delete(released));
        releasing.add(released);
        this.#released = released;
      });
      // Intel needs both in real mode; the page below the TSS is free in our map.
      this.vm.setIdentityMapAddr(KVM_TSS_GPA - PAGE_BYTES);
      this.vm.setTssAddr(KVM_TSS_GPA);
      this.vm.setUserMemory(this.mapping);
      this.vm.createIrqchip();
      this.vm.createPit2();
    } catch (error) {
      this.close();
      if (error instanceof EstaloError) throw error;
      const hint = options.hugePages === true ? HUGE_PAGES_HINT : undefined;
      throw hostError("create", "microVM", error, "ERR_ESTALO_HOST", hint);
    }
  }

  /** Creates the vCPUs; their control words are in the shared block. */
  createVcpus(count: number, block: SharedBlock): void {
    for (let id = 0; id < count; id++) {
      try {
        const control = new Uint32Array(
          block.buffer,
          block.vcpus[id].controlOffset,
          k.VCPU_CONTROL_BYTES / 4,
        );
        const vcpu = new (native().Vcpu)(this.vm.createVcpu(id), this.vcpuMmapBytes, control);
        this.vcpus.push(vcpu);
        this.#closers.push(() => vcpu.close());
      } catch (error) {
        throw hostError("create", `vCPU ${id}`, error);
      }
    }
  }

  /** Sets what a vCPU starts with. */
  setVcpuState(id: number, state: VcpuState): void {
    const vcpu = this.vcpus[id];
    try {
      vcpu.setCpuid2(state.cpuid);
      const msrs = new Map(BOOT_MSRS.map(({ index, data }) => [index, data]));
      for (const [index, data] of state.msrs) msrs.set(index, data);
      setMsrs(vcpu, id, msrs);
      const fpu = new Uint8Array(KVM_FPU.sizeBytes);
      KVM_FPU.write(fpu, BOOT_FPU);
      vcpu.setStruct(VCPU_FPU, fpu);
      const lapic = vcpu.getStruct(VCPU_LAPIC);
      setLapicPins(lapic);
      vcpu.setStruct(VCPU_LAPIC, lapic);
      if (state.boot === undefined) return;
      const sregs = vcpu.getStruct(VCPU_SREGS);
      KVM_SREGS.write(sregs, state.boot.sregs);
      vcpu.setStruct(VCPU_SREGS, sregs);
      const regs = new Uint8Array(KVM_REGS.sizeBytes);
      KVM_REGS.write(regs, state.boot.regs);
      vcpu.setStruct(VCPU_REGS, regs);
    } catch (error) {
      throw error instanceof EstaloError ? error : hostError("set up", `vCPU ${id}`, error);
    }
  }

  /** Maps images of kernels into this machine's memory. */
  get images(): GuestImages {
    return {
      create: (sizeBytes) => new (native().ImageFile)(sizeBytes),
      map: (image, gpa) => this.mapping.mapImage(image, gpa),
    };
  }

  /**
   * From soon on the PIT's ticks that the guest misses are not given to it later. Not for its start: KVM holds the
   * PIT's lock for up to 20 ms meanwhile, which a vCPU needs when it enters the guest for the first time. Idempotent.
   */
  dropMissedTicks(): void {
    this.#ticks ??= this.vm.dropMissedTicks();
  }

  /** After `close`: fulfilled when the kernel has freed the VM, which it does on another thread. */
  get released(): Promise<void> {
    return this.#released;
  }

  /** Closes everything, in reverse order; idempotent. */
  close(): void {
    for (const close of this.#closers.splice(0).reverse()) close();
  }
}

function setMsrs(vcpu: NativeVcpu, id: number, msrs: ReadonlyMap<number, bigint>): void {
  const indexes = Uint32Array.from(msrs.keys());
  const taken = vcpu.setMsrs(indexes, BigUint64Array.from(msrs.values()));
  if (taken === indexes.length) return;
  throw new EstaloError(
    "ERR_ESTALO_HOST",
    `KVM_SET_MSRS vCPU ${id}: MSR 0x${indexes[taken].toString(16)} was refused`,
    { data: { vcpu: id, msr: indexes[taken] } },
  );
}
