/** Clients of a microVM's exits over a played fleet: what they get, what they are refused, what ends them. */
import Ajv from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { exitKindCode } from "../../../src/actors/exit-batch.js";
import { decodeExitFrame } from "../../../src/api/exit-frames.js";
import {
  ExitsBatch,
  ExitsCounts,
  ExitsHello,
  type ExitsQuery,
} from "../../../src/api/v1/exit-schemas.js";
import { openExits } from "../../../src/api/v1/exits-socket.js";
import * as k from "../../../src/native/layouts.js";
import { FakePeer } from "../../support/fake-peer.js";
import { KILLED, PlayedFleet } from "../../support/played-fleet.js";

const ajv = new Ajv.default({ strict: false });
const schemas = {
  hello: ajv.compile(ExitsHello),
  exits: ajv.compile(ExitsBatch),
  counts: ajv.compile(ExitsCounts),
};

async function running() {
  const fleet = new PlayedFleet();
  await fleet.create({ name: "web", config: { id: "a" } });
  const { vcpus } = fleet.machine("a");
  const join = (query: ExitsQuery = {}) => {
    const peer = new FakePeer();
    const session = openExits(fleet, "web", query)(peer);
    return { peer, session };
  };
  return { fleet, vcpus, join };
}

/** All messages hold what they promise. */
function checked(peer: FakePeer) {
  for (const message of peer.json) {
    const check = schemas[message.type as keyof typeof schemas];
    expect(check(message), ajv.errorsText(check.errors)).toBe(true);
  }
  return peer.json;
}

