/** A socket device with a guest that is played packet by packet, and ends of the host's that remember. */
import { expect } from "vitest";
import type { VirtioHost } from "../../src/devices/virtio/device.js";
import { VirtioVsock } from "../../src/devices/virtio/vsock.js";
import * as regs from "../../src/devices/virtio/vsock.regs.js";
import type {
  VsockCloseReason,
  VsockConnection,
  VsockEnd,
} from "../../src/devices/virtio/vsock-connection.js";
import { KIB, MIB } from "../../src/units.js";
import { createMemory } from "./fake-memory.js";
import { RingDriver } from "./ring-driver.js";
import { VirtioMachine } from "./virtio-machine.js";

const CID = 3;
const RECEIVE_BUFFERS = 512 * KIB;
const BUFFER_BYTES = 4096;
export const TRANSMIT = 256 * KIB;

export interface Packet {
  readonly operation: number;
  readonly hostPort: number;
  readonly guestPort: number;
  readonly flags: number;
  readonly buffer: number;
  readonly forwarded: number;
  readonly payload: Uint8Array;
}

export interface ToSend {
  operation: number;
  hostPort: number;
  guestPort: number;
  flags?: number;
  buffer?: number;
  forwarded?: number;
  payload?: Uint8Array;
  length?: number;
  type?: number;
  sourceCid?: number;
  destinationCid?: number;
}

/** What an end of the host's was told. */
export class FakeEnd implements VsockEnd {
  readonly bytes: number[] = [];
  connection: VsockConnection | undefined;
  opened = 0;
  ended = 0;
  drained = 0;
  closed: VsockCloseReason[] = [];
  /** Takes bytes at once. */
  reads = true;

  onOpen(): void {
    this.opened++;
  }
  onData(bytes: Uint8Array): void {
    this.bytes.push(...bytes);
    if (this.reads) this.connection?.consumed(bytes.length);
  }
  onEnd(): void {
    this.ended++;
  }
  onDrain(): void {
    this.drained++;
  }
  onClose(reason: VsockCloseReason): void {
    this.closed.push(reason);
  }
}

export class VsockMachine extends VirtioMachine<VirtioVsock> {
  readonly requests: VsockConnection[] = [];
  readonly timers = new Set<() => void>();
  receive!: RingDriver;
  transmit!: RingDriver;
  event!: RingDriver;

  static started({ connectionsMax = 1023, buffers = 64 } = {}): VsockMachine {
    const requests: VsockConnection[] = [];
    const timers = new Set<() => void>();
    const m = VsockMachine.with(
      (host) =>
        new VirtioVsock(host, {
          guestCid: CID,
          connectionsMax,
          onRequest: (connection) => requests.push(connection),
          schedule: (delayMs, task) => {
            expect(delayMs).toBe(regs.ANSWER_TIMEOUT_MS);
            timers.add(task);
            return () => timers.delete(task);
          },
        }),
      buffers,
    );
    return Object.assign(m, { requests, timers });
  }

  /** Around a device that somebody else makes. */
  static with(create: (host: VirtioHost) => VirtioVsock, buffers = 64): VsockMachine {
    const memory = createMemory(MIB);
    const m = new VsockMachine(memory, create);
    m.negotiate();
    m.receive = new RingDriver(memory, { eventIdx: true });
    m.transmit = new RingDriver(memory, { eventIdx: true, start: 64 * KIB });
    m.event = new RingDriver(memory, { eventIdx: true, start: 128 * KIB });
    for (const [index, ring] of [m.receive, m.transmit, m.event].entries()) {
      m.setUpQueue(index, ring);
    }
    m.driverOk();
    for (let i = 0; i < buffers; i++) m.offerBuffer();
    return m;
  }

  /** Where the buffer behind each head lies. */
  readonly #places = new Map<number, number>();
  #next = 0;

  offerBuffer(bytes = BUFFER_BYTES): void {
    const address = RECEIVE_BUFFERS + (this.#next++ % 64) * BUFFER_BYTES;
    const head = this.receive.add({ address, length: bytes, writable: true });
    this.#places.set(head, address);
    this.kick(regs.RECEIVE_QUEUE);
  }

  /** The guest sends a packet. */
  send(packet: ToSend): void {
    const payload = packet.payload ?? new Uint8Array(0);
    const header = new DataView(new ArrayBuffer(regs.HEADER_BYTES));
    header.setUint32(0, packet.sourceCid ?? CID, true);
    header.setUint32(8, packet.destinationCid ?? regs.HOST_CID, true);
    header.setUint32(16, packet.guestPort, true);
    header.setUint32(20, packet.hostPort, true);
    header.setUint32(24, packet.length ?? payload.length, true);
    header.setUint16(28, packet.type ?? regs.TYPE_STREAM, true);
    header.setUint16(30, packet.operation, true);
    header.setUint32(32, packet.flags ?? 0, true);
    header.setUint32(36, packet.buffer ?? 64 * KIB, true);
    header.setUint32(40, packet.forwarded ?? 0, true);
    this.memory.write(TRANSMIT, new Uint8Array(header.buffer));
    this.memory.write(TRANSMIT + regs.HEADER_BYTES, payload);
    const segments = [{ address: TRANSMIT, length: regs.HEADER_BYTES }];
    if (payload.length > 0) {
      segments.push({ address: TRANSMIT + regs.HEADER_BYTES, length: payload.length });
    }
    this.transmit.add(...segments);
    this.kick(regs.TRANSMIT_QUEUE);
    expect(this.transmit.takeUsed()).toHaveLength(1);
  }

  /** What the device has sent since the last call; its buffers are offered again unless `keep`. */
  got(keep = false): Packet[] {
    return this.receive.takeUsed().map(({ head, length }) => {
      const bytes = this.memory.read(this.#places.get(head) as number, length);
      const view = new DataView(bytes.buffer);
      expect(view.getUint32(0, true)).toBe(regs.HOST_CID);
      expect(view.getUint32(8, true)).toBe(CID);
      expect(view.getUint16(28, true)).toBe(regs.TYPE_STREAM);
      expect(view.getUint32(24, true)).toBe(length - regs.HEADER_BYTES);
      if (!keep) this.offerBuffer();
      return {
        hostPort: view.getUint32(16, true),
        guestPort: view.getUint32(20, true),
        operation: view.getUint16(30, true),
        flags: view.getUint32(32, true),
        buffer: view.getUint32(36, true),
        forwarded: view.getUint32(40, true),
        payload: bytes.subarray(regs.HEADER_BYTES),
      };
    });
  }

  operations(): number[] {
    return this.got().map(({ operation }) => operation);
  }

  /** A connection from the guest's port 1000 to the host's port 80, open. */
  fromGuest(): {
    end: FakeEnd;
    connection: VsockConnection;
    ports: Pick<ToSend, "hostPort" | "guestPort">;
  } {
    const ports = { hostPort: 80, guestPort: 1000 };
    this.send({ ...ports, operation: regs.REQUEST });
    const connection = this.requests.pop() as VsockConnection;
    const end = new FakeEnd();
    end.connection = connection;
    connection.accept(end);
    expect(this.operations()).toEqual([regs.RESPONSE]);
    return { end, connection, ports };
  }
}
