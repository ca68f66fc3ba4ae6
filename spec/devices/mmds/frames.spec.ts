import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  arpReply,
  checksum,
  formatAddress,
  isFor,
  isLinkLocal,
  parseAddress,
  parseArpRequest,
  parseIpv4,
  parseTcp,
  tcpFrame,
} from "../../../src/devices/mmds/frames.js";
import {
  ACK,
  arpRequest,
  GUEST_IPV4,
  GUEST_MAC,
  guestFrame,
  readFrame,
  SERVICE_IPV4,
  SYN,
  segment,
} from "../../support/mmds-guest.js";

const hex = (text: string) =>
  Uint8Array.from(text.match(/[0-9a-f]{2}/g) ?? [], (byte) => Number.parseInt(byte, 16));

/** As a Linux guest sends it. */
const LINUX_SYN = hex(`
  060123456701 0600ac100002 0800
  4500003c 1c464000 4006c4f9 ac100002 a9fea9fe
  9c400050 11223344 00000000 a002faf0 00000000 020405b4 0402080a 00000001 00000000 01030307`);

describe("frames", () => {
  it("answers an ARP request byte for byte", () => {
    const request = parseArpRequest(arpRequest());
    expect(request).toEqual({ senderMac: GUEST_MAC, senderIpv4: GUEST_IPV4 });
    expect(arpReply(request as NonNullable<typeof request>, SERVICE_IPV4)).toEqual(
      hex(`0600ac100002 060123456701 0806
        0001 0800 06 04 0002 060123456701 a9fea9fe 0600ac100002 ac100002`),
    );
  });

  it.each([
    ["hardware", 14, 2],
    ["protocol", 16, 0x86],
    ["hardware length", 18, 8],
    ["protocol length", 19, 16],
    ["operation", 21, 2],
  ])("takes no ARP with another %s", (_, offset, value) => {
    const frame = arpRequest();
    frame[offset] = value;
    expect(parseArpRequest(frame)).toBeUndefined();
  });

  it("reads a SYN of Linux, its options too", () => {
    const packet = parseIpv4(LINUX_SYN);
    expect(packet).toMatchObject({ source: GUEST_IPV4, protocol: 6, isFragment: false });
    expect(parseTcp(packet?.payload as Uint8Array, GUEST_IPV4)).toEqual(
      segment({ sequence: 0x1122_3344, flags: SYN, window: 0xfaf0, mss: 1460 }),
    );
  });

  it("writes a segment byte for byte", () => {
    const reply = segment({
      sequence: 0x0102_0304,
      acknowledgement: 5,
      flags: SYN | ACK,
      window: 2500,
    });
    const frame = tcpFrame({ ...reply, mss: 1460 }, SERVICE_IPV4, GUEST_MAC);
    expect(frame.subarray(0, 34)).toEqual(
      hex(`0600ac100002 060123456701 0800
        4500002c 00004000 0106 79bd a9fea9fe ac100002`),
    );
    expect(frame.subarray(34)).toEqual(
      hex("0050 9c40 01020304 00000005 6012 09c4 eda7 0000 020405b4"),
    );
    expect(readFrame(frame)).toMatchObject({ sequence: 0x0102_0304, mss: 1460 });
  });

  it("sums as RFC 1071 has it", () => {
    expect(checksum(hex("0001f203f4f5f6f7"), 0)).toBe(0x220d);
    expect(checksum(new Uint8Array(65_535).fill(0xff), 0)).toBe(0x00ff);
  });

  it("knows its own by the address alone", () => {
    expect(isFor(arpRequest(), SERVICE_IPV4)).toBe(true);
    expect(isFor(arpRequest(GUEST_IPV4), SERVICE_IPV4)).toBe(false);
    expect(isFor(guestFrame(segment()), SERVICE_IPV4)).toBe(true);
    expect(isFor(guestFrame(segment(), GUEST_IPV4), SERVICE_IPV4)).toBe(false);
    expect(isFor(guestFrame(segment()).subarray(0, 33), SERVICE_IPV4)).toBe(false);
    const tagged = guestFrame(segment());
    tagged[12] = 0x81;
    expect(isFor(tagged, SERVICE_IPV4)).toBe(false);
  });

  it.each([
    ["version 6", 14, 0x65],
    ["a header of 16 bytes", 14, 0x44],
    ["a header longer than the packet", 14, 0x4f],
    ["a length below the header's", 17, 19],
    ["a length beyond the frame", 16, 1],
  ])("takes no IPv4 with %s", (_, offset, value) => {
    const frame = guestFrame(segment());
    frame[offset] = value;
    expect(parseIpv4(frame)).toBeUndefined();
  });

  it("ends a packet where it says, not where the frame does", () => {
    const frame = new Uint8Array(80);
    frame.set(guestFrame(segment({ text: "ab" })));
    expect(parseTcp(parseIpv4(frame)?.payload as Uint8Array, 0)?.payload).toHaveLength(2);
  });

  it.each([
    ["an offset below 20", 46, 0x40],
    ["an offset beyond the segment", 46, 0xf0],
    ["a maximum segment of 99", 57, 99],
    ["an option of length 1", 55, 1],
    ["an option beyond the header", 55, 5],
    ["a maximum segment of 3 bytes", 55, 3],
  ])("takes no TCP with %s", (_, offset, value) => {
    const frame = guestFrame(segment({ flags: SYN, mss: 64 * 4 }));
    if (offset === 57) frame[56] = 0;
    frame[offset] = value;
    expect(parseTcp(parseIpv4(frame)?.payload as Uint8Array, 0)).toBeUndefined();
  });

  it("reads any bytes without a fault, and never more than there are", () => {
    const any = fc.uint8Array({ maxLength: 120 });
    const changed = fc
      .tuple(fc.constantFrom(LINUX_SYN, arpRequest(), guestFrame(segment({ text: "GET" }))), any)
      .chain(([frame, noise]) =>
        fc.nat(frame.length).map((at) => {
          const bytes = new Uint8Array(frame);
          bytes.set(noise.subarray(0, frame.length - at), at);
          return bytes;
        }),
      );
    fc.assert(
      fc.property(fc.oneof(any, changed), (frame) => {
        isFor(frame, SERVICE_IPV4);
        parseArpRequest(frame);
        const packet = parseIpv4(frame);
        if (packet === undefined) return;
        expect(packet.payload.length).toBeLessThanOrEqual(frame.length - 34);
        const found = parseTcp(packet.payload, packet.source);
        expect(found?.payload.length ?? 0).toBeLessThanOrEqual(frame.length - 54);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("addresses", () => {
  it.each([
    ["169.254.169.254", 0xa9fe_a9fe],
    ["0.0.0.0", 0],
    ["255.255.255.255", 0xffff_ffff],
  ])("reads and writes %s", (text, address) => {
    expect(parseAddress(text)).toBe(address);
    expect(formatAddress(address)).toBe(text);
  });

  it.each(["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.x", " 1.2.3.4", "::1"])(
    "takes no %j",
    (text) => {
      expect(parseAddress(text)).toBeUndefined();
    },
  );

  it.each([
    ["169.254.0.255", false],
    ["169.254.1.0", true],
    ["169.254.254.255", true],
    ["169.254.255.0", false],
    ["10.0.0.1", false],
  ])("%s is one that may be given: %s", (text, isGiven) => {
    expect(isLinkLocal(parseAddress(text) as number)).toBe(isGiven);
  });
});
