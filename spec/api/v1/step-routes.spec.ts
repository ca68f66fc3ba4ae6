/** Step-by-step configuration: Firecracker's requests on a microVM of the fleet, refused in door 2's words. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { MicroVmConfig } from "../../../src/actors/config.js";
import { EstaloError } from "../../../src/errors.js";
import { checkReply, DoorHost } from "../../support/door-host.js";

const folder = mkdtempSync(join(tmpdir(), "estalo-steps-"));
const [kernel, disk] = [join(folder, "vmlinux"), join(folder, "disk.img")];
let host: DoorHost;
beforeAll(async () => {
  writeFileSync(kernel, "kernel");
  writeFileSync(disk, Buffer.alloc(4096));
  host = await DoorHost.open();
});
afterAll(async () => {
  await host.close();
  rmSync(folder, { recursive: true });
});

let id = "";
beforeEach(async () => {
  const { record } = await host.fleet.create({ start: false });
  id = record.id;
});

/** What paths call the ids of devices. */
const IDS = { drives: "drive_id", "network-interfaces": "iface_id", pmem: "device_id" };

/** One of door 1's requests; its reply is held against the description. */
async function step(method: string, path: string, body?: unknown) {
  const reply = await host.send(method, `/v1/microvms/${id}${path}`, { body });
  const template = `/v1/microvms/{id}${path}`.replace(
    /^(.*\/(drives|network-interfaces|pmem))\/.+$/,
    (_, start: string, kind: keyof typeof IDS) => `${start}/{${IDS[kind]}}`,
  );
  const route = host.door.routes.find((one) => one.method === method && one.path === template);
  if (route !== undefined) checkReply(route, reply);
  return reply;
}

const config = () => host.fleet.get(id).config;

