/** Firecracker's JSON: what is taken as it is, what is refused and by which name. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkConfig } from "../../src/actors/config.js";
import { parseFirecrackerConfig, readFirecrackerConfig } from "../../src/api/firecracker-config.js";

const SMALLEST = { "boot-source": { kernel_image_path: "vmlinux" }, drives: [] };

const DRIVE = { drive_id: "rootfs", path_on_host: "rootfs.ext4", is_root_device: true };

describe("parseFirecrackerConfig", () => {
  it("takes the smallest file, with Firecracker's defaults", () => {
    expect(parseFirecrackerConfig(SMALLEST)).toEqual({
      kernel: "vmlinux",
      vcpuCount: 1,
      memoryMib: 128,
      smt: false,
      hugePages: false,
      drives: [],
      entropy: false,
    });
  });

  it("takes every key it supports", () => {
    const config = parseFirecrackerConfig({
      "boot-source": {
        kernel_image_path: "vmlinux",
        initrd_path: "initrd",
        boot_args: "console=ttyS0",
      },
      drives: [
        {
          ...DRIVE,
          partuuid: "0eaa91a0-01",
          is_read_only: true,
          cache_type: "Writeback",
          io_engine: "Async",
          rate_limiter: null,
        },
        { drive_id: "data", path_on_host: "data.img", is_root_device: false },
      ],
      "machine-config": {
        vcpu_count: 4,
        mem_size_mib: 1024,
        smt: true,
        cpu_template: "None",
        track_dirty_pages: true,
        huge_pages: "2M",
      },
      "cpu-config": { cpuid_modifiers: [] },
      entropy: { rate_limiter: null },
    });
    expect(config).toEqual({
      kernel: "vmlinux",
      initrd: "initrd",
      bootArgs: "console=ttyS0",
      vcpuCount: 4,
      memoryMib: 1024,
      smt: true,
      hugePages: true,
      entropy: true,
      cpuTemplate: { cpuid_modifiers: [] },
      drives: [
        {
          id: "rootfs",
          path: "rootfs.ext4",
          isRoot: true,
          partuuid: "0eaa91a0-01",
          readOnly: true,
          cacheType: "Writeback",
          ioEngine: "io_uring",
        },
        {
          id: "data",
          path: "data.img",
          isRoot: false,
          readOnly: false,
          cacheType: "Unsafe",
          ioEngine: "auto",
        },
      ],
    });
    expect(checkConfig(config).vcpuCount).toBe(4);
  });

  it("takes what GET /vm/config writes for a machine without devices", () => {
    const config = parseFirecrackerConfig({
      ...SMALLEST,
      balloon: null,
      "cpu-config": null,
      logger: null,
      metrics: null,
      "mmds-config": null,
      "network-interfaces": [],
      vsock: null,
      entropy: null,
      pmem: [],
      "memory-hotplug": null,
    });
    expect(config.entropy).toBe(false);
  });

  it("takes a path as cpu-config", () => {
    expect(parseFirecrackerConfig({ ...SMALLEST, "cpu-config": "t.json" }).cpuTemplate).toBe(
      "t.json",
    );
  });

  it("does not look at keys that the file does not have, as Firecracker", () => {
    expect(parseFirecrackerConfig({ ...SMALLEST, comment: "ours" }).kernel).toBe("vmlinux");
  });

  it.each([
    ["network-interfaces", [{ iface_id: "eth0", host_dev_name: "tap0" }]],
    ["vsock", { guest_cid: 3, uds_path: "v.sock" }],
    ["balloon", { amount_mib: 1, deflate_on_oom: true }],
    ["mmds-config", { network_interfaces: ["eth0"] }],
    ["pmem", [{ id: "p", path_on_host: "p.img" }]],
    ["memory-hotplug", { total_size_mib: 128 }],
    ["logger", { log_path: "log" }],
    ["metrics", { metrics_path: "metrics" }],
  ])("refuses %s by its name", (field, value) => {
    expect(() => parseFirecrackerConfig({ ...SMALLEST, [field]: value })).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CONFIG_INVALID",
        data: expect.objectContaining({ field }),
      }),
    );
  });

  const withDrive = (change: object) => ({ ...SMALLEST, drives: [{ ...DRIVE, ...change }] });
  const withMachine = (section: unknown) => ({ ...SMALLEST, "machine-config": section });
  it.each<[string, unknown]>([
    ["the file", []],
    ["boot-source", { drives: [] }],
    ["drives", { "boot-source": { kernel_image_path: "k" } }],
    ["drives", { ...SMALLEST, drives: {} }],
    ["boot-source.kernel_image_path", { ...SMALLEST, "boot-source": {} }],
    ["boot-source.kernel", { ...SMALLEST, "boot-source": { kernel: "k" } }],
    [
      "boot-source.boot_args",
      { ...SMALLEST, "boot-source": { kernel_image_path: "k", boot_args: 1 } },
    ],
    ["drives[0].drive_id", { ...SMALLEST, drives: [{ path_on_host: "x", is_root_device: true }] }],
    ["drives[0].is_root_device", withDrive({ is_root_device: "yes" })],
    ["drives[0].cache_type", withDrive({ cache_type: "unsafe" })],
    ["drives[0].io_engine", withDrive({ io_engine: "toString" })],
    ["drives[0].rate_limiter", withDrive({ rate_limiter: { ops: { size: 1, refill_time: 1 } } })],
    ["drives[0].socket", withDrive({ socket: "vhost.sock" })],
    ["drives[0].readonly", withDrive({ readonly: true })],
    ["machine-config", withMachine(4)],
    ["machine-config.vcpu_count", withMachine({ vcpu_count: "4" })],
    ["machine-config.cpu_template", withMachine({ cpu_template: "T2" })],
    ["machine-config.huge_pages", withMachine({ huge_pages: "Transparent" })],
    ["machine-config.vcpus", withMachine({ vcpus: 1 })],
    ["entropy.rate_limiter", { ...SMALLEST, entropy: { rate_limiter: {} } }],
    ["entropy.source", { ...SMALLEST, entropy: { source: "x" } }],
    ["cpu-config", { ...SMALLEST, "cpu-config": [] }],
  ])("names %s when it is wrong", (field, file) => {
    expect(() => parseFirecrackerConfig(file)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CONFIG_INVALID",
        data: expect.objectContaining({ field }),
      }),
    );
  });
});

describe("readFirecrackerConfig", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "estalo-spec-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("reads a file", () => {
    const path = join(folder, "vm.json");
    writeFileSync(path, JSON.stringify(SMALLEST));
    expect(readFirecrackerConfig(path).kernel).toBe("vmlinux");
  });

  it("says which file is missing", () => {
    const path = join(folder, "missing.json");
    expect(() => readFirecrackerConfig(path)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CONFIG_FILE",
        message: expect.stringContaining(`${path}: ENOENT`),
      }),
    );
  });

  it("says which file is not JSON", () => {
    const path = join(folder, "broken.json");
    writeFileSync(path, "{ drives: }");
    expect(() => readFirecrackerConfig(path)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CONFIG_FILE",
        message: expect.stringContaining(`${path} is not JSON`),
      }),
    );
  });
});
