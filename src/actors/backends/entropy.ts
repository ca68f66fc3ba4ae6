/** The host's random numbers for a guest's entropy device. */
import { randomFillSync } from "node:crypto";
import type { EntropySource } from "../../devices/backend.js";

/** Drawn at once: a call for 64 bytes costs as much as one for this many. */
const POOL_BYTES = 4096;
/** Requests above this are drawn by themselves. */
const POOLED_BYTES_MAX = 256;

const pool = new Uint8Array(POOL_BYTES);
let used = POOL_BYTES;

/** Node's generator, seeded by the kernel. No byte is given twice, and none is kept once given. */
export const hostEntropy: EntropySource = {
  fill(bytes, count) {
    if (count > POOLED_BYTES_MAX) {
      randomFillSync(bytes, 0, count);
      return;
    }
    if (used + count > POOL_BYTES) {
      randomFillSync(pool);
      used = 0;
    }
    // A loop allocates no view, and so few bytes take no longer than V8's way to its own copy.
    for (let index = 0; index < count; index++) {
      bytes[index] = pool[used];
      pool[used++] = 0;
    }
  },
};
