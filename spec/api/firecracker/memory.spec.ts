import { afterAll, describe, expect, it } from "vitest";
import { EstaloError } from "../../../src/errors.js";
import { fakeDoor, jsonOf } from "../../support/firecracker-door.js";
import { Scratch } from "../../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const FILE = scratch.file("store.img", new Uint8Array(512));
const EMPTY = scratch.file("empty.img", new Uint8Array(0));
const STORE = { id: "store", path_on_host: FILE };

describe("persistent memory", () => {
  it("reads back as it was put, with its defaults, and is replaced by its id", async () => {
    const { send } = fakeDoor();
    expect((await send("PUT", "/pmem/store", { ...STORE, root_device: true })).status).toBe(204);
    expect((await send("PUT", "/pmem/store", { ...STORE, read_only: true })).status).toBe(204);
    expect(jsonOf(await send("GET", "/vm/config"))).toMatchObject({
      pmem: [{ ...STORE, root_device: false, read_only: true, rate_limiter: null }],
    });
  });

  it("refuses what cannot be mapped, and a second root", async () => {
    const { send, target } = fakeDoor();
    const put = async (id: string, body: object) =>
      jsonOf(await send("PUT", `/pmem/${id}`, { id, ...body }));
    expect(await put("a", { path_on_host: "/nowhere" })).toEqual({
      fault_message: "Pmem config error: No such file or directory (os error 2)",
    });
    expect(await put("a", { path_on_host: EMPTY })).toMatchObject({
      fault_message: expect.stringContaining("is empty"),
    });
    expect(target.draft.pmem).toEqual([]);
    await put("a", { path_on_host: FILE, root_device: true });
    const second = { fault_message: "Pmem config error: A root pmem device already exist" };
    expect(await put("b", { path_on_host: FILE, root_device: true })).toEqual(second);
    expect(target.draft.pmem).toHaveLength(1);
  });

  it("refuses a root where a drive is one, and a drive where it is one", async () => {
    const drive = { drive_id: "root", path_on_host: FILE, is_root_device: true };
    const { send } = fakeDoor();
    expect((await send("PUT", "/drives/root", drive)).status).toBe(204);
    expect(jsonOf(await send("PUT", "/pmem/store", { ...STORE, root_device: true }))).toEqual({
      fault_message:
        "Pmem config error: Attempt to add pmem as a root device while the root device defined as " +
        "a block device",
    });
    const other = fakeDoor();
    await other.send("PUT", "/pmem/store", { ...STORE, root_device: true });
    expect(jsonOf(await other.send("PUT", "/drives/root", drive))).toEqual({
      fault_message:
        "Drive config error: Attempt to add block as a root device while the root device defined " +
        "as a pmem device",
    });
    expect(other.target.draft.drives).toEqual([]);
    const second = { ...drive, is_root_device: false };
    expect((await other.send("PUT", "/drives/root", second)).status).toBe(204);
  });

  it("changes its limits while the machine runs", async () => {
    const { send, target } = fakeDoor();
    await send("PUT", "/pmem/store", STORE);
    target.phase = "Running";
    const rate_limiter = { ops: { size: 5, refill_time: 100 } };
    const path = "/pmem/store";
    expect((await send("PATCH", path, { id: "store", rate_limiter })).status).toBe(204);
    expect((await send("PATCH", path, { id: "store" })).status).toBe(204);
    expect(target.calls).toEqual([
      ["pmem", "store", { rateLimiter: { ops: { size: 5, refillTimeMs: 100, oneTimeBurst: 0 } } }],
      ["pmem", "store", {}],
    ]);
    expect(target.draft.pmem[0].rate_limiter).toMatchObject(rate_limiter);
    target.failure = new EstaloError("ERR_ESTALO_PMEM_UNKNOWN", "there is no pmem store");
    expect(jsonOf(await send("PATCH", path, { id: "store" }))).toEqual({
      fault_message: "Pmem config error: there is no pmem store",
    });
  });
});

describe("memory hotplug", () => {
  it("reads back as it was put, with its defaults", async () => {
    const { send } = fakeDoor();
    expect((await send("PUT", "/hotplug/memory", { total_size_mib: 1024 })).status).toBe(204);
    expect(jsonOf(await send("GET", "/vm/config"))).toMatchObject({
      "memory-hotplug": { total_size_mib: 1024, slot_size_mib: 128, block_size_mib: 2 },
    });
  });

  it.each([
    [{ total_size_mib: 1024, block_size_mib: 1 }, "Block size must not be lower than 2 MiB"],
    [{ total_size_mib: 1024, block_size_mib: 6 }, "Block size must be a power of 2"],
    [{ total_size_mib: 1024, slot_size_mib: 64 }, "Slot size must not be lower than 128 MiB"],
    [
      { total_size_mib: 1024, slot_size_mib: 130, block_size_mib: 4 },
      "Slot size must be a multiple of block size (4 MiB)",
    ],
    [{ total_size_mib: 64 }, "Total size must not be lower than slot size (128 MiB)"],
    [{ total_size_mib: 200 }, "Total size must be a multiple of slot size (128 MiB)"],
  ])("refuses %j", async (body, why) => {
    const { send, target } = fakeDoor();
    expect(jsonOf(await send("PUT", "/hotplug/memory", body))).toEqual({
      fault_message: `Memory hotplug config error: ${why}`,
    });
    expect(target.draft.memoryHotplug).toBeUndefined();
  });

  it("is asked for, and tells how far it got, while the machine runs", async () => {
    const { send, target } = fakeDoor();
    await send("PUT", "/hotplug/memory", { total_size_mib: 1024 });
    target.phase = "Running";
    const path = "/hotplug/memory";
    expect((await send("PATCH", path, { requested_size_mib: 256 })).status).toBe(204);
    expect(target.calls).toEqual([["memory", 256]]);
    expect(jsonOf(await send("GET", path))).toEqual({
      block_size_mib: 2,
      total_size_mib: 1024,
      slot_size_mib: 128,
      plugged_size_mib: 6,
      requested_size_mib: 256,
    });
  });

  it("says that there is none", async () => {
    const { send, target } = fakeDoor();
    target.phase = "Running";
    expect(jsonOf(await send("GET", "/hotplug/memory"))).toEqual({
      fault_message: "Memory hotplug config error: Device not found.",
    });
  });
});
