import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as regs from "../../../src/devices/virtio/vsock.regs.js";
import type { VsockConnection } from "../../../src/devices/virtio/vsock-connection.js";
import { KIB } from "../../../src/units.js";
import { FakeEnd, TRANSMIT, VsockMachine } from "../../support/vsock-machine.js";

describe("VirtioVsock connecting", () => {
  it("shows its guest's context id", () => {
    const m = VsockMachine.started();
    expect([...m.device.config]).toEqual([3, 0, 0, 0, 0, 0, 0, 0]);
  });

  it("asks the guest on behalf of the host, and hears that it accepts", () => {
    const m = VsockMachine.started();
    const end = new FakeEnd();
    const connection = m.device.connect(52, end);
    const [request] = m.got();
    expect(request).toMatchObject({
      operation: regs.REQUEST,
      guestPort: 52,
      hostPort: regs.HOST_PORT_FIRST,
      buffer: regs.BUFFER_BYTES,
    });
    expect(end.opened).toBe(0);
    m.send({ ...request, operation: regs.RESPONSE, payload: new Uint8Array(0) });
    expect(end.opened).toBe(1);
    expect(connection?.hostPort).toBe(regs.HOST_PORT_FIRST);
    expect(m.timers.size).toBe(0);
    // The next one has a port of its own.
    m.device.connect(52, new FakeEnd());
    expect(m.got()[0].hostPort).toBe(regs.HOST_PORT_FIRST + 1);
  });

  it("tells the host when the guest refuses, or does not answer", () => {
    const m = VsockMachine.started();
    const refused = new FakeEnd();
    m.device.connect(52, refused);
    const [{ hostPort }] = m.got();
    m.send({ operation: regs.RESET, hostPort, guestPort: 52 });
    expect(refused.closed).toEqual(["refused"]);
    const silent = new FakeEnd();
    m.device.connect(53, silent);
    m.got();
    for (const timer of m.timers) timer();
    expect(silent.closed).toEqual(["timed-out"]);
    expect(m.operations()).toEqual([regs.RESET]);
    expect(m.device.connectionCount).toBe(0);
  });

  it("lets the host accept what the guest asks for, or refuse it", () => {
    const m = VsockMachine.started();
    m.fromGuest();
    m.send({ operation: regs.REQUEST, hostPort: 81, guestPort: 1001 });
    m.requests.pop()?.destroy();
    expect(m.got()[0]).toMatchObject({ operation: regs.RESET, hostPort: 81, guestPort: 1001 });
    expect(m.device.connectionCount).toBe(1);
  });

  it("has a limit on connections, both ways", () => {
    const m = VsockMachine.started({ connectionsMax: 1 });
    m.fromGuest();
    m.send({ operation: regs.REQUEST, hostPort: 80, guestPort: 1001 });
    expect(m.operations()).toEqual([regs.RESET]);
    expect(m.device.connect(52, new FakeEnd())).toBeUndefined();
  });

  it("resets what it does not know, and never answers a reset", () => {
    const m = VsockMachine.started();
    m.send({ operation: regs.DATA, hostPort: 7, guestPort: 8, payload: Uint8Array.of(1) });
    expect(m.got()[0]).toMatchObject({ operation: regs.RESET, hostPort: 7, guestPort: 8 });
    m.send({ operation: regs.REQUEST, hostPort: 7, guestPort: 8, type: 2 });
    expect(m.operations()).toEqual([regs.RESET]);
    m.send({ operation: regs.RESET, hostPort: 7, guestPort: 8 });
    m.send({ operation: regs.RESET, hostPort: 7, guestPort: 8, type: 9 });
    expect(m.got()).toEqual([]);
  });

  it.each([
    ["from another context", { sourceCid: 4 }],
    ["to another context", { destinationCid: 5 }],
    ["that claims more payload than it has", { length: 1 }],
    ["that claims more than a packet holds", { length: regs.PAYLOAD_BYTES_MAX + 1 }],
  ])("drops and counts a packet %s", (_what, wrong) => {
    const m = VsockMachine.started();
    m.send({ operation: regs.REQUEST, hostPort: 80, guestPort: 1, ...wrong });
    expect(m.requests).toEqual([]);
    expect(m.got()).toEqual([]);
    expect(m.device.metrics.tx_queue_event_fails).toBe(1);
    expect(m.faults).toEqual([]);
  });
});

