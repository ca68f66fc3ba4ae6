/*
 * The network device: frames to the host as fast as it takes them, from it, or there and back.
 *
 *   net-send     the transmit queue is kept full; a frame counts when the device is done with it
 *   net-receive  the receive queue is kept full; every `ahead` / 4 frames the host is told how
 * many came in all, and so never has more than `ahead` of them on the way (peers/net-peer.c)
 *   net-echo     one frame at a time, which the host sends back
 *
 * Frames of up to 1514 bytes have the Ethernet type of local experiments; longer ones are TCP
 * segments that the host would cut (GSO), to an address that nobody has. Specification: VirtIO 1.2
 * § 5.1.
 */
#include "virtio.h"

#define FEATURES                                                                                   \
  (1u << 0 /* CSUM */ | 1u << 1 /* GUEST_CSUM */ | 1u << 7 /* GUEST_TSO4 */ |                      \
   1u << 11 /* HOST_TSO4 */ | FEATURE_MRG_RXBUF | FEATURE_EVENT_IDX)
#define FEATURE_MRG_RXBUF (1u << 15)
#define HEADER_BYTES 12u
#define HEADER_BUFFERS 10u /* num_buffers' offset */
#define ETHERNET_BYTES 14u
#define PLAIN_BYTES_MAX 1514u
#define SEGMENT_BYTES 1460u
#define TCP_HEADERS 54u /* Ethernet, IPv4, TCP */
#define PIECE_BYTES 4096u
#define BIG_BUFFER_BYTES (68u << 10)
#define BIG_BUFFERS 64u
#define REPORT_BYTES 64u
#define TRANSMIT_BUFFER (BUFFERS + (32u << 20))
#define REPORT_BUFFER (BUFFERS + (33u << 20))
#define RECEIVE_TYPE 0
#define TRANSMIT_TYPE 1

static struct device device;
static struct queue receive, transmit;
static uint32_t pieces;       /* descriptors of a frame to the host */
static uint32_t buffer_bytes; /* of each one for frames from it */
static uint32_t frames_come;  /* since the start, warm-up included */
static uint32_t frames_told;
static uint32_t reports_free;
static const uint8_t addresses[12] = {2, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 1};

