/**
 * A guest of the metadata service without a kernel: builds frames, takes the service's apart and checks their
 * sums, and speaks enough TCP to hold a conversation over a link that loses, repeats and reorders.
 */
import { expect } from "vitest";
import { checksum, parseIpv4, parseTcp, type TcpSegment } from "../../src/devices/mmds/frames.js";

export const SERVICE_IPV4 = 0xa9fe_a9fe;
export const GUEST_IPV4 = 0xac10_0002;
export const GUEST_MAC = Uint8Array.of(6, 0, 0xac, 0x10, 0, 2);
export const SERVICE_MAC = Uint8Array.of(6, 1, 0x23, 0x45, 0x67, 1);
export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;

const encoder = new TextEncoder();

/** A guest's segment; what is not said is a plain ACK from port 40,000 to port 80. */
export function segment(parts: Partial<TcpSegment> & { text?: string } = {}): TcpSegment {
  return {
    remoteIpv4: GUEST_IPV4,
    remotePort: 40_000,
    localPort: 80,
    sequence: 0,
    acknowledgement: 0,
    flags: ACK,
    window: 64_240,
    mss: undefined,
    payload: encoder.encode(parts.text ?? ""),
    ...parts,
  };
}

/** The segment as a frame to the service, without checksums, as a driver with offloads leaves it. */
export function guestFrame(parts: TcpSegment, destination = SERVICE_IPV4): Uint8Array {
  const options = parts.mss === undefined ? 0 : 4;
  const frame = new Uint8Array(14 + 20 + 20 + options + parts.payload.length);
  frame.set(SERVICE_MAC, 0);
  frame.set(GUEST_MAC, 6);
  const view = new DataView(frame.buffer);
  view.setUint16(12, 0x0800);
  view.setUint8(14, 0x45);
  view.setUint16(16, frame.length - 14);
  view.setUint8(22, 64);
  view.setUint8(23, 6);
  view.setUint32(26, parts.remoteIpv4);
  view.setUint32(30, destination);
  view.setUint16(34, parts.remotePort);
  view.setUint16(36, parts.localPort);
  view.setUint32(38, parts.sequence);
  view.setUint32(42, parts.acknowledgement);
  view.setUint8(46, ((20 + options) / 4) << 4);
  view.setUint8(47, parts.flags);
  view.setUint16(48, parts.window);
  if (parts.mss !== undefined) {
    view.setUint16(54, 0x0204);
    view.setUint16(56, parts.mss);
  }
  frame.set(parts.payload, 54 + options);
  return frame;
}

/** An ARP request for an address. */
export function arpRequest(target = SERVICE_IPV4): Uint8Array {
  const frame = new Uint8Array(42);
  frame.fill(0xff, 0, 6);
  frame.set(GUEST_MAC, 6);
  const view = new DataView(frame.buffer);
  view.setUint16(12, 0x0806);
  view.setUint16(14, 1);
  view.setUint16(16, 0x0800);
  view.setUint8(18, 6);
  view.setUint8(19, 4);
  view.setUint16(20, 1);
  frame.set(GUEST_MAC, 22);
  view.setUint32(28, GUEST_IPV4);
  view.setUint32(38, target);
  return frame;
}

/** The segment in a frame of the service's, whose every length and sum must be right. */
export function readFrame(frame: Uint8Array): TcpSegment {
  expect(frame.subarray(0, 6)).toEqual(GUEST_MAC);
  expect(frame.subarray(6, 12)).toEqual(SERVICE_MAC);
  const packet = parseIpv4(frame);
  if (packet === undefined) throw new Error("no IPv4 packet");
  expect(packet.source).toBe(SERVICE_IPV4);
  expect(checksum(frame.subarray(14, 34), 0)).toBe(0);
  const view = new DataView(frame.buffer, frame.byteOffset);
  const words = [26, 28, 30, 32].map((offset) => view.getUint16(offset));
  const pseudo = words.reduce((sum, word) => sum + word, 6 + packet.payload.length);
  expect(checksum(packet.payload, pseudo)).toBe(0);
  const found = parseTcp(packet.payload, view.getUint32(30));
  if (found === undefined) throw new Error("no TCP segment");
  return { ...found, remotePort: found.localPort, localPort: found.remotePort };
}

