/** Frames of a cell, whole and in pieces, and what is none. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeFrame, FRAME, FRAME_HEADER_BYTES, FrameReader } from "../../src/isolation/frames.js";

const frames = fc.record({
  type: fc.constantFrom(...Object.values(FRAME)),
  stream: fc.nat(),
  payload: fc.uint8Array({ maxLength: 300 }),
});

describe("FrameReader", () => {
  it("gives back what was encoded, however it is cut", () => {
    fc.assert(
      fc.property(
        fc.array(frames, { maxLength: 8 }),
        fc.integer({ min: 1, max: 50 }),
        (all, cut) => {
          const bytes = Buffer.concat(
            all.map(({ type, stream, payload }) => encodeFrame(type, stream, payload)),
          );
          const reader = new FrameReader(300);
          const got = [];
          for (let at = 0; at < bytes.length; at += cut) {
            got.push(...reader.take(bytes.subarray(at, at + cut)));
          }
          expect(got.map((one) => ({ ...one, payload: new Uint8Array(one.payload) }))).toEqual(
            all.map((one) => ({ ...one, payload: new Uint8Array(one.payload) })),
          );
        },
      ),
    );
  });

  it.each([
    ["longer than allowed", [11, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]],
    ["4 GiB long", [255, 255, 255, 255, 0, 0, 0, 0, 1, 0, 0, 0]],
    ["of type 0", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    ["of an unknown type", [0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]],
    ["with something where nothing is", [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1]],
  ])("refuses a frame %s", (_what, header) => {
    const take = () => [...new FrameReader(10).take(Uint8Array.from(header))];
    expect(take).toThrow(expect.objectContaining({ code: "ERR_ESTALO_CELL" }));
  });

  it("takes any bytes: frames within bounds, or a refusal, and keeps no more than one payload", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 64 })), (pieces) => {
        const reader = new FrameReader(16);
        try {
          for (const piece of pieces) {
            for (const { payload, type } of reader.take(piece)) {
              expect(payload.length).toBeLessThanOrEqual(16);
              expect(Object.values(FRAME)).toContain(type);
            }
          }
        } catch (error) {
          expect(error).toMatchObject({ code: "ERR_ESTALO_CELL" });
        }
      }),
    );
    expect(FRAME_HEADER_BYTES).toBe(12);
  });
});
