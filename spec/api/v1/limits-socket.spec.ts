/** Clients of what a microVM's rate limiters do, over a played fleet. */
import Ajv from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { LimitMessage, LimitsHello } from "../../../src/api/v1/limit-schemas.js";
import { openLimits } from "../../../src/api/v1/limits-socket.js";
import { FakePeer } from "../../support/fake-peer.js";
import { KILLED, PlayedFleet } from "../../support/played-fleet.js";

const ajv = new Ajv.default({ strict: false });
const isHello = ajv.compile(LimitsHello);
const isMessage = ajv.compile(LimitMessage);

async function running() {
  const fleet = new PlayedFleet();
  await fleet.create({ name: "web", config: { id: "a" } });
  const machine = fleet.machine("a");
  const peer = new FakePeer();
  const session = openLimits(fleet, "web")(peer);
  return { machine, peer, session };
}

describe("openLimits", () => {
  it("says hello, then what happens to each limiter", async () => {
    const { machine, peer } = await running();
    const bandwidth = { size: 10, refillTimeMs: 100 };
    machine.rateLimits.next({ type: "configured", device: "serial", config: { bandwidth } });
    machine.rateLimits.next({ type: "throttled", device: "drive d", waitMs: 2.5 });
    machine.rateLimits.next({ type: "released", device: "drive d" });
    machine.rateLimits.next({ type: "refilled", device: "drive d", dropped: 3 });
    const [hello, ...messages] = peer.json;
    expect(isHello(hello), ajv.errorsText(isHello.errors)).toBe(true);
    for (const one of messages) {
      expect(isMessage(one), ajv.errorsText(isMessage.errors)).toBe(true);
    }
    const atMs = expect.any(Number);
    expect(messages).toEqual([
      { type: "configured", device: "serial", config: { bandwidth }, atMs, dropped: 0 },
      { type: "throttled", device: "drive d", waitMs: 2.5, atMs, dropped: 0 },
      { type: "released", device: "drive d", atMs, dropped: 0 },
      { type: "refilled", device: "drive d", atMs, dropped: 3 },
    ]);
  });

  it("leaves out what a client does not read, and tells how much that was", async () => {
    const { machine, peer, session } = await running();
    peer.room = 1;
    for (let round = 0; round < 4; round++) {
      machine.rateLimits.next({ type: "released", device: `drive d${round}` });
    }
    peer.room = 10;
    session.onDrain?.();
    machine.rateLimits.next({ type: "released", device: "drive last" });
    expect(peer.json.slice(1)).toMatchObject([
      { device: "drive d0", dropped: 0 },
      { device: "drive last", dropped: 3 },
    ]);
  });

  it("ends with the microVM, and listens no more when its client has gone", async () => {
    const { machine, peer, session } = await running();
    expect(machine.rateLimits.observed).toBe(true);
    session.onClose();
    expect(machine.rateLimits.observed).toBe(false);
    const other = await running();
    other.machine.end(KILLED);
    expect(other.peer.closed).toMatchObject({ code: 1000 });
    expect(peer.closed).toBeUndefined();
  });

  it("is closed for a microVM that does not run, and for none", async () => {
    const fleet = new PlayedFleet();
    await fleet.create({ start: false, config: { id: "a" } });
    const [ended, nobody] = ["a", "nobody"].map((id) => {
      const peer = new FakePeer();
      openLimits(fleet, id)(peer);
      return peer.closed;
    });
    expect([ended?.code, nobody?.code]).toEqual([4409, 4404]);
  });
});
