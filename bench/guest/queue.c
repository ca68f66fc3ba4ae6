/*
 * The entropy device's queue: doorbell to used ring and to interrupt.
 *
 *   available ring ─▶ QueueNotify ─▶ used ring has moved by `depth` ─▶ interrupt ─▶ InterruptACK
 *                     clock starts   first sample                      second sample
 *
 * Runs in the ring of the job and polls, as a guest with a core of its own would; the interrupt
 * comes through the IOAPIC and its handler notes the time. The acknowledging exit is not part of a
 * sample. Specification: VirtIO 1.2 §§ 2.7 (split queue), 4.2 (MMIO), 5.4 (entropy).
 */
#include "guest.h"

#define DEVICE_ID 0x008
#define DRIVER_FEATURES 0x020
#define DRIVER_FEATURES_SEL 0x024
#define QUEUE_SEL 0x030
#define QUEUE_NUM_MAX 0x034
#define QUEUE_NUM 0x038
#define QUEUE_READY 0x044
#define QUEUE_NOTIFY 0x050
#define INTERRUPT_STATUS 0x060
#define INTERRUPT_ACK 0x064
#define STATUS 0x070
#define QUEUE_DESC 0x080
#define QUEUE_DRIVER 0x090
#define QUEUE_DEVICE 0x0a0
#define DEVICE_ENTROPY 4
#define FEATURE_VERSION_1_HIGH 1
#define QUEUE_SIZE_MAX 64
#define WRITABLE_DESCRIPTOR 2

#define DEVICE_VECTOR 0x40
#define IOAPIC_SELECT 0xfec00000ull
#define IOAPIC_DATA 0xfec00010ull
#define IOAPIC_REDIRECTION 0x10
#define LAPIC_SPURIOUS 0xfee000f0ull
#define LAPIC_TASK_PRIORITY 0xfee00080ull

static struct {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
} descriptors[QUEUE_SIZE_MAX] __attribute__((aligned(16)));
static struct { uint16_t flags, index, ring[QUEUE_SIZE_MAX]; } avail __attribute__((aligned(4)));
static volatile struct {
  uint16_t flags, index;
  struct {
    uint32_t id, length;
  } ring[QUEUE_SIZE_MAX];
} used __attribute__((aligned(4096)));
static uint8_t buffers[QUEUE_SIZE_MAX][4096];

static uint64_t device;
static uint32_t size;

static void set_address(uint32_t offset, const volatile void* address) {
  mmio_write(device + offset, (uint32_t)(uint64_t)address);
  mmio_write(device + offset + 4, 0);
}

/* Edge-triggered to vector DEVICE_VECTOR of CPU 0, and a local APIC that is switched on. */
static void route_interrupt(uint32_t irq) {
  mmio_write(LAPIC_SPURIOUS, 0x1ff);
  mmio_write(LAPIC_TASK_PRIORITY, 0);
  mmio_write(IOAPIC_SELECT, IOAPIC_REDIRECTION + 2 * irq + 1);
  mmio_write(IOAPIC_DATA, 0);
  mmio_write(IOAPIC_SELECT, IOAPIC_REDIRECTION + 2 * irq);
  mmio_write(IOAPIC_DATA, DEVICE_VECTOR);
}

int queue_prepare(void) {
  uint32_t irq = 0;
  for (uint32_t i = 0; i < job.windows && device == 0; i++) {
    if (mmio_read(job.window[i].base + DEVICE_ID) != DEVICE_ENTROPY) continue;
    device = job.window[i].base;
    irq = job.window[i].irq;
  }
  if (device == 0) return 0;
  static const uint32_t handshake[] = {0, 1, 3};
  for (uint32_t i = 0; i < 3; i++)
    mmio_write(device + STATUS, handshake[i]);
  mmio_write(device + DRIVER_FEATURES_SEL, 0);
  mmio_write(device + DRIVER_FEATURES, 0);
  mmio_write(device + DRIVER_FEATURES_SEL, 1);
  mmio_write(device + DRIVER_FEATURES, FEATURE_VERSION_1_HIGH);
  mmio_write(device + STATUS, 11);
  mmio_write(device + QUEUE_SEL, 0);
  size = mmio_read(device + QUEUE_NUM_MAX);
  if (size > QUEUE_SIZE_MAX) size = QUEUE_SIZE_MAX;
  if (size < job.depth) return 0;
  mmio_write(device + QUEUE_NUM, size);
  set_address(QUEUE_DESC, descriptors);
  set_address(QUEUE_DRIVER, &avail);
  set_address(QUEUE_DEVICE, &used);
  mmio_write(device + QUEUE_READY, 1);
  for (uint32_t i = 0; i < size; i++) {
    descriptors[i].address = (uint64_t)buffers[i];
    descriptors[i].length = job.bytes;
    descriptors[i].flags = WRITABLE_DESCRIPTOR;
  }
  route_interrupt(irq);
  mmio_write(device + STATUS, 15);
  __asm__ volatile("sti");
  return 1;
}

/* One doorbell for `depth` requests. */
static void batch(int measured) {
  uint16_t target = (uint16_t)(avail.index + job.depth);
  uint32_t interrupts = interrupt_count;
  for (uint32_t i = 0; i < job.depth; i++) {
    uint16_t slot = (uint16_t)((avail.index + i) % size);
    avail.ring[slot] = slot;
  }
  __atomic_store_n(&avail.index, target, __ATOMIC_SEQ_CST);
  uint64_t before = rdtsc();
  mmio_write(device + QUEUE_NOTIFY, 0);
  while (__atomic_load_n(&used.index, __ATOMIC_ACQUIRE) != target)
    __asm__ volatile("pause");
  uint64_t completed = rdtsc();
  while (interrupt_count == interrupts)
    __asm__ volatile("pause");
  if (measured) {
    add_sample(&first, completed - before);
    add_sample(&second, interrupt_tsc - before);
  }
  mmio_write(device + INTERRUPT_ACK, mmio_read(device + INTERRUPT_STATUS));
}

void queue_measure(void) {
  for (uint32_t i = job.n / 10; i > 0; i--)
    batch(0);
  uint64_t begin = rdtsc();
  for (uint32_t i = job.n; i > 0; i--)
    batch(1);
  first.total = second.total = rdtsc() - begin;
}
