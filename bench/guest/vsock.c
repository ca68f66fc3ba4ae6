/*
 * The socket device: a stream of bytes from the host or to it, or connections one after the other.
 *
 *   vsock-receive  counts what comes, and says when there is room again
 *   vsock-send     sends as much as the host has room for, in packets of up to 64 KiB
 *   vsock-connect  accepts; a sample is from one request to the next
 *
 * Accepts every connection to any port (peers/vsock-peer.c makes them) and holds one at a time.
 * Specification: VirtIO 1.2 § 5.10.
 */
#include "virtio.h"

#define RECEIVE 0
#define TRANSMIT 1
#define EVENT 2
#define HOST_CID 2
#define STREAM 1
#define OP_REQUEST 1
#define OP_RESPONSE 2
#define OP_RESET 3
#define OP_SHUTDOWN 4
#define OP_DATA 5
#define OP_CREDIT_UPDATE 6
#define OP_CREDIT_REQUEST 7
#define ROOM_BYTES (256u << 10)
#define NEWS_BYTES (64u << 10)
#define PACKET_BYTES_MAX (64u << 10)
#define BUFFER_BYTES 4096u /* as Linux's driver has */
#define SLOT_DESCRIPTORS 2u
#define PAYLOAD (BUFFERS + (16u << 20))

struct header {
  uint64_t source_cid, destination_cid;
  uint32_t source_port, destination_port, length;
  uint16_t type, operation;
  uint32_t flags, room, forwarded;
} __attribute__((packed));

static struct device device;
static struct queue receive, transmit, event;
static struct header headers[QUEUE_SIZE / SLOT_DESCRIPTORS];
static uint16_t free_slots[QUEUE_SIZE / SLOT_DESCRIPTORS];
static uint32_t free_count;
static uint64_t guest_cid;
static uint64_t last_request;

/* The one connection: its ports, and bytes both ways since its request. */
static struct {
  int open;
  uint32_t host_port, guest_port;
  uint32_t taken, told, sent, host_room, host_taken;
} connection;

const char* vsock_prepare(void) {
  if (!device_find(&device, DEVICE_VSOCK)) return "no socket device";
  device_negotiate(&device, FEATURE_EVENT_IDX);
  device_add_queue(&device, &receive, RECEIVE);
  device_add_queue(&device, &transmit, TRANSMIT);
  device_add_queue(&device, &event, EVENT);
  guest_cid = mmio_read(device.base + CONFIG);
  for (uint32_t i = 0; i < receive.size; i++) {
    receive.descriptors[i].address = (uint64_t)(BUFFERS + i * BUFFER_BYTES);
    receive.descriptors[i].length = BUFFER_BYTES;
    receive.descriptors[i].flags = DESCRIPTOR_WRITABLE;
    queue_offer(&receive, (uint16_t)i);
  }
  for (uint32_t slot = 0; slot < transmit.size / SLOT_DESCRIPTORS; slot++) {
    uint32_t at = SLOT_DESCRIPTORS * slot;
    transmit.descriptors[at].address = (uint64_t)&headers[slot];
    transmit.descriptors[at].length = sizeof headers[slot];
    transmit.descriptors[at].next = (uint16_t)(at + 1);
    transmit.descriptors[at + 1].address = (uint64_t)PAYLOAD;
    free_slots[free_count++] = (uint16_t)slot;
  }
  device_start(&device);
  queue_kick(&receive);
  return 0;
}

static void reap(void) {
  uint32_t id, length;
  while (queue_take(&transmit, &id, &length))
    free_slots[free_count++] = (uint16_t)(id / SLOT_DESCRIPTORS);
}

/* A packet for the host, to be sent with the next kick. */
static void send(uint32_t host_port, uint32_t guest_port, uint16_t operation, uint32_t length) {
  while (free_count == 0) {
    queue_kick(&transmit);
    reap();
  }
  uint32_t slot = free_slots[--free_count], at = SLOT_DESCRIPTORS * slot;
  headers[slot] = (struct header){guest_cid, HOST_CID,  guest_port, host_port,  length,
                                  STREAM,    operation, 0,          ROOM_BYTES, connection.taken};
  transmit.descriptors[at].flags = length > 0 ? DESCRIPTOR_NEXT : 0;
  transmit.descriptors[at + 1].length = length;
  connection.told = connection.taken;
  queue_offer(&transmit, (uint16_t)at);
}

static void answer(const struct header* header, uint16_t operation) {
  send(header->source_port, header->destination_port, operation, 0);
}

static void accept(const struct header* header) {
  uint64_t now = rdtsc();
  connection.open = 1;
  connection.host_port = header->source_port;
  connection.guest_port = header->destination_port;
  connection.taken = connection.told = connection.sent = 0;
  answer(header, OP_RESPONSE);
  if (!equal(job.name, "vsock-connect")) return;
  flow.operations++;
  if (last_request != 0) add_sample(&first, now - last_request);
  last_request = now;
}

static void take(const struct header* header) {
  connection.host_room = header->room;
  connection.host_taken = header->forwarded;
  switch (header->operation) {
  case OP_REQUEST:
    accept(header);
    break;
  case OP_DATA:
    connection.taken += header->length;
    flow.bytes += header->length;
    if (connection.taken - connection.told >= NEWS_BYTES) answer(header, OP_CREDIT_UPDATE);
    break;
  case OP_CREDIT_REQUEST:
    answer(header, OP_CREDIT_UPDATE);
    break;
  case OP_SHUTDOWN:
    answer(header, OP_RESET);
    connection.open = 0;
    break;
  case OP_RESET:
    connection.open = 0;
    break;
  }
}

/* All that has come. */
static void take_all(void) {
  uint32_t id, length;
  while (queue_take(&receive, &id, &length)) {
    take((const struct header*)(BUFFERS + id * BUFFER_BYTES));
    queue_offer(&receive, (uint16_t)id);
  }
  reap();
  queue_kick(&receive);
}

static void send_all(void) {
  while (connection.open && free_count > 0) {
    uint32_t room = connection.host_room - (connection.sent - connection.host_taken);
    uint32_t bytes = room < PACKET_BYTES_MAX ? room : PACKET_BYTES_MAX;
    if (bytes == 0) return;
    connection.sent += bytes;
    flow.bytes += bytes;
    send(connection.host_port, connection.guest_port, OP_DATA, bytes);
  }
}

void vsock_measure(void) {
  int sends = equal(job.name, "vsock-send");
  /* The time begins with the first connection. */
  while (!connection.open && last_request == 0) {
    take_all();
    queue_kick(&transmit);
  }
  uint64_t begin = rdtsc(), now = begin;
  while ((now = rdtsc()) - begin < run_ticks) {
    take_all();
    if (sends) send_all();
    queue_kick(&transmit);
  }
  flow.ticks = first.total = now - begin;
}