/** How often a client takes a turn. */
export const RESEND_US = 200_000;
const WINDOW = 8000;

/** The client's end of one connection. It asks for a new turn every `RESEND_US` until everything is there. */
export class TcpClient {
  readonly received: number[] = [];
  readonly #port: number;
  readonly #sequence: number;
  readonly #mss: number;
  readonly #send: (frame: Uint8Array) => void;
  readonly #data: Uint8Array;
  readonly #wanted: number;
  #acknowledged = 0;
  #expected = 0;
  #isOpen = false;
  #finExpected = false;
  isReset = false;

  /** @param wanted - bytes after which it closes */
  constructor(
    send: (frame: Uint8Array) => void,
    data: Uint8Array,
    wanted: number,
    { port = 40_000, sequence = 0xffff_ff00, mss = 536 } = {},
  ) {
    this.#send = send;
    this.#data = data;
    this.#wanted = wanted;
    this.#port = port;
    this.#sequence = sequence;
    this.#mss = mss;
  }

  /** Everything was received, and the other end has closed as well. */
  get isDone(): boolean {
    return this.#finExpected;
  }

  /** Sends what is not acknowledged, all of it. */
  turn(): void {
    if (this.isReset) return;
    if (!this.#isOpen) {
      this.#emit(0, SYN, new Uint8Array(0), this.#mss);
      return;
    }
    const total = this.#data.length;
    for (let at = Math.max(0, this.#acknowledged - 1); at < total; at += this.#mss) {
      this.#emit(at + 1, ACK | PSH, this.#data.subarray(at, at + this.#mss));
    }
    this.#emit(total + 1, this.#isClosing ? FIN | ACK : ACK, new Uint8Array(0));
  }

  get #isClosing(): boolean {
    return this.received.length >= this.#wanted;
  }

  take(frame: Uint8Array): void {
    const { flags, sequence, acknowledgement, payload } = readFrame(frame);
    if (this.isReset) return;
    if ((flags & RST) !== 0) {
      // What is late of a connection that has ended is answered so; nobody minds (RFC 1337).
      this.isReset = !this.isDone;
      return;
    }
    if ((flags & SYN) !== 0) {
      if (!this.#isOpen) this.#expected = (sequence + 1) >>> 0;
      this.#isOpen = true;
    } else if (!this.#isOpen) {
      return;
    }
    const acknowledged = (acknowledgement - this.#sequence) | 0;
    this.#acknowledged = Math.max(this.#acknowledged, acknowledged);
    const known = (this.#expected - sequence) | 0;
    if (known >= 0 && known < payload.length) {
      const fresh = payload.subarray(known);
      this.received.push(...fresh);
      this.#expected = (this.#expected + fresh.length) >>> 0;
    }
    const end = (sequence + payload.length) >>> 0;
    if ((flags & FIN) !== 0 && end === this.#expected) {
      this.#finExpected = true;
      this.#expected = (this.#expected + 1) >>> 0;
    }
    if (payload.length > 0 || (flags & (FIN | SYN)) !== 0) {
      const isLast = this.#isClosing && this.#acknowledged > this.#data.length;
      const closed = this.#data.length + (isLast && this.#finExpected ? 2 : 1);
      this.#emit(closed, ACK, new Uint8Array(0));
    }
  }

  #emit(offset: number, flags: number, payload: Uint8Array, mss?: number): void {
    this.#send(
      guestFrame(
        segment({
          remotePort: this.#port,
          sequence: (this.#sequence + offset) >>> 0,
          acknowledgement: this.#expected,
          flags,
          window: WINDOW,
          mss,
          payload,
        }),
      ),
    );
  }
}
