/*
 * The host's end of the network bench: a raw socket on the tap.
 *
 *     net-peer echo TAP           sends each frame of the guest's back
 *     net-peer send TAP BYTES N   sends frames as fast as the guest takes them, N on the way at
 * most
 *
 * The guest says how many frames have come (bench/guest/net.c), for the first time when it wants
 * any, and that is what it is sent more for: a tap drops what its reader is too slow for. When it
 * says nothing for a while some were lost, and all that are on the way count as gone. Frames of
 * more than 1514 bytes are TCP segments to be cut. Runs until it is killed. Sources: packet(7),
 * linux/virtio_net.h.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define TYPE_EXPERIMENT 0x88b5
#define PLAIN_BYTES_MAX 1514u
#define SEGMENT_BYTES 1460u
#define TCP_HEADERS 54u
#define BATCH 64u
#define LOST_AFTER_US 200000
#define FRAME_BYTES_MAX 65535u

static struct {
  struct virtio_net_hdr header;
  uint8_t frame[FRAME_BYTES_MAX];
} __attribute__((packed)) out, in;

static void check(int ok, const char* what) {
  if (ok) return;
  perror(what);
  exit(1);
}

static int open_socket(const char* tap) {
  int fd = socket(AF_PACKET, SOCK_RAW, htons(TYPE_EXPERIMENT));
  check(fd >= 0, "socket");
  struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                .sll_protocol = htons(TYPE_EXPERIMENT),
                                .sll_ifindex = (int)if_nametoindex(tap)};
  check(bind(fd, (struct sockaddr*)&address, sizeof address) == 0, tap);
  int one = 1, room = 8 << 20;
  struct timeval wait = {0, LOST_AFTER_US};
  check(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) == 0, "PACKET_VNET_HDR");
  check(setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) == 0, "QDISC_BYPASS");
  check(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) == 0, "SO_SNDBUFFORCE");
  check(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0, "SO_RCVTIMEO");
  return fd;
}

static void make_frame(uint32_t bytes) {
  static const uint8_t addresses[12] = {6, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1};
  memcpy(out.frame, addresses, sizeof addresses);
  if (bytes <= PLAIN_BYTES_MAX) {
    *(uint16_t*)(out.frame + 12) = htons(TYPE_EXPERIMENT);
    return;
  }
  uint16_t total = htons((uint16_t)(bytes - ETHER_HDR_LEN));
  uint8_t ip[20] = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 255, 0, 9, 10, 255, 0, 2};
  memcpy(ip + 2, &total, sizeof total);
  *(uint16_t*)(out.frame + 12) = htons(ETHERTYPE_IP);
  memcpy(out.frame + ETHER_HDR_LEN, ip, sizeof ip);
  out.frame[34 + 12] = 0x50; /* five words of header */
  out.frame[34 + 13] = 0x10; /* ACK */
  out.header = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                       .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                       .hdr_len = TCP_HEADERS,
                                       .gso_size = SEGMENT_BYTES,
                                       .csum_start = 34,
                                       .csum_offset = 16};
}

static void echo(int fd) {
  for (;;) {
    ssize_t bytes = recv(fd, &in, sizeof in, 0);
    if (bytes > 0) (void)!send(fd, &in, (size_t)bytes, 0);
  }
}

/* Sends so many frames; returns how many went out. */
static uint32_t send_some(int fd, struct mmsghdr* messages, uint32_t count) {
  uint32_t done = 0;
  while (done < count) {
    uint32_t more = count - done < BATCH ? count - done : BATCH;
    int sent = sendmmsg(fd, messages, more, 0);
    /* No room in the tap, or it has no reader any more. */
    if (sent <= 0) break;
    done += (uint32_t)sent;
  }
  return done;
}

static void send_forever(const char* tap, uint32_t bytes, uint32_t ahead) {
  int fd = open_socket(tap);
  struct iovec piece = {&out, sizeof out.header + bytes};
  struct mmsghdr messages[BATCH];
  /* Not the socket's own type: only what is known to be IP can be cut. */
  struct sockaddr_ll to = {.sll_family = AF_PACKET,
                           .sll_protocol =
                               htons(bytes > PLAIN_BYTES_MAX ? ETHERTYPE_IP : TYPE_EXPERIMENT),
                           .sll_ifindex = (int)if_nametoindex(tap)};
  memset(messages, 0, sizeof messages);
  for (uint32_t i = 0; i < BATCH; i++) {
    messages[i].msg_hdr.msg_iov = &piece;
    messages[i].msg_hdr.msg_iovlen = 1;
    messages[i].msg_hdr.msg_name = &to;
    messages[i].msg_hdr.msg_namelen = sizeof to;
  }
  make_frame(bytes);
  uint32_t on_the_way = 0, told = 0;
  while (recv(fd, &in, sizeof in, 0) < 0) {
  }
  for (;;) {
    on_the_way += send_some(fd, messages, ahead - on_the_way);
    ssize_t got = recv(fd, &in, sizeof in, 0);
    if (got < 0) {
      on_the_way = 0;
      continue;
    }
    uint32_t come;
    memcpy(&come, in.frame + ETHER_HDR_LEN, sizeof come);
    uint32_t news = come - told;
    told = come;
    on_the_way -= news < on_the_way ? news : on_the_way;
  }
}

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "echo") == 0) echo(open_socket(argv[2]));
  if (argc == 5 && strcmp(argv[1], "send") == 0) {
    uint32_t bytes = (uint32_t)atoi(argv[3]), ahead = (uint32_t)atoi(argv[4]);
    if (bytes <= FRAME_BYTES_MAX && ahead > 0) send_forever(argv[2], bytes, ahead);
  }
  fprintf(stderr, "usage: net-peer echo TAP | send TAP BYTES AHEAD\n");
  return 2;
}
