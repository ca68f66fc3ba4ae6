/** Door 2's schemas and the library's own checks take and refuse the same configurations. */

import { Compile } from "typebox/compile";
import { describe, expect, it } from "vitest";
import { checkConfig, type MicroVmConfig } from "../../../src/actors/config.js";
import { Config } from "../../../src/api/v1/config-schemas.js";
import { FleetSpec, Labels } from "../../../src/api/v1/schemas.js";

const kernel = "/boot/vmlinux";

/** A configuration that a schema can judge: one field at a time, without rules between fields. */
const GOOD: readonly MicroVmConfig[] = [
  {},
  { id: "a" },
  { id: "A-1".padEnd(64, "x") },
  { vcpuCount: 1 },
  { vcpuCount: 32 },
  { memoryMib: 32 },
  { memoryMib: 255 * 1024 },
  { smt: true },
  { hugePages: true },
  { hugePages: "transparent" },
  { entropy: false },
  { vsock: {} },
  { vsock: { guestCid: 4_294_967_294, udsPath: "/run/v.sock", connectionsMax: 1 } },
  { networkInterfaces: [{ tap: "tap0", mac: "06:00:AC:10:00:02", mtu: 1500 }] },
  { networkInterfaces: [{ id: "eth0", tap: "tap0", rxRateLimiter: {} }] },
  { networkInterfaces: [{ user: { forwards: [{ hostPort: 8080, guestPort: 80 }] } }] },
  { entropy: { rateLimiter: { ops: { size: 1, refillTimeMs: 1 } } } },
  { serial: { rateLimiter: { size: 1, refillTimeMs: 1, oneTimeBurst: 2 } } },
  { bootArgs: "" },
  { initrd: "x" },
  { cpuTemplate: { cpuid_modifiers: [] } },
  { drives: [] },
  { drives: [{ path: "/a" }] },
  { drives: [{ id: "größe_1", path: "/a", readOnly: true, cacheType: "Unsafe" }] },
  { drives: [{ path: "/a", isRoot: true, partuuid: "0-1", ioEngine: "libuv" }] },
];

const BAD: readonly unknown[] = [
  null,
  [],
  "x",
  { id: "" },
  { id: "a_b" },
  { id: "x".repeat(65) },
  { kernel: "" },
  { kernel: "a\0b" },
  { kernel: 1 },
  { initrd: "" },
  { bootArgs: 1 },
  { vcpuCount: 0 },
  { vcpuCount: 33 },
  { vcpuCount: 1.5 },
  { vcpuCount: "1" },
  { memoryMib: 31 },
  { memoryMib: 255 * 1024 + 1 },
  { smt: 1 },
  { hugePages: "yes" },
  { entropy: 1 },
  { vsock: { guestCid: 2 } },
  { vsock: { udsPath: "" } },
  { vsock: { udsPath: "x".repeat(97) } },
  { vsock: { connectionsMax: 0 } },
  { networkInterfaces: [{ user: { forwards: [{ hostPort: 0, guestPort: 1 }] } }] },
  { networkInterfaces: [{ tap: "" }] },
  { networkInterfaces: [{ tap: "tap0", mac: "01:00:00:00:00:00" }] },
  { networkInterfaces: [{ tap: "tap0", mac: "0:0:0:0:0:0" }] },
  { networkInterfaces: [{ tap: "tap0", mtu: 67 }] },
  { networkInterfaces: [{ tap: "tap0", link: true }] },
  { entropy: { other: 1 } },
  { entropy: { rateLimiter: { ops: { size: -1, refillTimeMs: 1 } } } },
  { serial: { rateLimiter: { size: 1 } } },
  { drives: [{ path: "/a", rateLimiter: { bandwidth: {} } }] },
  { cpuTemplate: "" },
  { cpuTemplate: 1 },
  { drives: {} },
  { drives: [{}] },
  { drives: [{ path: "" }] },
  { drives: [{ path: "/a", id: "a-b" }] },
  { drives: [{ path: "/a", cacheType: "unsafe" }] },
  { drives: [{ path: "/a", ioEngine: "Sync" }] },
  { drives: [{ path: "/a", unknown: 1 }] },
  { unknown: 1 },
];

describe("Config", () => {
  const schema = Compile(Config);

  it.each(GOOD)("takes what the library takes: %j", (config) => {
    expect(() => checkConfig({ kernel, ...config })).not.toThrow();
    expect(schema.Check(config)).toBe(true);
  });

  it.each(BAD)("refuses what the library refuses: %j", (config) => {
    const complete = Array.isArray(config) || config === null ? config : withKernel(config);
    expect(() => checkConfig(complete as never)).toThrow();
    expect(schema.Check(config)).toBe(false);
  });
});

function withKernel(config: unknown): unknown {
  return typeof config === "object" ? { kernel, ...config } : config;
}

describe("FleetSpec", () => {
  const schema = Compile(FleetSpec);

  it.each([{}, { name: "web-1.a_b" }, { labels: { "app.kubernetes.io/name": "x" } }])(
    "takes %j",
    (spec) => expect(schema.Check(spec)).toBe(true),
  );

  it.each([
    { name: "" },
    { name: ".." },
    { name: "a/b" },
    { name: "x".repeat(65) },
    { labels: { "": "x" } },
    { labels: { a: 1 } },
    { labels: { a: "x".repeat(257) } },
    { restart: {} },
    { restart: { policy: "sometimes" } },
    { restart: { policy: "on-failure", maxRetries: -1 } },
    { start: "no" },
    { other: 1 },
  ])("refuses %j", (spec) => expect(schema.Check(spec)).toBe(false));
});

describe("bounds", () => {
  it("64 labels at most", () => {
    const labels = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, ""]));
    expect(Compile(Labels).Check(labels(64))).toBe(true);
    expect(Compile(Labels).Check(labels(65))).toBe(false);
  });
});
