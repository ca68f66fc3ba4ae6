/** Firecracker's configuration file: what is taken as it is, what is refused and by which name. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { checkConfig } from "../../../src/actors/config.js";
import {
  applyConfigFile,
  readFirecrackerConfig,
  readMetadataFile,
} from "../../../src/api/firecracker/config-file.js";
import { FakeTarget, fakeDoor, jsonOf } from "../../support/firecracker-door.js";
import { Scratch } from "../../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const KERNEL = scratch.file("vmlinux", "k");
const DISK = scratch.file("disk.img", new Uint8Array(512));
const PLACEHOLDER = scratch.file("placeholder");

const BOOT = { "boot-source": { kernel_image_path: KERNEL } };
const SMALLEST = { ...BOOT, drives: [] };
const DRIVE = { drive_id: "rootfs", path_on_host: DISK, is_root_device: true };

const bytes = (file: unknown) =>
  new TextEncoder().encode(typeof file === "string" ? file : JSON.stringify(file));

async function applied(file: unknown): Promise<FakeTarget> {
  const target = new FakeTarget();
  await applyConfigFile(bytes(file), target);
  return target;
}

let files = 0;
const read = (file: unknown) => readFirecrackerConfig(scratch.file(`${files++}.json`, bytes(file)));

describe("applyConfigFile", () => {
  it("does what the API would, log and metrics first", async () => {
    const target = await applied({
      ...SMALLEST,
      drives: [DRIVE, { drive_id: "drive_0", path_on_host: PLACEHOLDER, is_root_device: false }],
      "machine-config": { vcpu_count: 2, mem_size_mib: 512, smt: false },
      entropy: {},
      metrics: { metrics_path: "m.fifo" },
      logger: { log_path: "l.fifo", level: "Info" },
    });
    expect(target.calls).toEqual([
      ["logger", { log_path: "l.fifo", level: "Info" }],
      ["metrics", { metrics_path: "m.fifo" }],
    ]);
    expect(target.draft.machine).toMatchObject({ vcpu_count: 2, mem_size_mib: 512 });
    expect(target.draft.drives.map(({ drive_id }) => drive_id)).toEqual(["rootfs", "drive_0"]);
    expect(target.draft.entropy).toEqual({ rate_limiter: null });
  });

  it("refuses a metadata service over interfaces that the file does not have", async () => {
    const mmds = { network_interfaces: ["eth0"], version: "V2" };
    const applying = applied({ ...SMALLEST, "mmds-config": mmds });
    await expect(applying).rejects.toMatchObject({ data: { field: "mmds-config" } });
  });

  it("takes what GET /vm/config writes", async () => {
    const { send, target } = fakeDoor();
    await send("PUT", "/boot-source", BOOT["boot-source"]);
    await send("PUT", "/drives/rootfs", {
      ...DRIVE,
      rate_limiter: { ops: { size: 1, refill_time: 2 } },
    });
    await send("PUT", "/cpu-config", { kvm_capabilities: ["!56"] });
    await send("PUT", "/entropy", {});
    const again = await applied(jsonOf(await send("GET", "/vm/config")));
    expect(again.draft).toEqual({
      ...target.draft,
      bootSource: { kernel_image_path: KERNEL, initrd_path: null, boot_args: null },
    });
  });

  it("does not look at keys that the file does not have, as Firecracker", async () => {
    const target = await applied({ ...SMALLEST, comment: "ours" });
    expect(target.draft.bootSource).toEqual(BOOT["boot-source"]);
  });

  it("reads a CPU template from the path that the file gives", async () => {
    const template = { kvm_capabilities: ["121"] };
    const path = scratch.file("template.json", JSON.stringify(template));
    const target = await applied({ ...SMALLEST, "cpu-config": path });
    expect(target.draft.cpuConfig).toEqual(template);
  });

  it("adds the vsock device and network interfaces, or says what is wrong with them", async () => {
    const target = await applied({ ...SMALLEST, vsock: { guest_cid: 3, uds_path: "v.sock" } });
    expect(target.draft.vsock).toEqual({ guest_cid: 3, uds_path: "v.sock" });
    const interfaces = [{ iface_id: "eth0", host_dev_name: "estalo-nowhere" }];
    await expect(applied({ ...SMALLEST, "network-interfaces": interfaces })).rejects.toMatchObject({
      code: "ERR_ESTALO_CONFIG_INVALID",
      message: expect.stringContaining("Open tap device failed: No such device"),
      data: { field: "network-interfaces" },
    });
  });

  it("adds persistent memory and memory hotplug, or says what is wrong with them", async () => {
    const target = await applied({
      ...SMALLEST,
      pmem: [{ id: "p", path_on_host: DISK, read_only: true }],
      "memory-hotplug": { total_size_mib: 256 },
    });
    expect(target.draft.pmem).toMatchObject([{ id: "p", path_on_host: DISK, read_only: true }]);
    expect(target.draft.memoryHotplug).toEqual({
      total_size_mib: 256,
      slot_size_mib: 128,
      block_size_mib: 2,
    });
    for (const [field, value] of [
      ["pmem", [{ id: "p", path_on_host: "/nowhere" }]],
      ["memory-hotplug", { total_size_mib: 100 }],
    ] as const) {
      await expect(applied({ ...SMALLEST, [field]: value })).rejects.toMatchObject({
        code: "ERR_ESTALO_CONFIG_INVALID",
        data: { field },
      });
    }
  });

  const withDrive = (change: object) => ({ ...SMALLEST, drives: [{ ...DRIVE, ...change }] });
  const withMachine = (section: unknown) => ({ ...SMALLEST, "machine-config": section });
  it.each<[string, unknown]>([
    ["", []],
    ["", { drives: [] }],
    ["", BOOT],
    ["drives", { ...SMALLEST, drives: {} }],
    ["boot-source", { ...SMALLEST, "boot-source": {} }],
    ["boot-source.kernel", { ...SMALLEST, "boot-source": { kernel: "k" } }],
    [
      "boot-source.boot_args",
      { ...SMALLEST, "boot-source": { kernel_image_path: KERNEL, boot_args: 1 } },
    ],
    ["boot-source", { ...SMALLEST, "boot-source": { kernel_image_path: "/nowhere" } }],
    ["drives.0", { ...SMALLEST, drives: [{ path_on_host: "x", is_root_device: true }] }],
    ["drives.0.is_root_device", withDrive({ is_root_device: "yes" })],
    ["drives.0.cache_type", withDrive({ cache_type: "unsafe" })],
    ["drives.0.io_engine", withDrive({ io_engine: "toString" })],
    ["drives.0.readonly", withDrive({ readonly: true })],
    ["drives", withDrive({ socket: "vhost.sock" })],
    ["drives", withDrive({ path_on_host: "/nowhere" })],
    ["machine-config", withMachine(4)],
    ["machine-config.vcpu_count", withMachine({ vcpu_count: "4" })],
    ["machine-config", withMachine({ vcpu_count: 0, mem_size_mib: 128 })],
    ["machine-config", withMachine({ vcpu_count: 1, mem_size_mib: 128, cpu_template: "T2" })],
    ["machine-config.vcpus", withMachine({ vcpus: 1 })],
    ["entropy.source", { ...SMALLEST, entropy: { source: "x" } }],
    ["cpu-config", { ...SMALLEST, "cpu-config": [] }],
    ["cpu-config", { ...SMALLEST, "cpu-config": { kvm_capabilities: ["x"] } }],
  ])("names %j when it is wrong", async (field, file) => {
    await expect(applied(file)).rejects.toMatchObject({
      code: "ERR_ESTALO_CONFIG_INVALID",
      data: { field },
    });
  });

  it("says where a file is no JSON", async () => {
    await expect(applied("{ drives: }")).rejects.toMatchObject({
      code: "ERR_ESTALO_CONFIG_FILE",
      message: "Invalid JSON: key must be a string at line 1 column 3",
    });
  });
});

describe("readFirecrackerConfig", () => {
  it("is a configuration of the library, with Firecracker's defaults", async () => {
    const config = await read({ ...SMALLEST, drives: [DRIVE] });
    expect(checkConfig(config)).toMatchObject({
      kernel: KERNEL,
      memoryMib: 128,
      entropy: undefined,
      drives: [{ id: "rootfs", cacheType: "Unsafe", readOnly: false }],
    });
  });

  it.each(["logger", "metrics"])("refuses %s, which only estalo vmm has", async (field) => {
    const section = field === "logger" ? { level: "Info" } : { metrics_path: "m" };
    await expect(read({ ...SMALLEST, [field]: section })).rejects.toMatchObject({
      code: "ERR_ESTALO_CONFIG_INVALID",
      data: { field },
    });
  });

  it("says which file is missing", async () => {
    const path = join(scratch.path, "missing.json");
    expect(() => readFileSync(path)).toThrow();
    await expect(readFirecrackerConfig(path)).rejects.toMatchObject({
      code: "ERR_ESTALO_CONFIG_FILE",
      message: expect.stringContaining(`${path}: ENOENT`),
    });
  });
});

describe("readMetadataFile", () => {
  const file = (content: string) => scratch.file(`${files++}.json`, content);

  it("gives the data", () => {
    expect(readMetadataFile(file('{"a": {"b": 1}}'), 100)).toEqual({ a: { b: 1 } });
  });

  it.each([
    ["no JSON", "{", "ERR_ESTALO_CONFIG_FILE"],
    ["no object", "[]", "ERR_ESTALO_CONFIG_INVALID"],
    ["more than fits", '{"a":"123456789"}', "ERR_ESTALO_TOO_LARGE"],
  ])("refuses %s", (_, content, code) => {
    expect(() => readMetadataFile(file(content), 10)).toThrow(expect.objectContaining({ code }));
  });

  it("says which file it cannot read", () => {
    expect(() => readMetadataFile("/none/metadata.json", 10)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CONFIG_FILE",
        message: expect.stringContaining("/none/metadata.json"),
      }),
    );
  });
});