describe("VirtioVsock carrying bytes", () => {
  const bytes = (length: number, seed = 0) =>
    Uint8Array.from({ length }, (_, index) => (index * 7 + seed) % 251);

  it("hands the guest's bytes on and tells it of room", () => {
    const m = VsockMachine.started();
    const { end, ports } = m.fromGuest();
    m.send({ ...ports, operation: regs.DATA, payload: bytes(1000) });
    expect(end.bytes).toEqual([...bytes(1000)]);
    // Too little to tell of yet.
    expect(m.got()).toEqual([]);
    m.send({ ...ports, operation: regs.DATA, payload: bytes(4000) });
    expect(m.got()[0]).toMatchObject({ operation: regs.CREDIT_UPDATE, forwarded: 5000 });
    m.send({ ...ports, operation: regs.CREDIT_REQUEST });
    expect(m.got()[0]).toMatchObject({ operation: regs.CREDIT_UPDATE, forwarded: 5000 });
  });

  it("resets a guest that sends more than it was given room for", () => {
    const m = VsockMachine.started();
    const { end, ports } = m.fromGuest();
    end.reads = false;
    const payload = bytes(32 * KIB);
    m.send({ ...ports, operation: regs.DATA, payload });
    m.send({ ...ports, operation: regs.DATA, payload });
    expect(m.operations()).toEqual([]);
    m.send({ ...ports, operation: regs.DATA, payload: bytes(1) });
    expect(m.operations()).toEqual([regs.RESET]);
    expect(end.closed).toEqual(["reset"]);
    expect(end.bytes).toHaveLength(64 * KIB);
  });

  it("sends what the host writes, as much as the guest has room for", () => {
    const m = VsockMachine.started();
    const { end, connection, ports } = m.fromGuest();
    m.send({ ...ports, operation: regs.CREDIT_UPDATE, buffer: 5000 });
    const all = bytes(12_000);
    expect(connection.write(all)).toBe(true);
    const first = m.got();
    expect(first.map(({ operation }) => operation)).toEqual([
      regs.DATA,
      regs.DATA,
      regs.CREDIT_REQUEST,
    ]);
    expect(first[0].payload.length + first[1].payload.length).toBe(5000);
    m.send({ ...ports, operation: regs.CREDIT_UPDATE, buffer: 20_000, forwarded: 5000 });
    const parts = [...first, ...m.got()].flatMap(({ payload }) => [...payload]);
    expect(parts).toEqual([...all]);
    expect(end.drained).toBe(0);
  });

  it("asks a guest for room once, until it has some", () => {
    const m = VsockMachine.started();
    const { connection, ports } = m.fromGuest();
    m.send({ ...ports, operation: regs.CREDIT_UPDATE, buffer: 1000 });
    connection.write(bytes(3000));
    expect(m.operations()).toEqual([regs.DATA, regs.CREDIT_REQUEST]);
    // Its program does not read: it answers at once, and has none.
    m.send({ ...ports, operation: regs.CREDIT_UPDATE, buffer: 1000 });
    expect(m.operations()).toEqual([]);
    m.send({ ...ports, operation: regs.CREDIT_UPDATE, buffer: 1000, forwarded: 1000 });
    expect(m.operations()).toEqual([regs.DATA, regs.CREDIT_REQUEST]);
  });

  it("tells a fast host to wait, and when to go on", () => {
    const m = VsockMachine.started();
    const { end, connection, ports } = m.fromGuest();
    expect(connection.write(bytes(200_000))).toBe(false);
    let sent = 0;
    for (let round = 0; round < 100 && end.drained === 0; round++) {
      for (const packet of m.got()) sent += packet.payload.length;
      m.send({ ...ports, operation: regs.CREDIT_UPDATE, forwarded: sent });
    }
    for (const packet of m.got()) sent += packet.payload.length;
    expect(sent).toBe(200_000);
    expect(end.drained).toBe(1);
  });

  it("resets a guest that claims to have taken what it never got", () => {
    const m = VsockMachine.started();
    const { end, ports } = m.fromGuest();
    m.send({ ...ports, operation: regs.CREDIT_UPDATE, forwarded: 1 });
    expect(m.operations()).toEqual([regs.RESET]);
    expect(end.closed).toEqual(["reset"]);
  });

  it("gives every connection its turn", () => {
    const m = VsockMachine.started({ buffers: 0 });
    const connections = [1, 2, 3].map((guestPort) => {
      m.send({ operation: regs.REQUEST, hostPort: 80, guestPort });
      const connection = m.requests.pop() as VsockConnection;
      connection.accept(new FakeEnd());
      return connection;
    });
    for (const connection of connections) connection.write(bytes(8000));
    const order: number[] = [];
    for (let round = 0; round < 9; round++) {
      m.offerBuffer();
      order.push(...m.got(true).map(({ guestPort }) => guestPort));
    }
    expect(order).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3]);
  });
});

