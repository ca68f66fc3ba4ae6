/**
 * RAM regions of a microVM and the memory map its kernel is told (e820 and PVH use the same types).
 *
 *     0 ── RAM ── 0x9fc00 ─ reserved ─ 0xe0000 ··· 1 MiB ── RAM ── 3 GiB ··· 4 GiB ── RAM ──
 *
 * Invariants: regions are page-aligned and ascending; the map's entries are ascending, do not
 * overlap, and all RAM in them is backed by a region. Specification: ACPI 6.5 § 15 (address range
 * types).
 */
import { EstaloError } from "../errors.js";
import type { MemoryRegion } from "../native/guest-memory.js";
import { alignUp, type Gpa, MIB } from "../units.js";
import {
  DEVICE_MEMORY_ALIGNMENT_BYTES,
  HIGH_MEMORY_GPA,
  MMIO_GAP_END_GPA,
  MMIO_GAP_START_GPA,
  SYSTEM_AREA_END_GPA,
  SYSTEM_AREA_GPA,
} from "./layout.js";

/** Smallest memory that holds a kernel of today and an init. */
export const MEMORY_MIB_MIN = 32;
/** 255 GiB: with the 1 GiB gap this ends at 256 GiB, the end of the map's RAM region 1. */
export const MEMORY_MIB_MAX = 255 * 1024;

/** e820 range types. */
export const E820_RAM = 1;
export const E820_RESERVED = 2;

/** One line of the memory map. */
export interface MemoryMapEntry {
  readonly start: Gpa;
  readonly sizeBytes: number;
  /** E820_RAM or E820_RESERVED. */
  readonly type: number;
}

/**
 * The RAM regions of a microVM: one up to 3 GiB, a second above 4 GiB for what is left.
 *
 * @param memoryMib - MEMORY_MIB_MIN to MEMORY_MIB_MAX; else ERR_ESTALO_CONFIG_INVALID, or
 *   ERR_ESTALO_MEMORY_TOO_SMALL below the minimum
 */
export function ramRegions(memoryMib: number): MemoryRegion[] {
  if (!Number.isInteger(memoryMib) || memoryMib > MEMORY_MIB_MAX) {
    throw new EstaloError(
      "ERR_ESTALO_CONFIG_INVALID",
      `memory is ${MEMORY_MIB_MIN} to ${MEMORY_MIB_MAX} MiB in whole MiB, not ${memoryMib}`,
      { data: { memoryMib, minimumMib: MEMORY_MIB_MIN, maximumMib: MEMORY_MIB_MAX } },
    );
  }
  if (memoryMib < MEMORY_MIB_MIN) {
    throw new EstaloError(
      "ERR_ESTALO_MEMORY_TOO_SMALL",
      `a microVM needs at least ${MEMORY_MIB_MIN} MiB of memory, not ${memoryMib}`,
      { data: { neededMib: MEMORY_MIB_MIN, givenMib: memoryMib } },
    );
  }
  const sizeBytes = memoryMib * MIB;
  const low: MemoryRegion = { start: 0, sizeBytes: Math.min(sizeBytes, MMIO_GAP_START_GPA) };
  if (low.sizeBytes === sizeBytes) return [low];
  return [low, { start: MMIO_GAP_END_GPA, sizeBytes: sizeBytes - low.sizeBytes }];
}

/**
 * First address for memory that the memory map does not tell of, since devices bring it: persistent memory, and
 * what is plugged later. Firecracker's begins at 512 GiB, which processors with 39 address bits do not reach.
 */
export function deviceMemoryStart(regions: readonly MemoryRegion[]): Gpa {
  const ends = regions.map(({ start, sizeBytes }) => start + sizeBytes);
  return alignUp(Math.max(MMIO_GAP_END_GPA, ...ends), DEVICE_MEMORY_ALIGNMENT_BYTES);
}

/** The memory map for these regions: conventional memory, system area, then RAM from 1 MiB on. */
export function memoryMap(regions: readonly MemoryRegion[]): MemoryMapEntry[] {
  const map: MemoryMapEntry[] = [
    { start: 0, sizeBytes: SYSTEM_AREA_GPA, type: E820_RAM },
    {
      start: SYSTEM_AREA_GPA,
      sizeBytes: SYSTEM_AREA_END_GPA - SYSTEM_AREA_GPA,
      type: E820_RESERVED,
    },
  ];
  for (const region of regions) {
    const start = Math.max(region.start, HIGH_MEMORY_GPA);
    map.push({
      start,
      sizeBytes: region.start + region.sizeBytes - start,
      type: E820_RAM,
    });
  }
  return map;
}
