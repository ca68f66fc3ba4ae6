/**
 * Random numbers that a seed repeats: the key stream of AES-256 in counter mode, keyed by the seed's digest.
 */
import { createCipheriv, createHash } from "node:crypto";

/** Gives a number from 0 to below 1. */
export type Random = () => number;

const NUMBER_BYTES = 6;
const BLOCK_BYTES = 512 * NUMBER_BYTES;
const RANGE = 2 ** (8 * NUMBER_BYTES);

/** The sequence of `seed`, evenly distributed. */
export function seededRandom(seed: string): Random {
  const key = createHash("sha256").update(seed).digest();
  const cipher = createCipheriv("aes-256-ctr", key, Buffer.alloc(16));
  const zeros = Buffer.alloc(BLOCK_BYTES);
  let block = zeros;
  let at = BLOCK_BYTES;
  return () => {
    if (at === BLOCK_BYTES) {
      block = cipher.update(zeros);
      at = 0;
    }
    at += NUMBER_BYTES;
    return block.readUIntBE(at - NUMBER_BYTES, NUMBER_BYTES) / RANGE;
  };
}

/** Exponentially distributed, `mean` on average: gaps of a Poisson process, for one. */
export function exponential(mean: number, random: Random): number {
  return -mean * Math.log(1 - random());
}
