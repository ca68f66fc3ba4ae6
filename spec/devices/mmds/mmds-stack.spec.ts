import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createMmdsMetrics } from "../../../src/devices/mmds/mmds.state.js";
import { MmdsStack } from "../../../src/devices/mmds/mmds-stack.js";
import {
  ACK,
  arpRequest,
  FIN,
  GUEST_IPV4,
  guestFrame,
  RESEND_US,
  RST,
  readFrame,
  SERVICE_IPV4,
  SYN,
  segment,
  TcpClient,
} from "../../support/mmds-guest.js";

/** A service that answers with the request's text, so many times. */
class Service {
  nowUs = 0;
  readonly metrics = createMmdsMetrics();
  readonly stack: MmdsStack;

  constructor(repeat = 1) {
    this.stack = new MmdsStack({
      ipv4Address: SERVICE_IPV4,
      metrics: this.metrics,
      nowUs: () => this.nowUs,
      randomU32: () => 0xffff_fff0,
      answer: (request) => {
        const text = new TextDecoder().decode(request);
        return new TextEncoder().encode(text.repeat(repeat));
      },
    });
  }

  drain(): Uint8Array[] {
    const frames = [];
    for (let next = this.stack.takeFrame(); next !== undefined; next = this.stack.takeFrame()) {
      expect(frames.length).toBeLessThan(1000);
      frames.push(next);
    }
    return frames;
  }
}

describe("MmdsStack", () => {
  it("answers ARP for its address, to each who asks", () => {
    const one = new Service();
    expect(one.stack.handleFrame(arpRequest())).toBe(true);
    const [reply, ...rest] = one.drain();
    expect(rest).toEqual([]);
    expect(reply.subarray(22, 32)).toEqual(
      Uint8Array.of(6, 1, 0x23, 0x45, 0x67, 1, 169, 254, 169, 254),
    );
    expect(one.metrics).toMatchObject({ rx_accepted: 1, tx_frames: 1, tx_count: 1, tx_bytes: 42 });
  });

  it("leaves alone what is for others, and what is no packet", () => {
    const one = new Service();
    const reply = arpRequest();
    reply[21] = 2;
    const broken = guestFrame(segment());
    broken[16] = 0xff;
    const others = [arpRequest(GUEST_IPV4), guestFrame(segment(), GUEST_IPV4), reply, broken];
    for (const frame of others) expect(one.stack.handleFrame(frame)).toBe(false);
    expect(one.stack.handleFrame(new Uint8Array(13))).toBe(false);
    expect(one.metrics).toMatchObject({ rx_accepted: 0, rx_bad_eth: 1 });
    expect(one.drain()).toEqual([]);
  });

  it("swallows what it has no use for", () => {
    const one = new Service();
    const udp = guestFrame(segment());
    udp[23] = 17;
    const fragment = guestFrame(segment({ flags: SYN }));
    fragment[20] = 0x20;
    const later = guestFrame(segment({ flags: SYN }));
    later[21] = 1;
    for (const frame of [udp, fragment, later]) expect(one.stack.handleFrame(frame)).toBe(true);
    expect(one.metrics.rx_accepted_unusual).toBe(3);
    const short = guestFrame(segment());
    short[17] = 30;
    for (const frame of [short, guestFrame(segment({ flags: SYN, localPort: 443 }))]) {
      expect(one.stack.handleFrame(frame)).toBe(true);
    }
    expect(one.metrics).toMatchObject({ rx_accepted: 5, rx_accepted_err: 2, rx_count: 0 });
    expect(one.drain()).toEqual([]);
  });

  it("sends to who wrote last", () => {
    const one = new Service();
    one.stack.handleFrame(guestFrame(segment({ acknowledgement: 3 })));
    expect(one.drain().map(readFrame)).toMatchObject([{ flags: RST, sequence: 3 }]);
  });

  it("survives any frames, and keeps its bounds", () => {
    const flags = fc.integer({ min: 0, max: 31 });
    const wild = fc.record({
      remotePort: fc.integer({ min: 1, max: 40 }),
      sequence: fc.constantFrom(0, 1, 7, 8, 20, 0xffff_ffff, 0x8000_0000),
      acknowledgement: fc.constantFrom(0, 0xffff_fff1, 0xffff_fff2, 5, 0x7fff_ffff),
      flags: fc.oneof(flags, fc.constantFrom(SYN, ACK, FIN | ACK)),
      window: fc.constantFrom(0, 1, 100, 65_535),
      mss: fc.constantFrom(undefined, 0, 99, 100, 65_535),
      text: fc.constantFrom("", "GET / HTTP/1.1\r\n\r\n", "\n\n", "x".repeat(2500), "x"),
    });
    const frame = fc.oneof(
      { weight: 4, arbitrary: wild.map((parts) => guestFrame(segment(parts))) },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 80 }) },
    );
    const step = fc.record({ frame, waitUs: fc.constantFrom(0, 1000, 300_000, 11_000_000) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const one = new Service(50);
        for (const { frame: bytes, waitUs } of steps) {
          one.stack.handleFrame(bytes);
          one.nowUs += waitUs;
          for (const sent of one.drain()) expect(sent.length).toBeLessThanOrEqual(1514);
        }
        const { connections_created: created, connections_destroyed: destroyed } = one.metrics;
        expect(created - destroyed).toBeLessThanOrEqual(30);
        // With nobody there it comes to rest.
        for (let turn = 0; turn < 600 && one.stack.timeoutUs !== undefined; turn++) {
          one.nowUs = Math.max(one.nowUs, one.stack.timeoutUs);
          one.drain();
        }
        expect(one.stack.timeoutUs).toBeUndefined();
      }),
      { numRuns: 150 },
    );
  });
});