static void put16(uint8_t* at, uint32_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

/* A header without wishes, and a frame of the type of experiments. */
static void make_plain(uint8_t* at) {
  for (uint32_t i = 0; i < sizeof addresses; i++)
    at[HEADER_BYTES + i] = addresses[i];
  put16(at + HEADER_BYTES + 12, 0x88b5);
}

/* A TCP segment of `bytes`: header checksum right, the rest is the host's to compute and to cut. */
static void make_segment(uint8_t* at, uint32_t bytes) {
  static const uint8_t ip[20] = {0x45, 0, 0,  0,   0, 0, 0x40, 0,   64, 6,
                                 0,    0, 10, 255, 0, 2, 10,   255, 0,  9};
  uint8_t* frame = at + HEADER_BYTES;
  uint32_t sum = 0;
  make_plain(at);
  at[0] = 1; /* NEEDS_CSUM */
  at[1] = 1; /* TCPv4 */
  *(uint16_t*)(at + 2) = TCP_HEADERS;
  *(uint16_t*)(at + 4) = SEGMENT_BYTES;
  *(uint16_t*)(at + 6) = 34; /* where the TCP header starts */
  *(uint16_t*)(at + 8) = 16; /* its checksum in it */
  put16(frame + 12, 0x0800);
  for (uint32_t i = 0; i < sizeof ip; i++)
    frame[ETHERNET_BYTES + i] = ip[i];
  put16(frame + ETHERNET_BYTES + 2, bytes - ETHERNET_BYTES);
  for (uint32_t i = 0; i < sizeof ip; i += 2)
    sum += (uint32_t)frame[ETHERNET_BYTES + i] << 8 | frame[ETHERNET_BYTES + i + 1];
  sum = (sum & 0xffff) + (sum >> 16);
  put16(frame + ETHERNET_BYTES + 10, ~(sum + (sum >> 16)));
  frame[34 + 12] = 0x50; /* five words of header */
  frame[34 + 13] = 0x10; /* ACK */
}

/* Chains of all frames to the host are made once; all show the same bytes. */
static void prepare_transmit(void) {
  uint32_t bytes = HEADER_BYTES + job.bytes;
  if (job.bytes > PLAIN_BYTES_MAX)
    make_segment(TRANSMIT_BUFFER, job.bytes);
  else
    make_plain(TRANSMIT_BUFFER);
  pieces = (bytes + PIECE_BYTES - 1) / PIECE_BYTES;
  for (uint32_t i = 0; i < transmit.size; i++) {
    uint32_t piece = i % pieces;
    int last = piece + 1 == pieces;
    transmit.descriptors[i].address = (uint64_t)(TRANSMIT_BUFFER + piece * PIECE_BYTES);
    transmit.descriptors[i].length = last ? bytes - piece * PIECE_BYTES : PIECE_BYTES;
    transmit.descriptors[i].flags = last ? 0 : DESCRIPTOR_NEXT;
    transmit.descriptors[i].next = (uint16_t)(i + 1);
  }
}

/* Reports of what has come take the place of frames. */
static void prepare_reports(void) {
  for (uint32_t i = 0; i < transmit.size; i++) {
    uint8_t* at = REPORT_BUFFER + i * 128;
    make_plain(at);
    transmit.descriptors[i].address = (uint64_t)at;
    transmit.descriptors[i].length = HEADER_BYTES + REPORT_BYTES;
  }
  reports_free = transmit.size;
}

static void prepare_receive(void) {
  int merges = (device.features & FEATURE_MRG_RXBUF) != 0;
  uint32_t count = merges || receive.size < BIG_BUFFERS ? receive.size : BIG_BUFFERS;
  buffer_bytes = merges ? PIECE_BYTES : BIG_BUFFER_BYTES;
  for (uint32_t i = 0; i < count; i++) {
    receive.descriptors[i].address = (uint64_t)(BUFFERS + i * buffer_bytes);
    receive.descriptors[i].length = buffer_bytes;
    receive.descriptors[i].flags = DESCRIPTOR_WRITABLE;
    queue_offer(&receive, (uint16_t)i);
  }
}

const char* net_prepare(void) {
  if (!device_find(&device, DEVICE_NET)) return "no network device";
  if (job.bytes < 60 || job.bytes > 65535) return "no such frame";
  device_negotiate(&device, FEATURES);
  device_add_queue(&device, &receive, RECEIVE_TYPE);
  device_add_queue(&device, &transmit, TRANSMIT_TYPE);
  prepare_receive();
  if (equal(job.name, "net-receive"))
    prepare_reports();
  else
    prepare_transmit();
  device_start(&device);
  queue_kick(&receive);
  return 0;
}

void net_send_measure(void) {
  uint32_t id, length, in_flight = transmit.size / pieces;
  uint64_t begin = rdtsc(), now = begin;
  for (uint32_t frame = 0; frame < in_flight; frame++)
    queue_offer(&transmit, (uint16_t)(frame * pieces));
  queue_kick(&transmit);
  while (in_flight > 0) {
    now = rdtsc();
    while (queue_take(&transmit, &id, &length)) {
      flow.operations++;
      flow.bytes += job.bytes;
      if (now - begin < run_ticks)
        queue_offer(&transmit, (uint16_t)id);
      else
        in_flight--;
    }
    queue_kick(&transmit);
  }
  flow.ticks = now - begin;
}

/* Takes one frame and gives its buffers back; returns its bytes without the header, 0 for none. */
static uint32_t take_frame(void) {
  uint32_t id, length, more;
  if (!queue_take(&receive, &id, &length)) return 0;
  uint32_t buffers = 1, bytes = length - HEADER_BYTES;
  if (buffer_bytes == PIECE_BYTES)
    buffers = *(uint16_t*)(BUFFERS + id * buffer_bytes + HEADER_BUFFERS);
  queue_offer(&receive, (uint16_t)id);
  for (; buffers > 1; buffers--) {
    while (!queue_take(&receive, &id, &more))
      __asm__ volatile("pause");
    bytes += more;
    queue_offer(&receive, (uint16_t)id);
  }
  return bytes;
}

/* Tells the host how many frames have come. */
static void report_frames(void) {
  uint32_t id, length;
  while (queue_take(&transmit, &id, &length))
    reports_free++;
  if (reports_free == 0) return;
  reports_free--;
  id = transmit.offered % transmit.size;
  *(uint32_t*)(REPORT_BUFFER + id * 128 + HEADER_BYTES + ETHERNET_BYTES) = frames_come;
  queue_offer(&transmit, (uint16_t)id);
  queue_kick(&transmit);
  frames_told = frames_come;
}

void net_receive_measure(void) {
  uint64_t begin = rdtsc(), now = begin;
  if (frames_come == 0) report_frames();
  while ((now = rdtsc()) - begin < run_ticks) {
    for (uint32_t bytes; (bytes = take_frame()) > 0;) {
      if (bytes != job.bytes) continue; /* the host's kernel has a word to say as well */
      flow.operations++;
      flow.bytes += bytes;
      if (++frames_come - frames_told >= job.ahead / 4) report_frames();
    }
    queue_kick(&receive);
  }
  flow.ticks = now - begin;
}

void net_echo_measure(void) {
  uint32_t id, length;
  uint64_t begin = rdtsc(), now = begin;
  while (now - begin < run_ticks) {
    uint64_t before = rdtsc();
    queue_offer(&transmit, 0);
    queue_kick(&transmit);
    for (uint32_t bytes = 0; bytes != job.bytes;)
      bytes = take_frame();
    now = rdtsc();
    add_sample(&first, now - before);
    flow.operations++;
    queue_kick(&receive);
    while (!queue_take(&transmit, &id, &length))
      __asm__ volatile("pause");
  }
  flow.ticks = first.total = now - begin;
}
