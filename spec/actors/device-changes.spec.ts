/** Changes of a running microVM's devices: what the devices are asked, and what the next run begins with. */
import { describe, expect, it } from "vitest";
import type { MicroVmConfig } from "../../src/actors/config.js";
import { type DeviceChanges, deviceChanges } from "../../src/actors/device-changes.js";
import type { RunningMicrovm } from "../../src/actors/running-microvm.js";
import { PlayedMicrovm } from "../support/played-fleet.js";

const LIMIT = { size: 1000, refillTimeMs: 10 };
const OTHER = { size: 2, refillTimeMs: 20 };
const LIFTED = { size: 0, refillTimeMs: 0 };

async function changed(config: MicroVmConfig, changes: DeviceChanges) {
  const microvm = new PlayedMicrovm(config);
  let kept = config;
  for (const change of deviceChanges(changes)) {
    await change.apply(microvm as unknown as RunningMicrovm);
    kept = change.keep(kept);
  }
  return { asked: microvm.changes, kept };
}

describe("deviceChanges", () => {
  it("changes what is named, in one order, and nothing else", async () => {
    const config: MicroVmConfig = {
      drives: [
        { path: "/a" },
        { id: "d", path: "/b", readOnly: true, rateLimiter: { ops: OTHER } },
      ],
      networkInterfaces: [{ tap: "t0" }, { id: "lan", user: { hostLoopback: true } }],
      pmem: [{ id: "p", path: "/c" }],
      balloon: { amountMib: 1, deflateOnOom: true },
      serial: {},
      memoryMib: 256,
    };
    const forwards = [{ hostPort: 8080, guestPort: 80 }];
    const { asked, kept } = await changed(config, {
      serial: { rateLimiter: LIMIT },
      entropy: { rateLimiter: { bandwidth: LIMIT } },
      balloon: { amountMib: 64, statsIntervalS: 5 },
      pmem: { p: { rateLimiter: { ops: LIMIT } } },
      networkInterfaces: { lan: { rxRateLimiter: { ops: LIMIT }, isLinkUp: false, forwards } },
      drives: { d: { path: "/z", rateLimiter: { bandwidth: LIMIT } } },
    });
    expect(asked.map(([what]) => what)).toEqual([
      "drive",
      "interface",
      "pmem",
      "balloon interval",
      "balloon target",
      "entropy",
      "serial",
    ]);
    expect(kept).toEqual({
      drives: [
        { path: "/a" },
        { id: "d", path: "/z", readOnly: true, rateLimiter: { ops: OTHER, bandwidth: LIMIT } },
      ],
      networkInterfaces: [
        { tap: "t0" },
        { id: "lan", user: { hostLoopback: true, forwards }, rxRateLimiter: { ops: LIMIT } },
      ],
      pmem: [{ id: "p", path: "/c", rateLimiter: { ops: LIMIT } }],
      balloon: { amountMib: 64, deflateOnOom: true, statsIntervalS: 5 },
      entropy: { rateLimiter: { bandwidth: LIMIT } },
      serial: { rateLimiter: LIMIT },
      memoryMib: 256,
    });
  });

  it("finds devices by the ids that they get when they have none", async () => {
    const config = { networkInterfaces: [{ tap: "t0" }, { tap: "t1" }] };
    const change = { txRateLimiter: { bandwidth: LIMIT } };
    const { kept } = await changed(config, { networkInterfaces: { net1: change } });
    expect(kept.networkInterfaces).toEqual([{ tap: "t0" }, { tap: "t1", ...change }]);
  });

  it("keeps a bucket that lifts its limit, and the other one", async () => {
    const config = { entropy: { rateLimiter: { bandwidth: LIMIT, ops: OTHER } } };
    const { kept } = await changed(config, { entropy: { rateLimiter: { ops: LIFTED } } });
    expect(kept.entropy).toEqual({ rateLimiter: { bandwidth: LIMIT, ops: LIFTED } });
  });

  it("ends at the first that is refused, and has done those before it", async () => {
    const config: MicroVmConfig = { drives: [{ id: "d", path: "/a" }] };
    const microvm = new PlayedMicrovm(config);
    const [first, second] = deviceChanges({
      drives: { d: { path: "/b" } },
      balloon: { amountMib: 1 },
    });
    await first.apply(microvm as unknown as RunningMicrovm);
    await expect(second.apply(microvm as unknown as RunningMicrovm)).rejects.toMatchObject({
      code: "ERR_ESTALO_STATE",
    });
    expect(microvm.changes).toEqual([["drive", "d", { path: "/b" }]]);
  });
});