/** Small, repeatable: what the link does to the next frame. */
function createFates(seed: number, lossPercent: number) {
  let state = seed >>> 0;
  const roll = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * 100);
  };
  return () => {
    const at = roll();
    if (at < lossPercent) return "lost";
    if (at < lossPercent + 15) return "twice";
    return at < lossPercent + 30 ? "late" : "once";
  };
}

describe("a conversation over a bad link", () => {
  it("ends with every byte of every reply, once and in order", () => {
    const parameters = fc.record({
      seed: fc.nat(),
      lossPercent: fc.integer({ min: 0, max: 40 }),
      repeat: fc.integer({ min: 1, max: 300 }),
      requests: fc.integer({ min: 1, max: 4 }),
      mss: fc.constantFrom(100, 536, 1460),
    });
    fc.assert(
      fc.property(parameters, ({ seed, lossPercent, repeat, requests, mss }) => {
        const one = new Service(repeat);
        const fate = createFates(seed, lossPercent);
        const text = Array.from(
          { length: requests },
          (_, index) => `GET /${index} HTTP/1.1\r\n\r\n`,
        );
        const wanted = new TextEncoder().encode(text.map((each) => each.repeat(repeat)).join(""));
        const links: (() => void)[] = [];
        const carry = (deliver: () => void) => {
          const what = fate();
          if (what === "lost") return;
          if (what === "late") links.splice(Math.max(0, links.length - 3), 0, deliver);
          else links.push(deliver);
          if (what === "twice") links.push(deliver);
        };
        const client = new TcpClient(
          (bytes) => carry(() => void one.stack.handleFrame(bytes)),
          new TextEncoder().encode(text.join("")),
          wanted.length,
          { mss },
        );
        for (let turn = 0; turn < 3000 && !client.isDone; turn++) {
          client.turn();
          for (let busy = 0; busy < 5000; busy++) {
            for (const bytes of one.drain()) carry(() => client.take(bytes));
            const next = links.shift();
            if (next === undefined) break;
            next();
          }
          one.nowUs += RESEND_US;
          expect(client.isReset).toBe(false);
        }
        expect(client.isDone).toBe(true);
        expect(Buffer.compare(Buffer.from(client.received), Buffer.from(wanted))).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});
