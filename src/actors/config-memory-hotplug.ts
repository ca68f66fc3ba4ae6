/**
 * Memory that can be plugged while the guest runs, in a microVM's configuration, and its checks.
 */
import { EstaloError } from "../errors.js";
import { integer, invalid, onlyFields } from "./config-checks.js";

/** A virtio memory device; none of it is plugged at the start. */
export interface MemoryHotplugConfig {
  /** Most that can be plugged, in MiB: a multiple of `slotSizeMib`, at most 524,288. */
  readonly totalSizeMib: number;
  /** What KVM is given and taken at a time, in MiB: at least 128, a multiple of `blockSizeMib`. Default 128. */
  readonly slotSizeMib?: number;
  /** What the guest can ask for at least, in MiB: a power of two from 2. Default 2. */
  readonly blockSizeMib?: number;
}

/** The device with nothing left open. */
export type CheckedMemoryHotplug = Required<MemoryHotplugConfig>;

/** 512 GiB: what Firecracker's memory map has for it. */
export const HOTPLUG_MIB_MAX = 512 * 1024;
export const SLOT_MIB_MIN = 128;
export const BLOCK_MIB_MIN = 2;

/** The device with its defaults, or ERR_ESTALO_CONFIG_INVALID naming the field. */
export function checkMemoryHotplug(hotplug: MemoryHotplugConfig): CheckedMemoryHotplug {
  onlyFields("memoryHotplug", hotplug, ["totalSizeMib", "slotSizeMib", "blockSizeMib"]);
  const { totalSizeMib: total, slotSizeMib = SLOT_MIB_MIN, blockSizeMib = BLOCK_MIB_MIN } = hotplug;
  const field = (name: string) => `memoryHotplug.${name}`;
  integer(field("blockSizeMib"), blockSizeMib, BLOCK_MIB_MIN, HOTPLUG_MIB_MAX);
  if ((blockSizeMib & (blockSizeMib - 1)) !== 0) {
    throw invalid(field("blockSizeMib"), "a power of two", blockSizeMib);
  }
  integer(field("slotSizeMib"), slotSizeMib, SLOT_MIB_MIN, HOTPLUG_MIB_MAX);
  if (slotSizeMib % blockSizeMib !== 0) {
    throw invalid(
      field("slotSizeMib"),
      `a multiple of blockSizeMib (${blockSizeMib})`,
      slotSizeMib,
    );
  }
  const totalSizeMib = integer(field("totalSizeMib"), total, slotSizeMib, HOTPLUG_MIB_MAX);
  if (totalSizeMib % slotSizeMib !== 0) {
    throw invalid(
      field("totalSizeMib"),
      `a multiple of slotSizeMib (${slotSizeMib})`,
      totalSizeMib,
    );
  }
  return { totalSizeMib, slotSizeMib, blockSizeMib };
}

/** How much is to be plugged, in MiB: whole blocks, at most all. */
export function checkRequestedSize(
  hotplug: CheckedMemoryHotplug,
  requestedSizeMib: number,
): number {
  const { totalSizeMib, blockSizeMib } = hotplug;
  integer("requestedSizeMib", requestedSizeMib, 0, totalSizeMib);
  if (requestedSizeMib % blockSizeMib === 0) return requestedSizeMib;
  throw invalid(
    "requestedSizeMib",
    `a multiple of blockSizeMib (${blockSizeMib})`,
    requestedSizeMib,
  );
}

/** What a microVM without it answers. */
export function noMemoryHotplug(): EstaloError {
  return new EstaloError("ERR_ESTALO_STATE", "this microVM can be given no more memory", {
    hint: "memoryHotplug: { totalSizeMib: 1024 } makes room for it",
  });
}