describe("openExits", () => {
  it("says hello with names and clock, then sends batches as they are polled", async () => {
    const { vcpus, join } = await running();
    const { peer } = join();
    vcpus.exit(0, { data: 0x41n, atNs: 2500 });
    vcpus.exit(1, {
      ...{ reason: k.KVM_EXIT_MMIO, address: 0xc000_2000, data: 2n ** 64n - 1n, atNs: 2400 },
      ...{ sizeBytes: 8, isWrite: false },
    });
    vcpus.stream.poll();
    const [hello, batch] = checked(peer);
    expect(hello).toMatchObject({
      ...{ type: "hello", version: 1, microvm: "a" },
      devices: ["serial", "drive root", "entropy"],
    });
    const nowMs = Number(process.hrtime.bigint()) / 1e6 + (hello.zeroUnixMs as number);
    expect(Math.abs(nowMs - Date.now())).toBeLessThan(60_000);
    expect(batch).toEqual({
      ...{ type: "exits", lost: 0, dropped: 0 },
      exits: [
        {
          ...{ kind: "mmio", vcpu: 1, sequence: 0, device: "entropy", address: "0xc0002000" },
          ...{ sizeBytes: 8, direction: "read", data: "0xffffffffffffffff", count: 1 },
          ...{ atNs: 2400, guestNs: 5, hostNs: 10 },
        },
        {
          ...{ kind: "pio", vcpu: 0, sequence: 0, device: "serial", address: "0x3f8" },
          ...{ sizeBytes: 1, direction: "write", data: "0x41", count: 1 },
          ...{ atNs: 2500, guestNs: 5, hostNs: 10 },
        },
      ],
    });
  });

  it("filters, samples and begins in the past as it is asked to", async () => {
    const { vcpus, join } = await running();
    vcpus.exits(0, 4);
    const { peer } = join({ history: 3, vcpu: ["0"], sample: 2, rip: true });
    vcpus.exit(0, { rip: 2n ** 63n });
    vcpus.exits(1, 5);
    vcpus.stream.poll();
    const exits = checked(peer).flatMap(({ exits = [] }) => exits as Record<string, unknown>[]);
    expect(exits.map(({ sequence }) => sequence)).toEqual([1, 3]);
    expect(exits[0].rip).toBe("0x0");
  });

  it("sends frames when they are asked for", async () => {
    const { vcpus, join } = await running();
    const { peer } = join({ format: "binary" });
    vcpus.exit(0, { data: 7n });
    vcpus.stream.poll();
    const [hello, frame] = peer.messages;
    const { devices } = JSON.parse(hello as string);
    const batch = decodeExitFrame(frame as Uint8Array, devices);
    expect(batch.toArray()).toMatchObject([{ kind: "pio", device: "serial", data: 7n }]);
    expect(batch.kind[0]).toBe(exitKindCode("pio"));
  });

  it("counts windows when it is asked to", async () => {
    const { fleet, vcpus, join } = await running();
    const { peer } = join({ by: ["device,address"], windowMs: 3_600_000 });
    vcpus.exits(0, 3);
    fleet.machine("a").end(KILLED);
    const [, counts] = checked(peer);
    expect(counts).toMatchObject({
      ...{ type: "counts", exits: 3, otherExits: 0, lost: 0, dropped: 0 },
      groups: [{ device: "serial", address: "0x3f8", exits: 3, hostP50Ns: 10 }],
    });
  });

  it("sends nothing to a client that does not read, and tells it how much that was", async () => {
    const { vcpus, join } = await running();
    const { peer, session } = join();
    peer.room = 1;
    for (let round = 0; round < 4; round++) {
      vcpus.exits(0, 10);
      vcpus.stream.poll();
    }
    expect(peer.messages).toHaveLength(2);
    peer.room = 2;
    session.onDrain?.();
    vcpus.exits(0, 1);
    vcpus.stream.poll();
    expect(peer.json.at(-1)).toMatchObject({ dropped: 30, exits: [{ sequence: 40 }] });
  });

  it("ends with the microVM, once everything was sent", async () => {
    const { fleet, vcpus, join } = await running();
    const [fast, slow] = [join(), join()];
    slow.peer.room = 1;
    vcpus.exit(0);
    vcpus.stream.poll();
    fleet.machine("a").end(KILLED);
    expect(fast.peer.closed).toEqual({ code: 1000, reason: "the microVM has ended" });
    expect(slow.peer.closed).toBeUndefined();
    slow.session.onDrain?.();
    expect(slow.peer.closed?.code).toBe(1000);
  });

  it("stops watching when the client is gone", async () => {
    const { vcpus, join } = await running();
    const { session } = join({ rip: true });
    expect(vcpus.watch(1)).toBe(k.WATCH_RIP | k.WATCH_TIME);
    session.onClose();
    session.onClose();
    expect(vcpus.watch(1)).toBe(0);
  });

  it("closes a client that sends something", async () => {
    const { vcpus, join } = await running();
    const { peer, session } = join();
    session.onMessage?.(Buffer.from("x"), false);
    expect(peer.closed?.code).toBe(1008);
    expect(vcpus.watch()).toBe(0);
  });

  it("closes with the reason when there is no such microVM, or nothing of it", async () => {
    const { fleet } = await running();
    await fleet.create({ name: "idle", start: false });
    const closed = (id: string) => {
      const peer = new FakePeer();
      openExits(fleet, id, {})(peer).onClose();
      return peer.closed;
    };
    expect(closed("nobody")?.code).toBe(4404);
    expect(closed("idle")).toEqual({
      code: 4409,
      reason: "the microVM is configured: it has no exits",
    });
  });

  it.each([
    [{ device: ["drive data"] }, "ERR_ESTALO_CONFIG_INVALID"],
    [{ kind: ["io"] }, "ERR_ESTALO_CONFIG_INVALID"],
    [{ by: ["size"] }, "ERR_ESTALO_CONFIG_INVALID"],
    [{ vcpu: ["32"] }, "ERR_ESTALO_CONFIG_INVALID"],
    [{ address: "5-4" }, "ERR_ESTALO_CONFIG_INVALID"],
    [{ windowMs: 100 }, "ERR_ESTALO_REQUEST"],
  ])("refuses %j before the upgrade", async (query, code) => {
    const { join, vcpus } = await running();
    expect(() => join(query)).toThrow(expect.objectContaining({ code }));
    expect(vcpus.watch()).toBe(0);
  });
});
