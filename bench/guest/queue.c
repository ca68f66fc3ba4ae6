/*
 * The entropy device's queue: doorbell to used ring and to interrupt.
 *
 *   available ring ─▶ QueueNotify ─▶ used ring has moved by `depth` ─▶ interrupt ─▶ InterruptACK
 *                     clock starts   first sample                      second sample
 *
 * Runs in the ring of the job and polls, as a guest with a core of its own would; the interrupt
 * comes through the IOAPIC and its handler notes the time. The acknowledging exit is not part of a
 * sample. Specification: VirtIO 1.2 § 5.4 (entropy).
 */
#include "virtio.h"

#define BUFFER_BYTES 4096u
#define DEVICE_VECTOR 0x40
#define IOAPIC_SELECT 0xfec00000ull
#define IOAPIC_DATA 0xfec00010ull
#define IOAPIC_REDIRECTION 0x10
#define LAPIC_SPURIOUS 0xfee000f0ull
#define LAPIC_TASK_PRIORITY 0xfee00080ull

static struct device device;
static struct queue queue;

/* Edge-triggered to vector DEVICE_VECTOR of CPU 0, and a local APIC that is switched on. */
static void route_interrupt(uint32_t irq) {
  mmio_write(LAPIC_SPURIOUS, 0x1ff);
  mmio_write(LAPIC_TASK_PRIORITY, 0);
  mmio_write(IOAPIC_SELECT, IOAPIC_REDIRECTION + 2 * irq + 1);
  mmio_write(IOAPIC_DATA, 0);
  mmio_write(IOAPIC_SELECT, IOAPIC_REDIRECTION + 2 * irq);
  mmio_write(IOAPIC_DATA, DEVICE_VECTOR);
}

const char* queue_prepare(void) {
  if (!device_find(&device, DEVICE_ENTROPY)) return "no entropy device";
  device_negotiate(&device, 0);
  device_add_queue(&device, &queue, 0);
  if (queue.size < job.depth) return "the queue is too small";
  for (uint32_t i = 0; i < queue.size; i++) {
    queue.descriptors[i].address = (uint64_t)(BUFFERS + i * BUFFER_BYTES);
    queue.descriptors[i].length = job.bytes < BUFFER_BYTES ? job.bytes : BUFFER_BYTES;
    queue.descriptors[i].flags = DESCRIPTOR_WRITABLE;
  }
  route_interrupt(device.irq);
  device_start(&device);
  __asm__ volatile("sti");
  return 0;
}

/* One doorbell for `depth` requests. */
static void batch(int measured) {
  uint16_t target = (uint16_t)(queue.offered + job.depth);
  uint32_t interrupts = interrupt_count;
  for (uint32_t i = 0; i < job.depth; i++)
    queue_offer(&queue, (uint16_t)(queue.offered % queue.size));
  queue_show(&queue);
  uint64_t before = rdtsc();
  queue_ring(&queue);
  while (__atomic_load_n(&queue.used.index, __ATOMIC_ACQUIRE) != target)
    __asm__ volatile("pause");
  uint64_t completed = rdtsc();
  while (interrupt_count == interrupts)
    __asm__ volatile("pause");
  if (measured) {
    add_sample(&first, completed - before);
    add_sample(&second, interrupt_tsc - before);
  }
  mmio_write(device.base + INTERRUPT_ACK, mmio_read(device.base + INTERRUPT_STATUS));
}

void queue_measure(void) {
  for (uint32_t i = job.n / 10; i > 0; i--)
    batch(0);
  uint64_t begin = rdtsc();
  for (uint32_t i = job.n; i > 0; i--)
    batch(1);
  first.total = second.total = rdtsc() - begin;
}
