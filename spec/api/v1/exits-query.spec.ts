import { describe, expect, it } from "vitest";
import { readExitsQuery } from "../../../src/api/v1/exits-query.js";

describe("readExitsQuery", () => {
  it("reads every parameter, comma lists also when they are repeated", () => {
    const query = {
      ...{ kind: ["pio,mmio", "notify"], device: ["drive root,none"], vcpu: ["0,1"], size: ["4"] },
      ...{ direction: "write" as const, address: "0xC0001000-0xc0001fff", sample: 10, history: 5 },
      ...{ rip: true, format: "binary" as const },
    };
    expect(readExitsQuery(query)).toEqual({
      watch: {
        ...{ kinds: ["pio", "mmio", "notify"], devices: ["drive root", "none"], vcpus: [0, 1] },
        ...{ sizes: [4], direction: "write", addresses: [0xc0001000, 0xc0001fff] },
        ...{ sampleEvery: 10, history: 5, rip: true },
      },
      isBinary: true,
      counting: undefined,
    });
  });

  it("asks for everything as JSON when nothing is said", () => {
    expect(readExitsQuery({})).toEqual({ watch: {}, isBinary: false, counting: undefined });
  });

  it("takes one address for a range of one", () => {
    expect(readExitsQuery({ address: "1016" }).watch.addresses).toEqual([1016, 1016]);
  });

  it("counts with by", () => {
    expect(readExitsQuery({ by: ["device", "address"], windowMs: 100 }).counting).toEqual({
      by: ["device", "address"],
      windowMs: 100,
    });
  });

  it.each([
    [{ windowMs: 100 }, /windowMs needs by/],
    [{ by: ["kind"], format: "binary" as const }, /do not go together/],
  ])("refuses %j", (query, message) => {
    expect(() => readExitsQuery(query)).toThrow(message);
    expect(() => readExitsQuery(query)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_REQUEST" }),
    );
  });
});
