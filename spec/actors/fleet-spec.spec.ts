import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { FleetQuery, FleetSpec } from "../../src/actors/fleet-messages.js";
import {
  checkFleetChange,
  checkFleetSpec,
  checkIdempotencyKey,
  checkQuery,
  cursorOf,
  specHash,
} from "../../src/actors/fleet-spec.js";
import { isEstaloError } from "../../src/errors.js";

function fieldOf(call: () => unknown): unknown {
  try {
    call();
    return undefined;
  } catch (error) {
    if (!isEstaloError(error)) throw error;
    return [
      (error as { code?: string }).code,
      (error as { data?: { field?: string } }).data?.field,
    ];
  }
}

const INVALID = "ERR_ESTALO_CONFIG_INVALID";

describe("checkFleetSpec", () => {
  it("fills in what is open", () => {
    expect(checkFleetSpec({})).toEqual({
      name: undefined,
      labels: {},
      config: {},
      restart: { policy: "no" },
      autoRemove: false,
      start: true,
    });
  });

  it.each([
    ["spec", null],
    ["spec.nmae", { nmae: "x" }],
    ["name", { name: "" }],
    ["name", { name: "../x" }],
    ["name", { name: "-x" }],
    ["name", { name: "x".repeat(65) }],
    ["name", { name: "a\n" }],
    ["labels", { labels: [] }],
    ["labels", { labels: { "": "x" } }],
    ["labels", { labels: { ["k".repeat(64)]: "x" } }],
    ["labels", { labels: { "a b": "x" } }],
    ["labels.a", { labels: { a: 1 } }],
    ["labels.a", { labels: { a: "x".repeat(257) } }],
    ["labels", { labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, ""])) }],
    ["restart.policy", { restart: {} }],
    ["restart.policy", { restart: { policy: "sometimes" } }],
    ["restart.maxRetries", { restart: { policy: "always", maxRetries: 1 } }],
    ["restart.maxRetries", { restart: { policy: "on-failure", maxRetries: -1 } }],
    ["restart.maxRetries", { restart: { policy: "on-failure", maxRetries: 0.5 } }],
    ["autoRemove", { autoRemove: "yes" }],
    ["start", { start: 1 }],
    ["vcpuCount", { config: { vcpuCount: 33 } }],
    ["config.nope", { config: { nope: 1 } }],
  ])("refuses %s of %j", (field, spec) => {
    expect(fieldOf(() => checkFleetSpec(spec as FleetSpec))).toEqual([INVALID, field]);
  });

  it("takes names, labels and policies at their limits", () => {
    const labels = { ["k".repeat(63)]: "v".repeat(256), "a.b/c_d-e": "", __proto__x: "y" };
    const spec = { name: "x".repeat(64), labels, restart: { policy: "on-failure", maxRetries: 0 } };
    expect(checkFleetSpec(spec as FleetSpec)).toMatchObject(spec);
  });

  it("refuses what JSON cannot hold, instead of losing it", () => {
    const circle: Record<string, unknown> = {};
    circle.self = circle;
    expect(fieldOf(() => checkFleetSpec({ config: { cpuTemplate: circle } }))).toEqual([
      INVALID,
      "config",
    ]);
  });

  it("keeps a copy: what the caller does to its own later is its own", () => {
    const drives = [{ path: "/a" }];
    const { config } = checkFleetSpec({ config: { drives } });
    drives[0].path = "/b";
    expect(config.drives?.[0].path).toBe("/a");
  });

  it("answers anything with a spec or an error of the catalogue", () => {
    fc.assert(
      fc.property(fc.anything({ withBigInt: true, withNullPrototype: true }), (value) => {
        const field = fieldOf(() => checkFleetSpec({ labels: value } as never));
        fieldOf(() => checkFleetSpec(value as never));
        fieldOf(() => checkFleetSpec({ config: value } as never));
        return field === undefined || Array.isArray(field);
      }),
    );
  });
});

describe("checkFleetChange", () => {
  it("keeps what is given and nothing else", () => {
    expect(checkFleetChange({ name: "n" })).toEqual({ name: "n" });
    expect(checkFleetChange({})).toEqual({});
    expect(fieldOf(() => checkFleetChange({ config: {} } as never))).toEqual([
      INVALID,
      "change.config",
    ]);
  });
});

describe("specHash", () => {
  const hash = (spec: FleetSpec) => specHash(checkFleetSpec(spec));

  it("is one for specs that say the same, whatever the order and the defaults", () => {
    const one = hash({
      name: "a",
      labels: { x: "1", y: "2" },
      config: { memoryMib: 64, vcpuCount: 1 },
    });
    const other = hash({
      config: { vcpuCount: 1, memoryMib: 64 },
      start: true,
      labels: { y: "2", x: "1" },
      name: "a",
    });
    expect(other).toBe(one);
  });

  it("is another when anything differs, the order of drives as well", () => {
    const drives = [{ path: "/a" }, { path: "/b" }];
    const hashes = [
      hash({}),
      hash({ start: false }),
      hash({ name: "a" }),
      hash({ labels: { a: "" } }),
      hash({ config: { drives } }),
      hash({ config: { drives: [...drives].reverse() } }),
    ];
    expect(new Set(hashes).size).toBe(hashes.length);
  });
});

describe("checkQuery", () => {
  it("has defaults, and takes its own cursors", () => {
    expect(checkQuery({})).toMatchObject({ limit: 100, after: 0 });
    expect(checkQuery({ after: cursorOf(12_345) }).after).toBe(12_345);
  });

  it.each([
    ["limit", { limit: 0 }],
    ["limit", { limit: 1001 }],
    ["states", { states: "running" }],
    ["states", { states: ["runing"] }],
    ["after", { after: "" }],
    ["after", { after: "o1" }],
    ["after", { after: Buffer.from("o-1").toString("base64url") }],
    ["after", { after: Buffer.from("o9".padEnd(20, "9")).toString("base64url") }],
    ["query.sort", { sort: "name" }],
  ])("refuses %s of %j", (field, query) => {
    expect(fieldOf(() => checkQuery(query as FleetQuery))).toEqual([INVALID, field]);
  });
});

describe("checkIdempotencyKey", () => {
  it("takes printable ASCII of 1 to 128 characters", () => {
    expect(checkIdempotencyKey(" ~".repeat(64))).toBe(" ~".repeat(64));
    for (const key of ["", "x".repeat(129), "tab\t", "é", "a\n", 5]) {
      expect(fieldOf(() => checkIdempotencyKey(key))).toEqual([INVALID, "idempotencyKey"]);
    }
  });
});
