import { describe, expect, it } from "vitest";
import { createSharedBlock } from "../../src/actors/shared-block.js";
import { EXIT_RING_BYTES } from "../../src/native/exit-ring.js";
import { TRACE_BYTES, VCPU_CONTROL_BYTES } from "../../src/native/layouts.js";

describe("createSharedBlock", () => {
  it.each([
    [1, [4]],
    [3, [1, 17, 1500, 1]],
    [32, [1]],
  ])(
    "lays out %d vCPUs and devices of %o words apart, on cache lines of their own",
    (count, words) => {
      const { buffer, vcpus, deviceOffsets } = createSharedBlock(count, words);
      expect(vcpus).toHaveLength(count);
      const parts = [
        ...vcpus.flatMap(({ controlOffset, ringOffset, traceOffset }) => [
          [controlOffset, VCPU_CONTROL_BYTES],
          [ringOffset, EXIT_RING_BYTES],
          [traceOffset, TRACE_BYTES],
        ]),
        ...deviceOffsets.map((offset, index) => [offset, words[index] * 4]),
      ];
      let end = 0;
      for (const [offset, bytes] of parts) {
        expect(offset % 64).toBe(0);
        expect(offset).toBeGreaterThanOrEqual(end);
        end = offset + bytes;
      }
      expect(end).toBeLessThanOrEqual(buffer.byteLength);
      expect(buffer.byteLength - end).toBeLessThan(64);
    },
  );

  it("is shared memory of zeros", () => {
    const { buffer } = createSharedBlock(1, [10]);
    expect(buffer).toBeInstanceOf(SharedArrayBuffer);
    expect(new Uint8Array(buffer).every((byte) => byte === 0)).toBe(true);
  });
});
