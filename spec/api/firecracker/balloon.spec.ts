import { describe, expect, it } from "vitest";
import { fakeDoor, jsonOf } from "../../support/firecracker-door.js";

const BALLOON = { amount_mib: 10, deflate_on_oom: true, stats_polling_interval_s: 1 };

async function started() {
  const door = fakeDoor();
  expect((await door.send("PUT", "/balloon", BALLOON)).status).toBe(204);
  door.target.phase = "Running";
  return door;
}

describe("the balloon", () => {
  it("reads back as it was put, with its defaults", async () => {
    const door = fakeDoor();
    await door.send("PUT", "/balloon", { amount_mib: 1, deflate_on_oom: false });
    await door.send("PUT", "/balloon", BALLOON);
    const shown = { ...BALLOON, free_page_hinting: false, free_page_reporting: false };
    expect(jsonOf(await door.send("GET", "/balloon"))).toEqual(shown);
    expect(jsonOf(await door.send("GET", "/vm/config"))).toMatchObject({ balloon: shown });
  });

  it("changes while the machine runs", async () => {
    const { send, target } = await started();
    const calls: [string, unknown, number][] = [
      ["/balloon", { amount_mib: 20 }, 204],
      ["/balloon/statistics", { stats_polling_interval_s: 5 }, 204],
      ["/balloon/hinting/start", undefined, 204],
      ["/balloon/hinting/start", { acknowledge_on_stop: false }, 204],
      ["/balloon/hinting/stop", undefined, 204],
    ];
    for (const [path, body, status] of calls) {
      expect([path, (await send("PATCH", path, body)).status]).toEqual([path, status]);
    }
    expect(target.calls).toEqual([
      ["balloon", { amountMib: 20 }],
      ["balloon", { statsIntervalS: 5 }],
      ["balloon", "start", true],
      ["balloon", "start", false],
      ["balloon", "stop"],
    ]);
    expect(jsonOf(await send("GET", "/balloon"))).toMatchObject({
      amount_mib: 20,
      stats_polling_interval_s: 5,
    });
  });

  it("tells statistics and the state of hinting", async () => {
    const { send } = await started();
    expect(jsonOf(await send("GET", "/balloon/statistics"))).toEqual({
      target_mib: 8,
      target_pages: 2048,
      actual_mib: 4,
      actual_pages: 1024,
      free_memory: 5,
    });
    expect(jsonOf(await send("GET", "/balloon/hinting/status"))).toEqual({
      host_cmd: 2,
      guest_cmd: null,
    });
  });

  it("is refused when it is larger than the guest's memory, before the start and after it", async () => {
    const door = fakeDoor();
    const large = { amount_mib: 129, deflate_on_oom: true };
    const fault = {
      fault_message:
        "Balloon config error: Requested memory should be less than the available guest memory.",
    };
    expect(jsonOf(await door.send("PUT", "/balloon", large))).toEqual(fault);
    const { send, target } = await started();
    expect(jsonOf(await send("PATCH", "/balloon", { amount_mib: 129 }))).toEqual(fault);
    expect(target.calls).toEqual([]);
  });

  it("is larger than no memory that comes after it", async () => {
    const { send, target } = fakeDoor();
    await send("PUT", "/balloon", { ...BALLOON, amount_mib: 100 });
    const machine = { vcpu_count: 2, mem_size_mib: 99 };
    const fault = {
      fault_message:
        "Machine config error: The memory size (MiB) is smaller than the previously set balloon " +
        "device target size.",
    };
    expect(jsonOf(await send("PUT", "/machine-config", machine))).toEqual(fault);
    expect(jsonOf(await send("PATCH", "/machine-config", { mem_size_mib: 99 }))).toEqual(fault);
    expect(target.draft.machine).toMatchObject({ vcpu_count: 1, mem_size_mib: 128 });
    expect((await send("PATCH", "/machine-config", { mem_size_mib: 100 })).status).toBe(204);
    expect((await send("PUT", "/machine-config", { ...machine, mem_size_mib: 101 })).status).toBe(
      204,
    );
  });

  it("says that there is none", async () => {
    const { send, target } = fakeDoor();
    target.phase = "Running";
    for (const [method, path] of [
      ["GET", "/balloon"],
      ["GET", "/balloon/statistics"],
      ["GET", "/balloon/hinting/status"],
      ["PATCH", "/balloon/hinting/start"],
      ["PATCH", "/balloon/hinting/stop"],
    ] as const) {
      const reply = await send(method, path);
      expect([reply.status, jsonOf(reply)]).toEqual([
        400,
        { fault_message: "Balloon config error: Device not found." },
      ]);
    }
  });
});
