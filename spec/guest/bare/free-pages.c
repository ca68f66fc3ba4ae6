/*
 * A guest without an operating system that uses memory and then gives it back as Linux' free page
 * reporting does, in blocks of 4 MiB.
 *
 *   n=MIB
 *
 * Says "ready", and then does on each byte that it is sent what is next: writes every page of MIB
 * mebibytes from 64 MiB on ("used"), reports them as free ("given"), reads them again ("PASS" if
 * they are all zeros), powers off.
 */
#include "../../../bench/guest/virtio.h"
#include "start.h"

#define DEVICE_BALLOON 5
#define FEATURE_REPORTING (1u << 5)
/* Without statistics and hints it is the one behind inflate and deflate. */
#define REPORTING_QUEUE 2
#define COM1 0x3f8
#define LINE_STATUS (COM1 + 5)
#define DATA_READY 1
#define MODEM_CONTROL (COM1 + 4)
#define DTR_AND_RTS 3
#define START ((volatile uint8_t*)0x4000000)
#define MIB (1ull << 20)
#define BLOCK_BYTES (4 * MIB)
#define PAGE_BYTES 4096

static struct device device;
static struct queue queue;
static int is_zero = 1;

static void until_asked(void) {
  while ((inb(LINE_STATUS) & DATA_READY) == 0)
    __asm__ volatile("pause");
  inb(COM1);
}

static void use(void) {
  for (uint64_t at = 0; at < job.n * MIB; at += PAGE_BYTES)
    START[at] = 1;
}

static void look(void) {
  for (uint64_t at = 0; at < job.n * MIB; at += PAGE_BYTES)
    is_zero &= START[at] == 0;
}

static void give(void) {
  uint32_t id, length;
  for (uint64_t at = 0; at < job.n * MIB; at += BLOCK_BYTES) {
    queue.descriptors[0].address = (uint64_t)(START + at);
    queue.descriptors[0].length =
        (uint32_t)(job.n * MIB - at < BLOCK_BYTES ? job.n * MIB - at : BLOCK_BYTES);
    queue.descriptors[0].flags = DESCRIPTOR_WRITABLE;
    queue_offer(&queue, 0);
    queue_kick(&queue);
    /* Only now may the memory be used again. */
    while (!queue_take(&queue, &id, &length))
      __asm__ volatile("pause");
  }
}

void bare_main(void) {
  if (!device_find(&device, DEVICE_BALLOON)) {
    print("FAIL no balloon\n");
    return;
  }
  device_negotiate(&device, FEATURE_REPORTING);
  for (uint32_t i = 0; i < REPORTING_QUEUE; i++) {
    static struct queue other[REPORTING_QUEUE];
    device_add_queue(&device, &other[i], i);
  }
  device_add_queue(&device, &queue, REPORTING_QUEUE);
  device_start(&device);
  /* Bytes for us wait for this. */
  outb(MODEM_CONTROL, DTR_AND_RTS);
  print("ready\n");
  until_asked();
  call_ring3(use);
  print("used\n");
  until_asked();
  call_ring3(give);
  print("given\n");
  until_asked();
  call_ring3(look);
  print(is_zero ? "PASS\n" : "FAIL\n");
}
