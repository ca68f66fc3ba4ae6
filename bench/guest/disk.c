/*
 * The block device: `depth` requests in flight until the time is over, random or in order.
 *
 * Each request is a chain of three (header, data, status) in a slot of its own. A request that is
 * done is followed by the next one in its slot; what was done at one look goes out with one
 * doorbell, if the device wants it. A sample is the time from a request's making to its completion
 * being seen. Specification: VirtIO 1.2 § 5.2.
 */
#include "virtio.h"

#define FEATURE_FLUSH (1u << 9) /* without it a write would be one to the medium */
#define SECTOR_BYTES 512u
#define SLOT_BYTES (128u << 10)
#define SLOTS_MAX 64u
#define CHAIN 3u
#define TYPE_IN 0
#define TYPE_OUT 1

static struct device device;
static struct queue queue;
static struct {
  uint32_t type, reserved;
  uint64_t sector;
} headers[SLOTS_MAX];
static volatile uint8_t statuses[SLOTS_MAX];
static uint64_t started[SLOTS_MAX];
static uint32_t blocks, next_block;
static uint64_t random_state = 88172645463325252ull;

const char* disk_prepare(void) {
  if (!device_find(&device, DEVICE_BLOCK)) return "no block device";
  device_negotiate(&device, FEATURE_FLUSH | FEATURE_EVENT_IDX);
  device_add_queue(&device, &queue, 0);
  if (queue.size < CHAIN * job.depth || job.bytes % SECTOR_BYTES != 0)
    return "no such depth or size";
  uint64_t sectors = mmio_read(device.base + CONFIG) | (uint64_t)mmio_read(device.base + CONFIG + 4)
                                                           << 32;
  blocks = (uint32_t)(sectors / (job.bytes / SECTOR_BYTES));
  if (blocks == 0) return "the disk is too small";
  int writes = equal(job.op, "write");
  for (uint32_t slot = 0; slot < job.depth; slot++) {
    uint32_t at = CHAIN * slot;
    headers[slot].type = writes ? TYPE_OUT : TYPE_IN;
    queue.descriptors[at].address = (uint64_t)&headers[slot];
    queue.descriptors[at].length = sizeof headers[slot];
    queue.descriptors[at].flags = DESCRIPTOR_NEXT;
    queue.descriptors[at].next = (uint16_t)(at + 1);
    queue.descriptors[at + 1].address = (uint64_t)(BUFFERS + slot * SLOT_BYTES);
    queue.descriptors[at + 1].length = job.bytes;
    queue.descriptors[at + 1].flags = DESCRIPTOR_NEXT | (writes ? 0 : DESCRIPTOR_WRITABLE);
    queue.descriptors[at + 1].next = (uint16_t)(at + 2);
    queue.descriptors[at + 2].address = (uint64_t)&statuses[slot];
    queue.descriptors[at + 2].length = 1;
    queue.descriptors[at + 2].flags = DESCRIPTOR_WRITABLE;
  }
  device_start(&device);
  return 0;
}

/* Marsaglia's xorshift. */
static uint32_t random_block(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)((random_state >> 32) * blocks >> 32);
}

static void begin_request(uint32_t slot) {
  uint32_t block = job.random ? random_block() : next_block;
  next_block = next_block + 1 == blocks ? 0 : next_block + 1;
  headers[slot].sector = (uint64_t)block * (job.bytes / SECTOR_BYTES);
  statuses[slot] = 0xff;
  started[slot] = rdtsc();
  queue_offer(&queue, (uint16_t)(CHAIN * slot));
}

void disk_measure(void) {
  uint64_t begin = rdtsc(), now = begin;
  uint32_t in_flight = job.depth;
  for (uint32_t slot = 0; slot < job.depth; slot++)
    begin_request(slot);
  queue_kick(&queue);
  while (in_flight > 0) {
    uint32_t id, length;
    while (queue_take(&queue, &id, &length)) {
      uint32_t slot = id / CHAIN;
      now = rdtsc();
      if (statuses[slot] != 0) failure = "a request failed";
      add_sample(&first, now - started[slot]);
      flow.operations++;
      flow.bytes += job.bytes;
      if (now - begin < run_ticks && failure == 0)
        begin_request(slot);
      else
        in_flight--;
    }
    queue_kick(&queue);
  }
  flow.ticks = first.total = now - begin;
}
