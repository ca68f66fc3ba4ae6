/**
 * Everything a microVM's memory must hold before vCPU 0 runs, in one call.
 *
 * Order: read the kernel's headers, check that all fits, load kernel and initrd, then write the tables. All
 * of it is synchronous and takes a few milliseconds, most of them the page cache's copy of the kernel.
 */
import type { Gpa, Gsi } from "../units.js";
import type { BootProtocol, BootRegisters } from "./boot-registers.js";

/** A file to load: opened and closed here, or through `fd` when the caller opened it already. */
export interface BootFile {
  /** Named in errors; opened when there is no `fd`. */
  readonly path: string;
  /** An open descriptor, read at absolute offsets; stays open. */
  readonly fd?: number;
}

/** One virtio-mmio device, as the kernel is told of it. */
export interface VirtioMmioWindow {
  readonly base: Gpa;
  readonly gsi: Gsi;
}

/** The root file system's place, for the command line. */
export interface RootDevice {
  /** `/dev/vda`, `/dev/pmem0`, or `PARTUUID=…`. */
  readonly device: string;
  readonly readOnly: boolean;
}

/** The VM generation id: 16 random bytes and the interrupt that says it changed. */
export interface VmGenId {
  readonly id: Uint8Array;
  readonly gsi: Gsi;
}

export interface BootOptions {
  readonly kernel: BootFile;
  readonly initrd?: BootFile;
  /** The user's arguments; DEFAULT_BOOT_ARGS when absent. */
  readonly bootArgs?: string;
  /** Adds `root=… ro|rw`. */
  readonly root?: RootDevice;
  /** 1 to 32. */
  readonly vcpuCount: number;
  /** In attach order. */
  readonly virtioDevices: readonly VirtioMmioWindow[];
  readonly vmGenId?: VmGenId;
}

export interface PreparedBoot {
  readonly protocol: BootProtocol;
  /** Guest-physical address of the first instruction. */
  readonly entry: Gpa;
  /** The whole command line as the kernel gets it. */
  readonly commandLine: string;
  /** For vCPU 0 only; see boot-registers.ts for what every vCPU gets. */
  readonly registers: BootRegisters;
  /** Bytes of kernel and initrd read into the guest. */
  readonly bytesLoaded: number;
}
