/**
 * How a disk is made, and what it offers its driver: feature bits and configuration space. VirtIO 1.2 §§ 5.2.3, 5.2.4.
 */
import type { DiskBackend } from "../backend.js";
import type { RateLimiter } from "../rate-limiter.js";
import * as regs from "./block.regs.js";
import type { CacheType } from "./block.state.js";
import { MAX_RANGES } from "./block-request.js";
import type { FeatureBits } from "./device.js";
import { featureBits, RING_FEATURES } from "./features.js";

/** How a disk shows itself. */
export interface BlockOptions {
  readonly backend: DiskBackend;
  /** `Writeback` offers FLUSH; `Unsafe` leaves it to the host when writes become stable. */
  readonly cacheType: CacheType;
  /** Refuse writes even where the backend takes them (default: as the backend). */
  readonly readOnly?: boolean;
  /** Largest queue size in entries (default 256). */
  readonly queueSize?: number;
  /** Microseconds of a monotonic clock, for the latency metrics (default: none are kept). */
  readonly nowUs?: () => number;
  /** Asked before each request (default: no limit, at no cost). */
  readonly limiter?: RateLimiter;
}

/** Most sectors in one range: just under 2 GiB, what one host call takes. */
export const MAX_RANGE_SECTORS = 2 ** 22 - 1;
// File systems' block size: smaller holes free nothing.
const DISCARD_ALIGN_SECTORS = 8;
// Header and status take a descriptor each.
const FRAMING_DESCRIPTORS = 2;

/** The features of a disk over this backend. */
export function blockFeatures(
  backend: DiskBackend,
  shown: { readonly readOnly: boolean; readonly cacheType: CacheType },
): FeatureBits {
  const bits = [...RING_FEATURES, regs.FEATURE_SEG_MAX_BIT];
  if (shown.readOnly) bits.push(regs.FEATURE_RO_BIT);
  if (shown.cacheType === "Writeback") bits.push(regs.FEATURE_FLUSH_BIT);
  if (backend.supportsDiscard && !shown.readOnly) {
    bits.push(regs.FEATURE_DISCARD_BIT, regs.FEATURE_WRITE_ZEROES_BIT);
  }
  return featureBits(bits);
}

/** Configuration space; a partial last sector is not shown. */
export function blockConfig(backend: DiskBackend, queueSize: number): Uint8Array {
  const bytes = new Uint8Array(regs.CONFIG_BYTES);
  const view = new DataView(bytes.buffer);
  const capacitySectors = Math.floor(backend.sizeBytes / regs.SECTOR_BYTES);
  view.setBigUint64(regs.CONFIG_CAPACITY_OFFSET, BigInt(capacitySectors), true);
  view.setUint32(regs.CONFIG_SEG_MAX_OFFSET, Math.max(1, queueSize - FRAMING_DESCRIPTORS), true);
  if (backend.supportsDiscard) {
    view.setUint32(regs.CONFIG_MAX_DISCARD_SECTORS_OFFSET, MAX_RANGE_SECTORS, true);
    view.setUint32(regs.CONFIG_MAX_DISCARD_SEG_OFFSET, MAX_RANGES, true);
    view.setUint32(regs.CONFIG_DISCARD_SECTOR_ALIGNMENT_OFFSET, DISCARD_ALIGN_SECTORS, true);
    view.setUint32(regs.CONFIG_MAX_WRITE_ZEROES_SECTORS_OFFSET, MAX_RANGE_SECTORS, true);
    view.setUint32(regs.CONFIG_MAX_WRITE_ZEROES_SEG_OFFSET, MAX_RANGES, true);
    view.setUint8(regs.CONFIG_WRITE_ZEROES_MAY_UNMAP_OFFSET, 1);
  }
  return bytes;
}
