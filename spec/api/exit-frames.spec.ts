import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EXIT_BYTES, EXIT_BYTES_WITH_RIP, ExitBatch } from "../../src/actors/exit-batch.js";
import { decodeExitFrame, encodeExitFrame } from "../../src/api/exit-frames.js";

const DEVICES = ["serial", "entropy"];

/** Any batch: its columns are any bytes. */
const batches = fc
  .record({
    length: fc.nat(20),
    hasRip: fc.boolean(),
    seed: fc.uint8Array({ minLength: 1, maxLength: 200 }),
    lost: fc.nat(),
    dropped: fc.nat(),
  })
  .map(({ length, hasRip, seed, lost, dropped }) => {
    const batch = new ExitBatch({ length, hasRip }, DEVICES, { lost, dropped });
    const bytes = new Uint8Array(batch.buffer);
    for (let i = 0; i < bytes.length; i++) bytes[i] = seed[i % seed.length];
    return batch;
  });

const REFUSED = expect.objectContaining({ code: "ERR_ESTALO_REPLY" });

describe("a frame", () => {
  it("gives its batch back, wherever it lies in memory", () => {
    fc.assert(
      fc.property(batches, fc.nat(9), (batch, offset) => {
        const frame = encodeExitFrame(batch);
        const moved = new Uint8Array(offset + frame.length);
        moved.set(frame, offset);
        const decoded = decodeExitFrame(moved.subarray(offset), DEVICES);
        moved.fill(0);
        expect(decoded.toArray()).toEqual(batch.toArray());
        expect(new Uint8Array(decoded.buffer)).toEqual(new Uint8Array(batch.buffer));
        expect(decoded).toMatchObject({ lost: batch.lost, dropped: batch.dropped });
      }),
    );
  });

  it("has 32 bytes before its columns, 44 for each exit, 8 more with RIP", () => {
    for (const [hasRip, bytes] of [
      [false, EXIT_BYTES],
      [true, EXIT_BYTES_WITH_RIP],
    ] as const) {
      const batch = new ExitBatch({ length: 3, hasRip }, DEVICES, { lost: 1, dropped: 2 });
      expect(encodeExitFrame(batch)).toHaveLength(32 + 3 * bytes);
    }
    expect([EXIT_BYTES, EXIT_BYTES_WITH_RIP]).toEqual([44, 52]);
  });

  it("lies as docs/streams.md says, byte by byte", () => {
    const batch = new ExitBatch({ length: 1, hasRip: true }, DEVICES, { lost: 5, dropped: 6 });
    batch.atNs[0] = 1;
    batch.address[0] = 2;
    batch.data[0] = 0x0102030405060708n;
    (batch.rip as BigUint64Array)[0] = 3n;
    batch.sequence[0] = 4;
    batch.guestNs[0] = 5;
    batch.hostNs[0] = 6;
    batch.count[0] = 7;
    batch.kind[0] = 8;
    batch.access[0] = 0x84;
    batch.vcpu[0] = 9;
    batch.device[0] = 10;
    expect(Buffer.from(encodeExitFrame(batch)).toString("hex").match(/.{16}/g)).toEqual([
      ...["4558495401012000", "0100000000000000", "0000000000001440", "0000000000001840"],
      ...["000000000000f03f", "0000000000000040", "0807060504030201", "0300000000000000"],
      ...["0400000005000000", "0600000007000000"],
    ]);
    expect(Buffer.from(encodeExitFrame(batch)).toString("hex").slice(-8)).toBe("0884090a");
  });

  it("is refused when it is none, whatever the bytes are", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(() => decodeExitFrame(bytes)).toThrow(REFUSED);
      }),
    );
  });

  it("is refused when any byte of its header, or its length, is wrong", () => {
    const batch = new ExitBatch({ length: 2, hasRip: false }, DEVICES, { lost: 0, dropped: 0 });
    const frame = encodeExitFrame(batch);
    const header = fc.record({ at: fc.nat(11), value: fc.integer({ min: 1, max: 255 }) });
    fc.assert(
      fc.property(header, ({ at, value }) => {
        const wrong = frame.slice();
        wrong[at] ^= value;
        expect(() => decodeExitFrame(wrong)).toThrow(REFUSED);
      }),
    );
    for (let length = 0; length < frame.length; length++) {
      expect(() => decodeExitFrame(frame.subarray(0, length))).toThrow(REFUSED);
    }
    const longer = new Uint8Array(frame.length + 1);
    longer.set(frame);
    expect(() => decodeExitFrame(longer)).toThrow(REFUSED);
  });

  it("of a later server with a longer header is read", () => {
    const batch = new ExitBatch({ length: 1, hasRip: false }, DEVICES, { lost: 3, dropped: 0 });
    batch.address[0] = 77;
    const frame = encodeExitFrame(batch);
    const longer = new Uint8Array(frame.length + 8);
    longer.set(frame.subarray(0, 32));
    longer.set(frame.subarray(32), 40);
    longer[6] = 40;
    expect(decodeExitFrame(longer).get(0).address).toBe(77);
  });
});