describe("a microVM, step by step", () => {
  it("is described by Firecracker's requests and started", async () => {
    const steps = [
      await step("PUT", "/machine-config", { vcpu_count: 2, mem_size_mib: 256 }),
      await step("PUT", "/boot-source", { kernel_image_path: kernel, boot_args: "quiet" }),
      await step("PUT", "/drives/rootfs", {
        drive_id: "rootfs",
        path_on_host: disk,
        is_root_device: true,
        is_read_only: true,
      }),
      await step("PUT", "/entropy", {}),
      await step("PATCH", "/machine-config", { mem_size_mib: 512 }),
    ];
    expect(steps.map(({ status }) => status)).toEqual([204, 204, 204, 204, 204]);
    expect(config()).toMatchObject({
      vcpuCount: 2,
      memoryMib: 512,
      kernel,
      bootArgs: "quiet",
      drives: [{ id: "rootfs", path: disk, isRoot: true, readOnly: true, cacheType: "Unsafe" }],
    });
    expect((await step("GET", "/machine-config")).json).toMatchObject({
      vcpu_count: 2,
      mem_size_mib: 512,
    });
    expect((await step("PUT", "/actions", { action_type: "InstanceStart" })).status).toBe(204);
    expect(host.fleet.get(id).state).toBe("running");
    expect((await step("PATCH", "/vm", { state: "Paused" })).status).toBe(204);
    expect(host.fleet.get(id).state).toBe("paused");
    expect((await step("PATCH", "/vm", { state: "Resumed" })).status).toBe(204);
    expect((await step("PUT", "/actions", { action_type: "SendCtrlAltDel" })).status).toBe(204);
  });

  it("keeps what Firecracker cannot say", async () => {
    const before: MicroVmConfig = {
      memoryMib: 64,
      bootArgs: "only args",
      drives: [{ path: disk, ioEngine: "libuv" }],
      networkInterfaces: [{ tap: "tap0" }],
      vsock: { connectionsMax: 5 },
      serial: { rateLimiter: { size: 1, refillTimeMs: 1 } },
    };
    host.fleet.configure(id, () => before);
    await step("PATCH", "/machine-config", { vcpu_count: 4 });
    expect(config()).toEqual({ ...before, vcpuCount: 4, smt: false, hugePages: false });
    const more = { drive_id: "more", path_on_host: disk, is_root_device: false };
    expect((await step("PUT", "/drives/more", more)).status).toBe(204);
    expect(config()).toMatchObject({
      ...before,
      drives: [
        { id: "drive0", path: disk, ioEngine: "libuv" },
        { id: "more", path: disk },
      ],
    });
  });

  it("shows the whole configuration, without a kernel that was not named", async () => {
    expect((await step("GET", "/vm/config")).json).toMatchObject({
      "boot-source": { kernel_image_path: "" },
      drives: [],
    });
  });

  it.each([
    ["PUT", "/machine-config", { vcpu_count: "2", mem_size_mib: 128 }, "ERR_ESTALO_REQUEST"],
    [
      "PUT",
      "/machine-config",
      { vcpu_count: 3, mem_size_mib: 128, smt: true },
      "ERR_ESTALO_CONFIG_INVALID",
    ],
    ["PUT", "/machine-config", undefined, "ERR_ESTALO_REQUEST"],
    ["PUT", "/machine-config", { vcpu_count: 1, mem_size_mib: 1 }, "ERR_ESTALO_MEMORY_TOO_SMALL"],
    ["PUT", "/boot-source", { kernel_image_path: "/none" }, "ERR_ESTALO_CONFIG_INVALID"],
    [
      "PUT",
      "/drives/a-b",
      { drive_id: "a-b", path_on_host: "/x", is_root_device: false },
      "ERR_ESTALO_REQUEST",
    ],
    [
      "PUT",
      "/drives/a",
      { drive_id: "b", path_on_host: "/x", is_root_device: false },
      "ERR_ESTALO_CONFIG_INVALID",
    ],
    ["PUT", "/serial", { serial_out_path: "/tmp/out" }, "ERR_ESTALO_CONFIG_INVALID"],
    ["PUT", "/actions", { action_type: "Explode" }, "ERR_ESTALO_REQUEST"],
    ["PUT", "/actions", { action_type: "FlushMetrics" }, "ERR_ESTALO_STATE"],
  ])("refuses %s %s %j", async (method, path, body, code) => {
    const before = config();
    const { status, json } = await step(method, path, body);
    expect(json.error.code).toBe(code);
    expect(status).toBe(code === "ERR_ESTALO_STATE" ? 409 : 400);
    expect(config()).toEqual(before);
  });

  it("says what is too early and what is too late", async () => {
    const patch = { drive_id: "d", path_on_host: disk };
    const early = await step("PATCH", "/drives/d", patch);
    expect(early).toMatchObject({ status: 409, json: { error: { code: "ERR_ESTALO_STATE" } } });
    await host.fleet.start(id);
    const late = await step("PUT", "/machine-config", { vcpu_count: 1, mem_size_mib: 128 });
    expect(late).toMatchObject({ status: 409, json: { error: { code: "ERR_ESTALO_STATE" } } });
  });

  it("changes drives and interfaces while it runs", async () => {
    host.fleet.configure(id, () => ({ drives: [{ id: "d", path: disk }] }));
    await host.fleet.start(id);
    const change = { drive_id: "d", path_on_host: disk };
    expect((await step("PATCH", "/drives/d", change)).status).toBe(204);
    const unknown = await step("PATCH", "/drives/e", { ...change, drive_id: "e" });
    expect(unknown).toMatchObject({
      status: 404,
      json: { error: { code: "ERR_ESTALO_DRIVE_UNKNOWN" } },
    });
    const limits = { iface_id: "net0", rx_rate_limiter: { ops: { size: 1, refill_time: 2 } } };
    expect((await step("PATCH", "/network-interfaces/net0", limits)).status).toBe(204);
    const { changes, devices } = host.fleet.machine(id);
    devices.interfaces.update = () => {
      throw new EstaloError("ERR_ESTALO_INTERFACE_UNKNOWN", "there is no network interface net0");
    };
    expect(await step("PATCH", "/network-interfaces/net0", limits)).toMatchObject({
      status: 404,
      json: { error: { code: "ERR_ESTALO_INTERFACE_UNKNOWN" } },
    });
    expect(changes.map(([what, name]) => [what, name])).toEqual([
      ["drive", "d"],
      ["interface", "net0"],
    ]);
  });

  it("has persistent memory, a balloon and memory to plug, before the start and after it", async () => {
    const pmem = { id: "log", path_on_host: disk };
    expect((await step("PUT", "/pmem/log", pmem)).status).toBe(204);
    const balloon = { amount_mib: 8, deflate_on_oom: true };
    expect((await step("PUT", "/balloon", balloon)).status).toBe(204);
    const sizes = { total_size_mib: 1024, slot_size_mib: 128, block_size_mib: 2 };
    expect((await step("PUT", "/hotplug/memory", sizes)).status).toBe(204);
    expect(config()).toMatchObject({
      pmem: [{ id: "log", path: disk }],
      balloon: { amountMib: 8, deflateOnOom: true },
      memoryHotplug: { totalSizeMib: 1024 },
    });
    await host.fleet.start(id);
    const limits = { id: "log", rate_limiter: { ops: { size: 1, refill_time: 2 } } };
    expect((await step("PATCH", "/pmem/log", limits)).status).toBe(204);
    expect(await step("PATCH", "/pmem/other", { ...limits, id: "other" })).toMatchObject({
      status: 404,
      json: { error: { code: "ERR_ESTALO_PMEM_UNKNOWN" } },
    });
    expect((await step("PATCH", "/balloon", { amount_mib: 20 })).status).toBe(204);
    expect((await step("GET", "/balloon")).json).toMatchObject({ amount_mib: 20 });
    expect(config()).toMatchObject({
      pmem: [{ id: "log", rateLimiter: { ops: { size: 1, refillTimeMs: 2 } } }],
      balloon: { amountMib: 20, deflateOnOom: true },
    });
    expect((await step("PATCH", "/balloon/hinting/start")).json.error.code).toMatch(/^ERR_ESTALO_/);
  });

  it("has limits as they were changed, and keeps what Firecracker's requests cannot say", async () => {
    host.fleet.configure(id, () => ({
      networkInterfaces: [{ tap: "tap0", id: "eth0", queuePairs: 1, mtu: 1400 }],
      drives: [{ id: "d", path: disk, ioEngine: "libuv" }],
    }));
    await host.fleet.start(id);
    const bucket = { size: 1, refill_time: 2 };
    const limits = { iface_id: "eth0", tx_rate_limiter: { ops: bucket } };
    expect((await step("PATCH", "/network-interfaces/eth0", limits)).status).toBe(204);
    const drive = { drive_id: "d", rate_limiter: { bandwidth: bucket } };
    expect((await step("PATCH", "/drives/d", drive)).status).toBe(204);
    expect((await step("GET", "/vm/config")).json).toMatchObject({
      "network-interfaces": [{ iface_id: "eth0", tx_rate_limiter: { ops: bucket } }],
      drives: [{ drive_id: "d", rate_limiter: { bandwidth: bucket } }],
    });
    expect(config()).toMatchObject({
      networkInterfaces: [{ mtu: 1400, txRateLimiter: { ops: { size: 1, refillTimeMs: 2 } } }],
      drives: [{ ioEngine: "libuv", rateLimiter: { bandwidth: { size: 1, refillTimeMs: 2 } } }],
    });
  });

  it("sets up the metadata service, and changes its data before and after the start", async () => {
    host.fleet.configure(id, () => ({
      networkInterfaces: [{ tap: "tap0", id: "eth0" }],
      mmds: { version: "V1", sizeLimitBytes: 1000 },
    }));
    const config = { network_interfaces: ["eth0"], version: "V2", imds_compat: true };
    expect((await step("PUT", "/mmds/config", config)).status).toBe(204);
    expect((await step("PUT", "/mmds", { a: { b: 1 } })).status).toBe(204);
    expect((await step("PATCH", "/mmds", { a: { c: 2 } })).status).toBe(204);
    expect((await step("GET", "/mmds")).json).toEqual({ a: { b: 1, c: 2 } });
    expect(host.fleet.get(id).config.mmds).toEqual({
      version: "V2",
      interfaces: ["eth0"],
      ipv4Address: "169.254.169.254",
      imdsCompat: true,
      data: { a: { b: 1, c: 2 } },
      sizeLimitBytes: 1000,
    });
    expect(await step("PUT", "/mmds", { a: "x".repeat(1000) })).toMatchObject({
      status: 413,
      json: { error: { code: "ERR_ESTALO_TOO_LARGE" } },
    });
    await host.fleet.start(id);
    expect((await step("PUT", "/mmds", { d: 3 })).status).toBe(204);
    expect((await step("GET", "/mmds")).json).toEqual({ d: 3 });
    expect((await step("PUT", "/mmds", { a: "x".repeat(1000) })).status).toBe(413);
    expect((await step("PUT", "/mmds", [])).status).toBe(400);
  });

  it("keeps no metadata for a microVM without the service", async () => {
    expect(await step("PUT", "/mmds", { a: 1 })).toMatchObject({
      status: 409,
      json: { error: { code: "ERR_ESTALO_STATE" } },
    });
  });

  it("is not there without a microVM, and has no version, log or metrics of its own", async () => {
    id = "nobody";
    expect((await step("GET", "/machine-config")).status).toBe(404);
    const { record } = await host.fleet.create({ start: false });
    id = record.id;
    expect((await step("GET", "/version")).status).toBe(404);
    expect((await step("PUT", "/logger", { level: "Info" })).status).toBe(404);
    expect((await step("PUT", "/metrics", { metrics_path: "/tmp/x" })).status).toBe(405);
  });

  it("had no failures of the server", () => {
    expect(host.failures).toEqual([]);
  });
});