describe("VirtioVsock closing", () => {
  it("half closes from the host's side after what was written, and still takes the guest's bytes", () => {
    const m = VsockMachine.started();
    const { end, connection, ports } = m.fromGuest();
    connection.write(Uint8Array.of(1, 2));
    connection.end();
    expect(m.got().map(({ operation, flags }) => [operation, flags])).toEqual([
      [regs.DATA, 0],
      [regs.SHUTDOWN, regs.SHUTDOWN_SEND_MASK],
    ]);
    m.send({ ...ports, operation: regs.DATA, payload: Uint8Array.of(9), forwarded: 2 });
    expect(end.bytes).toEqual([9]);
    m.send({ ...ports, operation: regs.SHUTDOWN, flags: 3, forwarded: 2 });
    expect(end.ended).toBe(1);
    expect(end.closed).toEqual(["ended"]);
    expect(m.operations()).toEqual([regs.RESET]);
  });

  it("half closes as soon as the guest accepts what the host has ended already", () => {
    const m = VsockMachine.started();
    const end = new FakeEnd();
    const connection = m.device.connect(52, end);
    const { hostPort } = m.got()[0];
    connection?.end();
    expect(m.got()).toEqual([]);
    m.send({ operation: regs.RESPONSE, hostPort, guestPort: 52 });
    expect(m.got()[0]).toMatchObject({
      operation: regs.SHUTDOWN,
      flags: regs.SHUTDOWN_SEND_MASK,
    });
  });

  it("half closes from the guest's side, and the host may still write", () => {
    const m = VsockMachine.started();
    const { end, connection, ports } = m.fromGuest();
    m.send({ ...ports, operation: regs.SHUTDOWN, flags: regs.SHUTDOWN_SEND_MASK });
    expect(end.ended).toBe(1);
    expect(end.closed).toEqual([]);
    connection.write(Uint8Array.of(5));
    connection.end();
    expect(m.got().map(({ operation, flags }) => [operation, flags])).toEqual([
      [regs.DATA, 0],
      [regs.SHUTDOWN, 3],
    ]);
    m.send({ ...ports, operation: regs.RESET });
    expect(end.closed).toEqual(["ended"]);
    expect(m.timers.size).toBe(0);
  });

  it("lets a host go on, and close, whose guest receives no more", () => {
    const m = VsockMachine.started();
    const { end, connection, ports } = m.fromGuest();
    expect(connection.write(new Uint8Array(200_000))).toBe(false);
    m.got();
    const receivesNoMore = { operation: regs.SHUTDOWN, flags: regs.SHUTDOWN_RECEIVE_MASK };
    m.send({ ...ports, ...receivesNoMore });
    expect(end.drained).toBe(1);
    expect(connection.write(new Uint8Array(200_000))).toBe(true);
    m.send({ ...ports, ...receivesNoMore });
    expect(end.drained).toBe(1);
    expect(m.got()).toEqual([]);
    m.send({ ...ports, operation: regs.DATA, payload: Uint8Array.of(9) });
    expect(end.bytes).toEqual([9]);
    connection.close();
    expect(m.got().map(({ operation, flags }) => [operation, flags])).toEqual([[regs.SHUTDOWN, 3]]);
    m.send({ ...ports, operation: regs.RESET });
    expect(end.closed).toEqual(["ended"]);
  });

  it("resets a guest that does not answer the host's close in time", () => {
    const m = VsockMachine.started();
    const { end, connection } = m.fromGuest();
    connection.close();
    expect(m.got()[0]).toMatchObject({ operation: regs.SHUTDOWN, flags: 3 });
    for (const timer of m.timers) timer();
    expect(m.operations()).toEqual([regs.RESET]);
    expect(end.closed).toEqual(["ended"]);
  });

  it("resets a guest that sends after it said it would not", () => {
    const m = VsockMachine.started();
    const { end, ports } = m.fromGuest();
    m.send({ ...ports, operation: regs.SHUTDOWN, flags: regs.SHUTDOWN_SEND_MASK });
    m.send({ ...ports, operation: regs.DATA, payload: Uint8Array.of(1) });
    expect(m.operations()).toEqual([regs.RESET]);
    expect(end.bytes).toEqual([]);
  });

  it("ends every connection when its driver resets it, and when the microVM becomes another", () => {
    const m = VsockMachine.started();
    const { end } = m.fromGuest();
    m.reset();
    expect(end.closed).toEqual(["reset"]);
    const again = VsockMachine.started();
    const second = again.fromGuest();
    again.event.add({ address: TRANSMIT, length: 8, writable: true });
    again.kick(regs.EVENT_QUEUE);
    again.device.resetTransport();
    expect(second.end.closed).toEqual(["reset"]);
    expect(again.event.takeUsed()).toMatchObject([{ length: 4 }]);
    expect(again.device.connectionCount).toBe(0);
  });

  it("tells a guest of every connection that the host ended, however late it has buffers", () => {
    const m = VsockMachine.started({ buffers: 0 });
    const CONNECTIONS = 600;
    for (let guestPort = 0; guestPort < CONNECTIONS; guestPort++) {
      m.send({ operation: regs.REQUEST, hostPort: 80, guestPort });
      m.requests[guestPort].accept(new FakeEnd());
    }
    for (const connection of m.requests) connection.destroy();
    const reset = new Set<number>();
    for (let round = 0; round < CONNECTIONS; round++) {
      m.offerBuffer();
      for (const { operation, guestPort } of m.got(true)) {
        if (operation === regs.RESET) reset.add(guestPort);
      }
    }
    expect(reset.size).toBe(CONNECTIONS);
  });

  it("keeps few resets for a guest that asks, is refused and takes none", () => {
    const m = VsockMachine.started({ buffers: 0, connectionsMax: 4 });
    for (let guestPort = 0; guestPort < 2000; guestPort++) {
      m.send({ operation: regs.REQUEST, hostPort: 80, guestPort });
      m.requests.pop()?.destroy();
    }
    let resets = 0;
    for (let round = 0; round < 300; round++) {
      m.offerBuffer();
      resets += m.got(true).length;
    }
    expect(resets).toBe(260);
  });

  it("survives a flood of requests to nobody with bounded memory", () => {
    const m = VsockMachine.started({ buffers: 0, connectionsMax: 4 });
    for (let guestPort = 0; guestPort < 2000; guestPort++) {
      m.send({ operation: regs.REQUEST, hostPort: 80, guestPort });
    }
    expect(m.requests).toHaveLength(4);
    for (let round = 0; round < 300; round++) m.offerBuffer();
    expect(m.got(true).length).toBeLessThanOrEqual(256);
  });
});

