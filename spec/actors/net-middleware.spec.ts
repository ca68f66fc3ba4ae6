import { describe, expect, it, vi } from "vitest";
import { NetMiddleware } from "../../src/actors/net-middleware.js";
import type { FrameDetour } from "../../src/devices/backend.js";
import { RateLimiter } from "../../src/devices/rate-limiter.js";
import { VirtioNet } from "../../src/devices/virtio/net.js";
import { HEADER_BYTES, RECEIVE_QUEUE, TRANSMIT_QUEUE } from "../../src/devices/virtio/net.regs.js";
import { KIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";
import { FakeNetBackend } from "../support/fake-net-backend.js";
import { RingDriver } from "../support/ring-driver.js";
import { VirtioMachine } from "../support/virtio-machine.js";

const DATA = 64 * KIB;
/** A header that says: a checksum is left to do. */
const HEADER = Uint8Array.of(1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0);
const frame = (fill: number) => new Uint8Array(60).fill(fill);
const whole = (fill: number) => Uint8Array.from([...HEADER, ...frame(fill)]);
const turn = () => new Promise((resolve) => setImmediate(resolve));

function started(receiveLimiter?: RateLimiter) {
  const memory = createMemory(256 * KIB);
  const backend = new FakeNetBackend(memory);
  const m = new VirtioMachine(
    memory,
    (host) =>
      new VirtioNet(host, {
        backends: [backend],
        mac: Uint8Array.of(6, 0, 0, 0, 0, 1),
        ...(receiveLimiter === undefined ? {} : { receiveLimiter }),
      }),
  );
  m.negotiate();
  const receive = new RingDriver(memory, { size: 8 });
  const transmit = new RingDriver(memory, { size: 8, start: receive.endOfRings });
  m.setUpQueue(RECEIVE_QUEUE, receive);
  m.setUpQueue(TRANSMIT_QUEUE, transmit);
  m.driverOk();
  const reports: string[] = [];
  const net = new NetMiddleware((where) => reports.push(where));
  net.add("eth0", m.device);
  const send = (fill: number) => {
    memory.write(DATA, whole(fill));
    transmit.add({ address: DATA, length: HEADER_BYTES + 60 });
    m.kick(TRANSMIT_QUEUE);
  };
  const offer = () => receive.add({ address: DATA + 4096, length: 2048, writable: true });
  const got = () => {
    m.deliver();
    m.runDeferred();
    return receive.takeUsed().map(({ length }) => memory.read(DATA + 4096, length));
  };
  return { m, memory, backend, net, receive, transmit, reports, send, offer, got };
}

describe("NetMiddleware", () => {
  it("shows the guest's frames, and passes on what was looked at, with its header", async () => {
    const { memory, backend, net, send } = started();
    const seen: unknown[] = [];
    const remove = net.use(async (item, next) => {
      seen.push([item.interface, item.direction, item.bytes.length]);
      // The guest changes its memory meanwhile.
      memory.write(DATA, new Uint8Array(72).fill(9));
      await turn();
      await next();
    });
    send(5);
    expect(backend.sent).toEqual([]);
    await turn();
    await turn();
    expect(backend.sent).toEqual([whole(5)]);
    expect(seen).toEqual([["eth0", "from-guest", 60]]);
    remove();
    send(6);
    expect(backend.sent[1]).toEqual(whole(6));
    expect(backend.sendCalls).toBe(1);
  });

  it("changes frames, drops those that are not passed on, and those whose function throws", async () => {
    const { backend, net, reports, send } = started();
    net.use((item, next) => {
      if (item.bytes[0] === 1) return;
      if (item.bytes[0] === 2) throw new Error("own bug");
      item.bytes = frame(item.bytes[0] + 1);
      return next();
    });
    for (const fill of [1, 2, 3]) send(fill);
    await turn();
    expect(backend.sent).toEqual([whole(4)]);
    expect(reports).toEqual(["net middleware"]);
    expect(net.metrics["from-guest"]).toEqual({
      seen: 3,
      passed: 1,
      kept: 1,
      failed: 1,
      refused: 0,
    });
  });

  it.each(["from-guest", "to-guest"] as const)(
    "loses frames %s for which a function has put no bytes, and tells",
    async (direction) => {
      const { backend, net, reports, send, offer, got } = started();
      net.use((item, next) => {
        item.bytes = undefined as unknown as Uint8Array;
        return next();
      });
      offer();
      if (direction === "from-guest") send(1);
      else backend.arrive(whole(2));
      expect(got()).toEqual([]);
      await turn();
      await turn();
      expect(backend.sent).toEqual([]);
      expect(got()).toEqual([]);
      expect(net.metrics[direction].failed).toBe(1);
      expect(reports).toEqual(["net middleware"]);
    },
  );

  it("shows frames to the guest, of one direction if asked", async () => {
    const { backend, net, send, offer, got } = started();
    const directions: string[] = [];
    net.use(
      (item, next) => {
        directions.push(item.direction);
        return item.bytes[0] === 7 ? undefined : next();
      },
      { direction: "to-guest" },
    );
    send(1);
    expect(backend.sent.length).toBe(1);
    offer();
    backend.arrive(whole(7), whole(8));
    got();
    await turn();
    const [received] = got();
    expect(received.subarray(HEADER_BYTES)).toEqual(frame(8));
    expect([...received.subarray(0, 10)]).toEqual([...HEADER.subarray(0, 10)]);
    expect(directions).toEqual(["to-guest", "to-guest"]);
  });

  it("has nothing in the way of a direction's frames but while there are functions", () => {
    const detours = new Set<FrameDetour>();
    const net = new NetMiddleware(() => {});
    net.add("eth0", {
      addDetour: (detour) => {
        detours.add(detour);
        return () => detours.delete(detour);
      },
      sendToGuest: () => {},
      sendToHost: () => true,
    });
    const ways = () => [...detours].flatMap((detour) => Object.keys(detour)).sort();
    expect(ways()).toEqual([]);
    const [one, two] = [1, 2].map(() => net.use(() => {}, { direction: "to-guest" }));
    expect(ways()).toEqual(["receive"]);
    const both = net.use(() => {});
    expect(ways()).toEqual(["receive", "transmit"]);
    both();
    expect(ways()).toEqual(["receive"]);
    one();
    expect(ways()).toEqual(["receive"]);
    two();
    expect(ways()).toEqual([]);
  });

  it("copies no frame, and sends none alone, where there are no functions", () => {
    const { m, memory, backend, net, transmit, offer, got } = started();
    const copies = [vi.spyOn(backend, "sendBytes"), vi.spyOn(backend, "receiveBytes")];
    for (const isBefore of [true, false]) {
      if (!isBefore) net.use((_frame, next) => next())();
      memory.write(DATA, whole(1));
      for (let count = 0; count < 3; count++) {
        transmit.add({ address: DATA, length: HEADER_BYTES + 60 });
        offer();
      }
      m.kick(TRANSMIT_QUEUE);
      backend.arrive(whole(2), whole(3));
      expect(got()).toHaveLength(2);
    }
    expect(backend.sent).toHaveLength(6);
    expect(backend.sendCalls).toBe(2);
    for (const copy of copies) expect(copy).not.toHaveBeenCalled();
  });

  it("sends nothing while the cable is out, of what is shown then or was before", async () => {
    const { m, backend, net, send } = started();
    let shown = 0;
    net.use(async (_frame, next) => {
      shown++;
      await turn();
      await next();
    });
    send(1);
    m.device.setLink(false);
    send(2);
    await turn();
    await turn();
    expect(shown).toBe(1);
    expect(backend.sent).toEqual([]);
    expect(m.device.metrics).toMatchObject({ tx_fails: 2, tx_packets_count: 0 });
    m.device.setLink(true);
    send(3);
    await turn();
    await turn();
    expect(backend.sent).toEqual([whole(3)]);
  });

  it("has the guest's frames counted as others are, sent or lost", async () => {
    const { m, backend, net, send } = started();
    net.use((_frame, next) => next());
    send(1);
    backend.room = 0;
    send(2);
    backend.room = 1;
    vi.spyOn(backend, "sendBytes").mockImplementation(() => {
      backend.sendErrors++;
      return true;
    });
    send(3);
    await turn();
    expect(m.device.metrics).toMatchObject({
      tx_packets_count: 1,
      tx_bytes_count: HEADER_BYTES + 60,
      tx_fails: 2,
    });
  });

  it("leaves frames to the limit that they are under", async () => {
    let nowUs = 0;
    const limiter = new RateLimiter({ ops: { size: 1, refillTimeMs: 1000 } }, () => nowUs);
    const { m, backend, net, offer, got } = started(limiter);
    net.use((_item, next) => next());
    offer();
    offer();
    backend.arrive(whole(1), whole(2));
    got();
    await turn();
    expect(got().length).toBe(1);
    offer();
    m.kick(RECEIVE_QUEUE);
    expect(got().length).toBe(0);
    expect(m.device.metrics.rx_rate_limiter_throttled).toBeGreaterThan(0);
    nowUs = 2e6;
    limiter.reopen();
    m.device.resumeThrottled("receive");
    expect(got().length).toBe(1);
  });

  it("takes no more from the host for what it gives the guest: a flood has its turns like others", async () => {
    const { m, backend, net, receive, offer } = started();
    net.use((_frame, next) => next(), { direction: "to-guest" });
    // A host with more frames than anybody takes, and a guest that offers what it got at once.
    const taken = vi.spyOn(backend, "receiveBytes").mockImplementation(() => whole(1));
    const sendToGuest = m.device.sendToGuest.bind(m.device);
    vi.spyOn(m.device, "sendToGuest").mockImplementation((...sent) => {
      sendToGuest(...sent);
      for (const _used of receive.takeUsed()) offer();
    });
    for (let count = 0; count < receive.size; count++) offer();
    m.kick(RECEIVE_QUEUE);
    const inOneTurn = taken.mock.calls.length;
    for (let later = 1; later <= 3; later++) {
      await turn();
      expect(m.device.metrics.rx_packets_count).toBe(later * inOneTurn);
      expect(taken.mock.calls.length).toBe(later * inOneTurn);
      m.runDeferred(1);
    }
    expect(taken.mock.calls.length).toBe(4 * inOneTurn);
  });

  it("loses what functions still have at the end", async () => {
    const { backend, net, send } = started();
    let go: () => void = () => {};
    net.use(async (_item, next) => {
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      await next();
    });
    send(1);
    net.close();
    go();
    await turn();
    expect(backend.sent).toEqual([]);
  });
});
