/** The host's random numbers for a guest's entropy device. */
import { randomFillSync } from "node:crypto";
import type { EntropySource } from "../../devices/backend.js";

/** Node's generator, seeded by the kernel. */
export const hostEntropy: EntropySource = {
  fill(bytes) {
    randomFillSync(bytes);
  },
};