describe("VirtioVsock under a random life", () => {
  it("loses and reorders nothing, and never exceeds the guest's room", () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant("write" as const), bytes: fc.integer({ min: 1, max: 20_000 }) }),
      fc.record({ do: fc.constant("send" as const), bytes: fc.integer({ min: 1, max: 9000 }) }),
      fc.record({ do: fc.constant("take" as const), bytes: fc.integer({ min: 1, max: 30_000 }) }),
      fc.record({ do: fc.constant("consume" as const), bytes: fc.integer({ min: 1, max: 9000 }) }),
    );
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 60 }),
        fc.integer({ min: 1, max: 64 }),
        (steps, kib) => {
          const m = VsockMachine.started();
          const { end, connection, ports } = m.fromGuest();
          end.reads = false;
          const buffer = kib * KIB;
          const written: number[] = [];
          const arrived: number[] = [];
          const sent: number[] = [];
          let taken = 0;
          let consumed = 0;
          let room = regs.BUFFER_BYTES;
          const guest = () => ({ ...ports, buffer, forwarded: taken });
          const collect = () => {
            for (const packet of m.got()) {
              arrived.push(...packet.payload);
              room = packet.forwarded + packet.buffer - sent.length;
              // Until the guest first spoke of its room, 64 KiB were promised.
              expect(arrived.length - taken).toBeLessThanOrEqual(Math.max(buffer, 64 * KIB));
            }
          };
          m.send({ ...guest(), operation: regs.CREDIT_UPDATE });
          for (const it of steps) {
            if (it.do === "write") {
              const part = bytesFrom(written.length, it.bytes);
              written.push(...part);
              connection.write(part);
            } else if (it.do === "send") {
              const part = bytesFrom(sent.length, Math.min(it.bytes, room));
              if (part.length === 0) continue;
              sent.push(...part);
              room -= part.length;
              m.send({ ...guest(), operation: regs.DATA, payload: part });
            } else if (it.do === "take") {
              taken = Math.min(arrived.length, taken + it.bytes);
              m.send({ ...guest(), operation: regs.CREDIT_UPDATE });
            } else {
              const count = Math.min(end.bytes.length - consumed, it.bytes);
              consumed += count;
              connection.consumed(count);
            }
            collect();
            expect(end.closed).toEqual([]);
          }
          for (let round = 0; round < 400 && arrived.length < written.length; round++) {
            taken = arrived.length;
            m.send({ ...guest(), operation: regs.CREDIT_UPDATE });
            collect();
          }
          expect(arrived.length).toBe(written.length);
          expect(Buffer.from(arrived).equals(Buffer.from(written))).toBe(true);
          expect(Buffer.from(end.bytes).equals(Buffer.from(sent))).toBe(true);
        },
      ),
      { numRuns: 40 },
    );
  });

  it("takes any packet at all without a fault", () => {
    const word = fc.oneof(fc.nat(8), fc.nat(2 ** 32 - 1));
    const packet = fc.record({
      operation: fc.nat(9),
      hostPort: fc.nat(2),
      guestPort: fc.nat(2),
      flags: word,
      buffer: word,
      forwarded: word,
      type: fc.constantFrom(1, 1, 1, 2),
      payload: fc.uint8Array({ maxLength: 100 }),
    });
    fc.assert(
      fc.property(fc.array(packet, { maxLength: 60 }), (packets) => {
        const m = VsockMachine.started({ connectionsMax: 3 });
        for (const one of packets) {
          m.send(one);
          for (const request of m.requests.splice(0)) {
            if (request.guestPort === 2) request.destroy();
            else {
              const end = new FakeEnd();
              end.connection = request;
              request.accept(end);
              request.write(Uint8Array.of(1, 2, 3));
            }
          }
          m.got();
          expect(m.device.connectionCount).toBeLessThanOrEqual(3);
        }
        expect(m.faults).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });
});

function bytesFrom(start: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => ((start + index) * 31) % 253);
}
