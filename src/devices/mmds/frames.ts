/**
 * Frames of the metadata service as bytes: what the guest's say, and the service's own.
 *
 * A guest's length is taken from its header and checked against what is there, here and nowhere else. Checksums
 * of the guest's frames are not verified: with offloads its driver leaves them to the device, as in Firecracker.
 */
import * as regs from "./frames.regs.js";

/** A TCP segment, either way. */
export interface TcpSegment {
  /** Of the guest's end. */
  readonly remoteIpv4: number;
  readonly remotePort: number;
  readonly localPort: number;
  readonly sequence: number;
  /** Counts only with the ACK flag. */
  readonly acknowledgement: number;
  /** FLAG_… of frames.regs.ts. */
  readonly flags: number;
  readonly window: number;
  /** Largest segment of its sender, of a SYN that names one. */
  readonly mss: number | undefined;
  readonly payload: Uint8Array;
}

/** An ARP request for an address. */
export interface ArpRequest {
  readonly senderMac: Uint8Array;
  readonly senderIpv4: number;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Whether the frame that starts so is an ARP or IPv4 frame to this address. */
export function isFor(start: Uint8Array, ipv4: number): boolean {
  if (start.length < regs.ETH_BYTES) return false;
  const view = viewOf(start);
  const type = view.getUint16(regs.ETH_TYPE);
  const offset =
    type === regs.ETHERTYPE_ARP
      ? regs.ETH_BYTES + regs.ARP_TARGET_IPV4
      : type === regs.ETHERTYPE_IPV4
        ? regs.ETH_BYTES + regs.IP_DESTINATION
        : start.length;
  return offset + regs.IPV4_ADDRESS_BYTES <= start.length && view.getUint32(offset) === ipv4;
}

/** Whether an Ethernet frame carries ARP; it has a whole header. */
export function isArp(frame: Uint8Array): boolean {
  return viewOf(frame).getUint16(regs.ETH_TYPE) === regs.ETHERTYPE_ARP;
}

/** Where the frame comes from. */
export function sourceMac(frame: Uint8Array): Uint8Array {
  return frame.slice(regs.ETH_SOURCE, regs.ETH_SOURCE + regs.MAC_BYTES);
}

/** `undefined`: not an ARP request of Ethernet for IPv4. */
export function parseArpRequest(frame: Uint8Array): ArpRequest | undefined {
  if (frame.length < regs.ETH_BYTES + regs.ARP_BYTES) return undefined;
  const arp = frame.subarray(regs.ETH_BYTES);
  const view = viewOf(arp);
  if (
    view.getUint16(regs.ARP_HARDWARE) !== regs.ARP_HARDWARE_ETHERNET ||
    view.getUint16(regs.ARP_PROTOCOL) !== regs.ETHERTYPE_IPV4 ||
    arp[regs.ARP_HARDWARE_BYTES] !== regs.MAC_BYTES ||
    arp[regs.ARP_PROTOCOL_BYTES] !== regs.IPV4_ADDRESS_BYTES ||
    view.getUint16(regs.ARP_OPERATION) !== regs.ARP_REQUEST
  ) {
    return undefined;
  }
  return {
    senderMac: arp.slice(regs.ARP_SENDER_MAC, regs.ARP_SENDER_MAC + regs.MAC_BYTES),
    senderIpv4: view.getUint32(regs.ARP_SENDER_IPV4),
  };
}

/** The answer: this address is the service's. */
export function arpReply(request: ArpRequest, ipv4: number): Uint8Array {
  const frame = new Uint8Array(regs.ETH_BYTES + regs.ARP_BYTES);
  writeEthernet(frame, request.senderMac, regs.ETHERTYPE_ARP);
  const arp = frame.subarray(regs.ETH_BYTES);
  const view = viewOf(arp);
  view.setUint16(regs.ARP_HARDWARE, regs.ARP_HARDWARE_ETHERNET);
  view.setUint16(regs.ARP_PROTOCOL, regs.ETHERTYPE_IPV4);
  arp[regs.ARP_HARDWARE_BYTES] = regs.MAC_BYTES;
  arp[regs.ARP_PROTOCOL_BYTES] = regs.IPV4_ADDRESS_BYTES;
  view.setUint16(regs.ARP_OPERATION, regs.ARP_REPLY);
  arp.set(regs.MMDS_MAC, regs.ARP_SENDER_MAC);
  view.setUint32(regs.ARP_SENDER_IPV4, ipv4);
  arp.set(request.senderMac, regs.ARP_TARGET_MAC);
  view.setUint32(regs.ARP_TARGET_IPV4, request.senderIpv4);
  return frame;
}

function writeEthernet(frame: Uint8Array, destination: Uint8Array, type: number): void {
  frame.set(destination, regs.ETH_DESTINATION);
  frame.set(regs.MMDS_MAC, regs.ETH_SOURCE);
  viewOf(frame).setUint16(regs.ETH_TYPE, type);
}

/** An IPv4 packet; `payload` ends where the packet says. */
export interface Ipv4Packet {
  readonly source: number;
  readonly protocol: number;
  readonly isFragment: boolean;
  readonly payload: Uint8Array;
}

/** `undefined`: the header or its lengths make no sense. */
export function parseIpv4(frame: Uint8Array): Ipv4Packet | undefined {
  const packet = frame.subarray(regs.ETH_BYTES);
  if (packet.length < regs.IP_BYTES) return undefined;
  const view = viewOf(packet);
  const first = packet[regs.IP_VERSION];
  const headerBytes = (first & regs.IP_WORDS_MASK) * 4;
  const totalBytes = view.getUint16(regs.IP_TOTAL_BYTES);
  if (
    first >>> 4 !== regs.IP_VERSION_4 ||
    headerBytes < regs.IP_BYTES ||
    totalBytes < headerBytes ||
    totalBytes > packet.length
  ) {
    return undefined;
  }
  return {
    source: view.getUint32(regs.IP_SOURCE),
    protocol: packet[regs.IP_PROTOCOL],
    isFragment: (view.getUint16(regs.IP_FRAGMENT) & regs.IP_FRAGMENT_MASK) !== 0,
    payload: packet.subarray(headerBytes, totalBytes),
  };
}

/** The segment in an IPv4 packet; `undefined`: its header or an option makes no sense. */
export function parseTcp(bytes: Uint8Array, remoteIpv4: number): TcpSegment | undefined {
  if (bytes.length < regs.TCP_BYTES) return undefined;
  const view = viewOf(bytes);
  const headerBytes = (bytes[regs.TCP_OFFSET] >>> 4) * 4;
  if (headerBytes < regs.TCP_BYTES || headerBytes > bytes.length) return undefined;
  const mss = parseMss(bytes.subarray(regs.TCP_BYTES, headerBytes));
  if (mss !== undefined && mss < regs.MSS_MIN) return undefined;
  return {
    remoteIpv4,
    remotePort: view.getUint16(regs.TCP_SOURCE_PORT),
    localPort: view.getUint16(regs.TCP_DESTINATION_PORT),
    sequence: view.getUint32(regs.TCP_SEQUENCE),
    acknowledgement: view.getUint32(regs.TCP_ACKNOWLEDGEMENT),
    flags: bytes[regs.TCP_FLAGS],
    window: view.getUint16(regs.TCP_WINDOW),
    mss,
    payload: bytes.subarray(headerBytes),
  };
}

/** `undefined`: none; 0: options that cannot be read. */
function parseMss(options: Uint8Array): number | undefined {
  for (let index = 0; index < options.length; ) {
    const kind = options[index];
    if (kind === regs.OPTION_END) return undefined;
    if (kind === regs.OPTION_NOP) {
      index++;
      continue;
    }
    const length = index + 1 < options.length ? options[index + 1] : 0;
    if (length < 2 || index + length > options.length) return 0;
    if (kind === regs.OPTION_MSS) {
      return length === regs.OPTION_MSS_BYTES ? viewOf(options).getUint16(index + 2) : 0;
    }
    index += length;
  }
  return undefined;
}

/** The service's segment to the guest as a frame with all checksums. */
export function tcpFrame(segment: TcpSegment, ipv4: number, guestMac: Uint8Array): Uint8Array {
  const { payload, mss } = segment;
  const headerBytes = regs.TCP_BYTES + (mss === undefined ? 0 : regs.OPTION_MSS_BYTES);
  const totalBytes = regs.IP_BYTES + headerBytes + payload.length;
  const frame = new Uint8Array(regs.ETH_BYTES + totalBytes);
  writeEthernet(frame, guestMac, regs.ETHERTYPE_IPV4);
  const ip = frame.subarray(regs.ETH_BYTES, regs.ETH_BYTES + regs.IP_BYTES);
  const ipView = viewOf(ip);
  ip[regs.IP_VERSION] = (regs.IP_VERSION_4 << 4) | (regs.IP_BYTES / 4);
  ipView.setUint16(regs.IP_TOTAL_BYTES, totalBytes);
  ipView.setUint16(regs.IP_FRAGMENT, regs.IP_DONT_FRAGMENT_MASK);
  ip[regs.IP_TTL] = regs.MMDS_TTL;
  ip[regs.IP_PROTOCOL] = regs.PROTOCOL_TCP;
  ipView.setUint32(regs.IP_SOURCE, ipv4);
  ipView.setUint32(regs.IP_DESTINATION, segment.remoteIpv4);
  ipView.setUint16(regs.IP_CHECKSUM, checksum(ip, 0));
  const tcp = frame.subarray(regs.ETH_BYTES + regs.IP_BYTES);
  const view = viewOf(tcp);
  view.setUint16(regs.TCP_SOURCE_PORT, segment.localPort);
  view.setUint16(regs.TCP_DESTINATION_PORT, segment.remotePort);
  view.setUint32(regs.TCP_SEQUENCE, segment.sequence);
  view.setUint32(regs.TCP_ACKNOWLEDGEMENT, segment.acknowledgement);
  tcp[regs.TCP_OFFSET] = (headerBytes / 4) << 4;
  tcp[regs.TCP_FLAGS] = segment.flags;
  view.setUint16(regs.TCP_WINDOW, segment.window);
  if (mss !== undefined) {
    tcp[regs.TCP_BYTES] = regs.OPTION_MSS;
    tcp[regs.TCP_BYTES + 1] = regs.OPTION_MSS_BYTES;
    view.setUint16(regs.TCP_BYTES + 2, mss);
  }
  tcp.set(payload, headerBytes);
  // RFC 9293 § 3.1: with addresses, protocol and length in front.
  const pseudo = sum16(ip.subarray(regs.IP_SOURCE)) + regs.PROTOCOL_TCP + tcp.length;
  view.setUint16(regs.TCP_CHECKSUM, checksum(tcp, pseudo));
  return frame;
}

function sum16(bytes: Uint8Array): number {
  let sum = 0;
  for (let index = 0; index < bytes.length; index += 2) {
    sum += (bytes[index] << 8) | (index + 1 < bytes.length ? bytes[index + 1] : 0);
  }
  return sum;
}

/** RFC 1071; 0 over bytes that hold their own right checksum. */
export function checksum(bytes: Uint8Array, start: number): number {
  let sum = start + sum16(bytes);
  while (sum > regs.CHECKSUM_MASK) {
    sum = (sum & regs.CHECKSUM_MASK) + Math.floor(sum / (regs.CHECKSUM_MASK + 1));
  }
  return ~sum & regs.CHECKSUM_MASK;
}

/** "169.254.169.254" as a number; `undefined`: not an address. */
export function parseAddress(text: string): number | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part))) {
    return undefined;
  }
  const bytes = parts.map(Number);
  if (bytes.some((byte) => byte > 255)) return undefined;
  return bytes.reduce((address, byte) => address * 256 + byte, 0);
}

/** A number as "169.254.169.254". */
export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) % 256).join(".");
}

/** Whether the service may have this address: 169.254.1.0 to 169.254.254.255. */
export function isLinkLocal(address: number): boolean {
  return address >= regs.LINK_LOCAL_FIRST && address <= regs.LINK_LOCAL_LAST;
}
