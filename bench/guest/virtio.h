/*
 * A virtio-mmio driver's common part: finding a device, its handshake, split queues.
 *
 * Queues are polled, so no interrupt is ever taken; the devices are asked for them all the same, as
 * a Linux driver would, and their line is left masked. Specification: VirtIO 1.2 §§ 2.7, 3.1, 4.2.
 */
#ifndef BENCH_VIRTIO_H
#define BENCH_VIRTIO_H

#include "guest.h"

#define DEVICE_NET 1
#define DEVICE_BLOCK 2
#define DEVICE_ENTROPY 4
#define DEVICE_VSOCK 19

#define CONFIG 0x100
#define INTERRUPT_STATUS 0x060
#define INTERRUPT_ACK 0x064
#define FEATURE_EVENT_IDX (1u << 29)
#define QUEUE_SIZE 256u
#define DESCRIPTOR_NEXT 1
#define DESCRIPTOR_WRITABLE 2

/* Memory for what devices read and write, of up to 64 MiB: far above the program, which stays
 * small. */
#define BUFFERS ((uint8_t*)0x2000000)

struct device {
  uint64_t base;
  uint32_t irq;
  uint32_t features; /* what both know, bits 0 to 31 */
};

struct queue {
  struct {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
  } descriptors[QUEUE_SIZE] __attribute__((aligned(4096)));
  struct {
    uint16_t flags, index, ring[QUEUE_SIZE + 1]; /* ring[size]: used_event */
  } avail;
  struct {
    uint16_t flags, index;
    struct {
      uint32_t id, length;
    } ring[QUEUE_SIZE + 1]; /* the first half of ring[size].id: avail_event */
  } used __attribute__((aligned(4096)));
  uint64_t device;
  uint32_t number, size;
  uint16_t offered; /* avail.index with what is not shown yet */
  uint16_t taken;   /* used entries seen */
  int has_event_index;
};

/* The first device of this type on the command line; 0 when there is none. */
int device_find(struct device* device, uint32_t type);
/* Reset and handshake up to the features, of which those `wanted` are taken if they are offered. */
void device_negotiate(struct device* device, uint32_t wanted);
/* Makes queue `number` known to the device, with at most QUEUE_SIZE entries. */
void device_add_queue(struct device* device, struct queue* queue, uint32_t number);
void device_start(struct device* device);

/* Puts a chain behind the others; the device sees it with queue_show. */
static inline void queue_offer(struct queue* queue, uint16_t head) {
  queue->avail.ring[queue->offered++ % queue->size] = head;
}

/* Shows the device what was offered. */
static inline void queue_show(struct queue* queue) {
  __atomic_store_n(&queue->avail.index, queue->offered, __ATOMIC_SEQ_CST);
}

void queue_ring(struct queue* queue);
/* Shows what was offered and rings, if anything is new and the device wants to be told. */
void queue_kick(struct queue* queue);
/* The next chain that the device is done with; 0 when there is none. */
int queue_take(struct queue* queue, uint32_t* id, uint32_t* length);

#endif
