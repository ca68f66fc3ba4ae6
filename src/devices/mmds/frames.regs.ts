/**
 * Offsets and codes of the frames that the metadata service reads and writes: Ethernet (IEEE 802.3), ARP (RFC 826),
 * IPv4 (RFC 791) and TCP (RFC 9293). All numbers are big-endian.
 *
 *     frame   Ethernet 14 | ARP 28
 *             Ethernet 14 | IPv4 20 and options | TCP 20 and options | data
 */

/** The service's own address: locally administered. Firecracker 1.16, src/vmm/src/mmds/ns.rs. */
export const MMDS_MAC = Uint8Array.of(0x06, 0x01, 0x23, 0x45, 0x67, 0x01);
/** 169.254.169.254, where clouds have it. */
export const MMDS_IPV4_DEFAULT = 0xa9fe_a9fe;
/** Link-local addresses that may be given: RFC 3927 § 2.1 keeps the first and last 256 back. */
export const LINK_LOCAL_FIRST = 0xa9fe_0100;
export const LINK_LOCAL_LAST = 0xa9fe_feff;
export const MMDS_PORT = 80;

/** u8[6], u8[6], u16. */
export const ETH_DESTINATION = 0;
export const ETH_SOURCE = 6;
export const ETH_TYPE = 12;
export const ETH_BYTES = 14;
export const MAC_BYTES = 6;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;

/** From the ARP packet's start: u16, u16, u8, u8, u16. */
export const ARP_HARDWARE = 0;
export const ARP_PROTOCOL = 2;
export const ARP_HARDWARE_BYTES = 4;
export const ARP_PROTOCOL_BYTES = 5;
export const ARP_OPERATION = 6;
/** u8[6], u32, u8[6], u32: sender's and target's addresses. */
export const ARP_SENDER_MAC = 8;
export const ARP_SENDER_IPV4 = 14;
export const ARP_TARGET_MAC = 18;
export const ARP_TARGET_IPV4 = 24;
export const ARP_BYTES = 28;
export const ARP_HARDWARE_ETHERNET = 1;
export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;
export const IPV4_ADDRESS_BYTES = 4;

/** From the IPv4 header's start: u8 with version and header length in words. */
export const IP_VERSION = 0;
/** u16: with the header. */
export const IP_TOTAL_BYTES = 2;
/** u16: flags and offset of a fragment. */
export const IP_FRAGMENT = 6;
/** u8, u8, u16, u32, u32. */
export const IP_TTL = 8;
export const IP_PROTOCOL = 9;
export const IP_CHECKSUM = 10;
export const IP_SOURCE = 12;
export const IP_DESTINATION = 16;
export const IP_BYTES = 20;
export const IP_VERSION_4 = 4;
export const IP_WORDS_MASK = 0x0f;
/** More fragments, or an offset: not a whole packet. */
export const IP_FRAGMENT_MASK = 0x3fff;
export const IP_DONT_FRAGMENT_MASK = 0x4000;
export const PROTOCOL_TCP = 6;
/** The service is the next hop: its packets go no farther. */
export const MMDS_TTL = 1;

/** From the TCP header's start: u16, u16, u32, u32. */
export const TCP_SOURCE_PORT = 0;
export const TCP_DESTINATION_PORT = 2;
export const TCP_SEQUENCE = 4;
export const TCP_ACKNOWLEDGEMENT = 8;
/** u8: header length in words, in the upper half. */
export const TCP_OFFSET = 12;
/** u8, u16, u16. */
export const TCP_FLAGS = 13;
export const TCP_WINDOW = 14;
export const TCP_CHECKSUM = 16;
export const TCP_BYTES = 20;
export const FLAG_FIN = 0x01;
export const FLAG_SYN = 0x02;
export const FLAG_RST = 0x04;
export const FLAG_PSH = 0x08;
export const FLAG_ACK = 0x10;

/** Options, RFC 9293 § 3.1: kind, and length but for the first two. */
export const OPTION_END = 0;
export const OPTION_NOP = 1;
export const OPTION_MSS = 2;
export const OPTION_MSS_BYTES = 4;
/** Largest segment of a peer that names none, RFC 9293 § 3.7.1; the least that is believed; Ethernet's. */
export const MSS_DEFAULT = 536;
export const MSS_MIN = 100;
export const MSS_MAX = 1460;

/** RFC 1071: sums of 16 bits with the carry added. */
export const CHECKSUM_MASK = 0xffff;
