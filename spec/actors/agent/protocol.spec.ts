import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import * as protocol from "../../../src/actors/agent/protocol.js";
import { isEstaloError } from "../../../src/errors.js";

const { FRAME, FrameReader, encodeFrame } = protocol;

describe("the protocol's numbers", () => {
  it("are the agent's", () => {
    const header = readFileSync("guest/agent/agent.h", "utf8");
    const theirs = Object.fromEntries(
      [...header.matchAll(/^ {2}([A-Z_]+) = (\w+),/gm)].map(([, name, value]) => [
        name,
        Number(value),
      ]),
    );
    const { FRAME: frames, ...numbers } = protocol;
    const ours = Object.entries({ ...frames, ...numbers }).filter(
      ([, value]) => typeof value === "number",
    );
    expect(theirs).toEqual(Object.fromEntries(ours));
    expect(ours.length).toBeGreaterThan(30);
  });
});

const frames = fc.array(
  fc.record({ type: fc.integer({ min: 0, max: 255 }), payload: fc.uint8Array({ maxLength: 300 }) }),
  { maxLength: 20 },
);

describe("FrameReader", () => {
  it("gives the frames that were sent, however the bytes were cut", () => {
    fc.assert(
      fc.property(
        frames,
        fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1 }),
        (sent, cuts) => {
          const bytes = Buffer.concat(sent.map(({ type, payload }) => encodeFrame(type, payload)));
          const reader = new FrameReader();
          const got: { type: number; payload: Uint8Array }[] = [];
          for (let at = 0, cut = 0; at < bytes.length; cut++) {
            const end = at + cuts[cut % cuts.length];
            for (const { type, payload } of reader.take(bytes.subarray(at, end))) {
              got.push({ type, payload: Uint8Array.from(payload) });
            }
            at = end;
          }
          expect(got).toEqual(sent);
          expect(reader.isInside).toBe(false);
        },
      ),
    );
  });

  it("keeps a frame that comes byte by byte in a few parts", () => {
    const sent = encodeFrame(FRAME.DATA, Buffer.alloc(protocol.PAYLOAD_BYTES_MAX, "estalo"));
    const reader = new FrameReader();
    const concat = vi.spyOn(Buffer, "concat");
    try {
      const got = [...sent].flatMap((byte) => [...reader.take(Buffer.from([byte]))]);
      expect(got.map(({ payload }) => payload)).toEqual([sent.subarray(protocol.HEADER_BYTES)]);
      expect(Math.max(...concat.mock.calls.map(([parts]) => parts.length))).toBeLessThan(100);
    } finally {
      concat.mockRestore();
    }
  });

  it("refuses another version and a frame that is too long before it comes", () => {
    const refused = expect.objectContaining({ code: "ERR_ESTALO_AGENT_PROTOCOL" });
    const version = encodeFrame(1);
    version[1] = 2;
    expect(() => [...new FrameReader().take(version)]).toThrow(refused);
    const long = encodeFrame(1);
    long.writeUInt32LE(protocol.PAYLOAD_BYTES_MAX + 1, 4);
    expect(() => [...new FrameReader().take(long)]).toThrow(refused);
  });
});

describe("what the guest says", () => {
  const decoders: readonly ((payload: Buffer) => unknown)[] = [
    protocol.decodeEntry,
    protocol.decodeExit,
    protocol.decodeFailure,
    protocol.decodeHealth,
    (payload) => protocol.decodeNumber(payload, 4, "a number"),
    (payload) => protocol.decodeNumber(payload, 8, "a number"),
  ];

  it("is taken or refused whatever it is, never anything else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
        for (const decode of decoders) {
          try {
            decode(Buffer.from(bytes));
          } catch (error) {
            if (!isEstaloError(error) || error.code !== "ERR_ESTALO_AGENT_PROTOCOL") throw error;
          }
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("has names of one component only, sizes that are numbers, and times that are some", () => {
    const entry = (name: string, change = (_payload: Buffer) => {}) => {
      const info = { name, kind: "file", mode: 0o644, mtimeMs: 1000.5, target: "" } as const;
      const payload = protocol.encodeEntry(info);
      change(payload);
      return protocol.decodeEntry(payload);
    };
    expect(entry("ü")).toMatchObject({ name: "ü", kind: "file", mode: 0o644, mtimeMs: 1000.5 });
    const refused = expect.objectContaining({ code: "ERR_ESTALO_AGENT_PROTOCOL" });
    for (const name of ["..", ".", "/etc", "a/b", "../x", "x".repeat(256)]) {
      expect(() => entry(name), name).toThrow(refused);
    }
    expect(() => entry("a", (payload) => payload.fill(255, 12, 20))).toThrow(refused);
    expect(() => entry("a", (payload) => payload.fill(255, 28, 36))).toThrow(refused);
    expect(() => entry("a", (payload) => payload.fill(255, 36, 40))).toThrow(refused);
  });

  it("is asked for with types that a frame tells apart", () => {
    const types = Object.values(FRAME);
    expect(new Set(types).size).toBe(types.length);
  });
});
