import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { checkConfig, type MicroVmConfig } from "../../src/actors/config.js";
import { EstaloError } from "../../src/errors.js";

const check = (config: unknown) => checkConfig({ kernel: "vmlinux", ...(config as MicroVmConfig) });

/** The error of a configuration that is refused. */
function refusal(config: unknown): EstaloError {
  try {
    check(config);
  } catch (error) {
    expect(error).toBeInstanceOf(EstaloError);
    return error as EstaloError;
  }
  throw new Error("the configuration was taken");
}

describe("checkConfig", () => {
  it("fills in every default", () => {
    expect(check({})).toEqual({
      id: expect.stringMatching(/^vm-[a-z0-9]+$/),
      kernel: "vmlinux",
      initrd: undefined,
      bootArgs: undefined,
      vcpuCount: 1,
      smt: false,
      memoryMib: 128,
      hugePages: false,
      drives: [],
      entropy: {},
      networkInterfaces: [],
      devices: [],
      pmem: [],
      balloon: undefined,
      memoryHotplug: undefined,
      vsock: undefined,
      serial: {},
      cpuTemplate: undefined,
    });
    expect(check({ drives: [{ path: "disk" }] }).drives).toEqual([
      {
        id: "drive0",
        path: "disk",
        isRoot: false,
        partuuid: undefined,
        readOnly: false,
        cacheType: "Writeback",
        ioEngine: "auto",
        rateLimiter: {},
      },
    ]);
  });

  it("gives every microVM an id of its own", () => {
    expect(check({}).id).not.toBe(check({}).id);
  });

  it.each([
    [{ vcpuCount: 1 }],
    [{ vcpuCount: 32 }],
    [{ vcpuCount: 1, smt: true }],
    [{ vcpuCount: 4, smt: true }],
    [{ memoryMib: 32 }],
    [{ memoryMib: 261_120 }],
    [{ memoryMib: 64, hugePages: true }],
    [{ memoryMib: 64, hugePages: "transparent" }],
    [{ id: "A-9" }],
    [{ id: "x".repeat(64) }],
    [{ bootArgs: "" }],
    [{ smt: true }],
    [{ cpuTemplate: { cpuid_modifiers: [] } }],
    [{ drives: [{ path: "a", id: "größe_1" }] }],
  ])("takes %o as it is", (config) => {
    const checked = check(config) as unknown as Record<string, unknown>;
    const { drives, ...rest } = config as MicroVmConfig;
    expect(checked).toMatchObject(rest);
    if (drives !== undefined) expect(checked.drives).toMatchObject([...drives]);
  });

  const circular: Record<string, unknown> = {};
  circular.self = circular;
  it.each<[string, unknown]>([
    ["id", { id: "" }],
    ["id", { id: "under_score" }],
    ["id", { id: "x".repeat(65) }],
    ["id", { id: "line\n" }],
    ["id", { id: 42 }],
    ["kernel", { kernel: "" }],
    ["kernel", { kernel: 5 }],
    ["kernel", { kernel: "a\0b" }],
    ["initrd", { initrd: "" }],
    ["initrd", { initrd: true }],
    ["bootArgs", { bootArgs: 5 }],
    ["bootArgs", { bootArgs: ["quiet"] }],
    ["vcpuCount", { vcpuCount: 0 }],
    ["vcpuCount", { vcpuCount: -1 }],
    ["vcpuCount", { vcpuCount: 33 }],
    ["vcpuCount", { vcpuCount: 1.5 }],
    ["vcpuCount", { vcpuCount: "2" }],
    ["vcpuCount", { vcpuCount: 2n }],
    ["vcpuCount", { vcpuCount: Number.NaN }],
    ["vcpuCount", { vcpuCount: circular }],
    ["vcpuCount", { vcpuCount: 3, smt: true }],
    ["smt", { smt: 1 }],
    ["smt", { smt: "true" }],
    ["memoryMib", { memoryMib: 261_121 }],
    ["memoryMib", { memoryMib: 64.5 }],
    ["memoryMib", { memoryMib: "64" }],
    ["memoryMib", { memoryMib: Number.NaN }],
    ["memoryMib", { memoryMib: Number.POSITIVE_INFINITY }],
    ["memoryMib", { memoryMib: 65, hugePages: true }],
    ["hugePages", { hugePages: "2M" }],
    ["entropy.rate", { entropy: { rate: 1 } }],
    ["serial.rateLimiter.size", { serial: { rateLimiter: { size: "1" } } }],
    [
      "drives[0].rateLimiter.ops.refillTimeMs",
      { drives: [{ path: "a", rateLimiter: { ops: { size: 1 } } }] },
    ],
    ["cpuTemplate", { cpuTemplate: 5 }],
    ["cpuTemplate", { cpuTemplate: "" }],
    ["cpuTemplate", { cpuTemplate: [] }],
    ["drives", { drives: "disk.img" }],
    ["drives", { drives: { path: "disk.img" } }],
    [
      "drives",
      {
        drives: [
          { path: "a", isRoot: true },
          { path: "b", isRoot: true },
        ],
      },
    ],
    ["drives[0]", { drives: ["disk.img"] }],
    ["drives[0]", { drives: [null] }],
    ["drives[0].path", { drives: [{}] }],
    ["drives[0].path", { drives: [{ path: "" }] }],
    ["drives[0].id", { drives: [{ path: "a", id: "" }] }],
    ["drives[0].id", { drives: [{ path: "a", id: "with-hyphen" }] }],
    ["drives[0].id", { drives: [{ path: "a", id: "x".repeat(65) }] }],
    ["drives[0].id", { drives: [{ path: "a", id: 7 }] }],
    [
      "drives[1].id",
      {
        drives: [
          { path: "a", id: "d" },
          { path: "b", id: "d" },
        ],
      },
    ],
    ["drives[1].id", { drives: [{ path: "a", id: "drive1" }, { path: "b" }] }],
    ["drives[0].isRoot", { drives: [{ path: "a", isRoot: "yes" }] }],
    ["drives[0].partuuid", { drives: [{ path: "a", partuuid: "0eaa91a0-01" }] }],
    ["drives[0].partuuid", { drives: [{ path: "a", partuuid: "", isRoot: true }] }],
    ["drives[0].readOnly", { drives: [{ path: "a", readOnly: 0 }] }],
    ["drives[0].cacheType", { drives: [{ path: "a", cacheType: "writeback" }] }],
    ["drives[0].ioEngine", { drives: [{ path: "a", ioEngine: "sync" }] }],
    ["drives[0].size", { drives: [{ path: "a", size: 5 }] }],
    ["config.memory", { memory: 256 }],
    ["config.kernels", { kernels: "vmlinux" }],
  ])("names %s as the field that is wrong in %o", (field, config) => {
    const error = refusal(config);
    expect(error).toMatchObject({ code: "ERR_ESTALO_CONFIG_INVALID", data: { field } });
    expect(error.message.startsWith(`${field}: expected ${error.data.expected}, got `)).toBe(true);
    // What crosses a thread or a socket must not fail there.
    expect(JSON.parse(JSON.stringify(structuredClone(error.toRecord())))).toEqual(error.toRecord());
  });

  it.each([null, undefined, 5, "config", []])("takes no %o for a configuration", (config) => {
    expect(() => checkConfig(config as never)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
  });

  it("shows the value it got", () => {
    expect(refusal({ vcpuCount: Number.NaN }).message).toMatch(/got NaN$/);
    expect(refusal({ vcpuCount: "2" }).message).toMatch(/got "2"$/);
    expect(refusal({ vcpuCount: 2n }).message).toMatch(/got 2n$/);
  });

  it.each([31, 0, -5])(
    "says how much memory is needed at least when it gets %d MiB",
    (memoryMib) => {
      expect(refusal({ memoryMib })).toMatchObject({
        code: "ERR_ESTALO_MEMORY_TOO_SMALL",
        data: { neededMib: 32, givenMib: memoryMib },
      });
    },
  );

  it("puts the root drive first, the others in their order", () => {
    const { drives } = check({
      drives: [{ path: "a" }, { path: "b" }, { path: "c", isRoot: true, partuuid: "1-2" }],
    });
    expect(drives.map(({ id }) => id)).toEqual(["drive2", "drive0", "drive1"]);
    expect(drives[0].partuuid).toBe("1-2");
  });

  it("changes nothing of the caller's", () => {
    const config = Object.freeze({ drives: Object.freeze([Object.freeze({ path: "a" })]) });
    expect(() => check(config)).not.toThrow();
  });
});

describe("checkConfig with a CPU template in a file", () => {
  const folder = mkdtempSync(join(tmpdir(), "estalo-config-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  it("reads it", () => {
    const path = join(folder, "template.json");
    writeFileSync(path, '{ "cpuid_modifiers": [] }');
    expect(check({ cpuTemplate: path }).cpuTemplate).toEqual({ cpuid_modifiers: [] });
  });

  it("names the file that is missing or no JSON", () => {
    const path = join(folder, "broken.json");
    writeFileSync(path, "{");
    for (const cpuTemplate of [path, join(folder, "missing.json")]) {
      const error = refusal({ cpuTemplate });
      expect(error.code).toBe("ERR_ESTALO_CPU_TEMPLATE");
      expect(error.message).toContain(cpuTemplate);
    }
  });
});
