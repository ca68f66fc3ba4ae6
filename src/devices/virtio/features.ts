/**
 * Feature bits as two u32 words: made from bit numbers, and asked for one bit. VirtIO 1.2 § 2.2.
 */
import type { FeatureBits } from "./device.js";
import { FEATURE_EVENT_IDX_BIT, FEATURE_INDIRECT_DESC_BIT } from "./mmio-transport.regs.js";

const VERSION_1_BIT = 32;

/** Offered by every device here, VirtIO 1.2 § 6. */
export const RING_FEATURES: readonly number[] = [
  FEATURE_INDIRECT_DESC_BIT,
  FEATURE_EVENT_IDX_BIT,
  VERSION_1_BIT,
];

/** The words with these bits (0 to 63) set. */
export function featureBits(bits: readonly number[]): FeatureBits {
  let low = 0;
  let high = 0;
  for (const bit of bits) {
    if (bit < 32) low |= 1 << bit;
    else high |= 1 << (bit - 32);
  }
  return { low: low >>> 0, high: high >>> 0 };
}

/** Whether `bit` (0 to 63) is set. */
export function hasFeature(features: FeatureBits, bit: number): boolean {
  const word = bit < 32 ? features.low : features.high;
  return ((word >>> (bit % 32)) & 1) !== 0;
}
