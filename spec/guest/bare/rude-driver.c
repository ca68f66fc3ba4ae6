/*
 * A guest without an operating system whose driver breaks every rule, for every virtio device it
 * finds: steps out of order, features that were not offered, rings and tables anywhere, chains that
 * loop or lead outside memory, indexes that jump, registers at random, resets in the middle of it.
 *
 * Between the rounds, and in the end, it behaves: each device has to reset, take its driver and,
 * the entropy device, serve a request. One PASS or FAIL line on COM1, then power-off.
 *
 *   n=ROUNDS  depth=SEED (1 to 64)
 *
 * Whatever a device may be made to write lies in an arena far from this program, and so do the
 * pages that the balloon may be told to give up.
 */
#include "start.h"

#define DEVICE_ID 0x008
#define DEVICE_FEATURES 0x010
#define DEVICE_FEATURES_SEL 0x014
#define DRIVER_FEATURES 0x020
#define DRIVER_FEATURES_SEL 0x024
#define QUEUE_SEL 0x030
#define QUEUE_NUM_MAX 0x034
#define QUEUE_NUM 0x038
#define QUEUE_READY 0x044
#define QUEUE_NOTIFY 0x050
#define INTERRUPT_ACK 0x064
#define STATUS 0x070
#define QUEUE_DESC 0x080
#define QUEUE_DRIVER 0x090
#define QUEUE_DEVICE 0x0a0
#define CONFIG 0x100
#define WINDOW_BYTES 0x1000
#define DEVICE_ENTROPY 4
#define VERSION_1_HIGH 1
#define QUEUES_MAX 8
#define SIZE_MAX_ENTRIES 256

#define ARENA 0x4000000ull
#define ARENA_BYTES 0x2000000u
#define MEMORY_END 0x8000000ull
/* A reset waits for the device's I/O. */
#define POLLS_MAX 200000u

struct descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
};
struct available {
  uint16_t flags, index, ring[SIZE_MAX_ENTRIES];
};

static struct {
  struct descriptor* table;
  struct available* available;
  uint32_t size;
} queues[QUEUES_MAX];

static uint64_t state = 0x9e3779b97f4a7c15ull;
static uint32_t found, alive, stuck, served;

/* A number below `below`. */
static uint32_t draw(uint32_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 16) % below;
}

/* Memory that a device may do with as it likes; whole words, for the balloon reads page numbers. */
static uint64_t arena(void) {
  return ARENA + (draw(ARENA_BYTES - 0x20000) & ~3u);
}

static uint64_t anywhere(void) {
  switch (draw(24)) {
  case 0:
    return 0xc0000000ull + draw(0x10000);
  case 1:
    return MEMORY_END - draw(4) * 4;
  case 2:
    return 0xfee00000ull;
  case 3:
    return 1ull << 44;
  case 4:
    return 1ull << 53;
  case 5:
    return ~0ull - draw(16);
  default:
    return arena();
  }
}

static uint32_t length(void) {
  static const uint32_t lengths[] = {0,    1,    12,    15,    16,          44,
                                     512,  513,  1024,  4096,  70000,       0x80000000u,
                                     2048, 8192, 16384, 65600, 0xffffffffu, 64};
  return lengths[draw(sizeof lengths / sizeof lengths[0])];
}

static void set_address(uint64_t device, uint32_t offset, uint64_t address) {
  mmio_write(device + offset, (uint32_t)address);
  mmio_write(device + offset + 4, (uint32_t)(address >> 32));
}

/* 0 when the device does not come back. */
static int reset(uint64_t device) {
  mmio_write(device + STATUS, 0);
  for (uint32_t polls = 0; polls < POLLS_MAX; polls++) {
    if (mmio_read(device + STATUS) == 0) return 1;
  }
  stuck++;
  return 0;
}

static void accept(uint64_t device, uint32_t select, uint32_t features) {
  mmio_write(device + DRIVER_FEATURES_SEL, select);
  mmio_write(device + DRIVER_FEATURES, features);
}

static uint32_t offered(uint64_t device, uint32_t select) {
  mmio_write(device + DEVICE_FEATURES_SEL, select);
  return mmio_read(device + DEVICE_FEATURES);
}

/* Fills table and available ring with what may be chains. */
static void fill(uint32_t queue) {
  uint32_t size = queues[queue].size;
  struct available* available = queues[queue].available;
  if (size == 0) return;
  for (uint32_t i = 0; i < size; i++) {
    struct descriptor* descriptor = &queues[queue].table[i];
    descriptor->address = anywhere();
    descriptor->length = length();
    descriptor->flags = (uint16_t)(draw(12) == 0 ? draw(65536) : draw(draw(3) == 0 ? 8 : 4));
    descriptor->next = (uint16_t)(draw(8) == 0 ? draw(65536) : (i + 1) % size);
  }
  for (uint32_t i = 0; i < size; i++)
    available->ring[i] = (uint16_t)(draw(32) == 0 ? draw(65536) : draw(size));
  available->flags = (uint16_t)draw(2);
  uint16_t by = (uint16_t)(draw(16) == 0 ? draw(65536) : 1 + draw(size));
  __atomic_store_n(&available->index, (uint16_t)(available->index + by), __ATOMIC_SEQ_CST);
}

static void set_up(uint64_t device, uint32_t queue) {
  mmio_write(device + QUEUE_SEL, queue);
  uint32_t most = mmio_read(device + QUEUE_NUM_MAX);
  queues[queue].size = 0;
  if (most == 0) return;
  uint32_t size = most > SIZE_MAX_ENTRIES ? SIZE_MAX_ENTRIES : most >> draw(4);
  queues[queue].size = size;
  queues[queue].table = (struct descriptor*)(arena() & ~15ull);
  queues[queue].available = (struct available*)arena();
  queues[queue].available->index = 0;
  mmio_write(device + QUEUE_NUM, draw(16) == 0 ? draw(70000) : size);
  set_address(device, QUEUE_DESC, draw(24) == 0 ? anywhere() : (uint64_t)queues[queue].table);
  set_address(device, QUEUE_DRIVER, draw(24) == 0 ? anywhere() : (uint64_t)queues[queue].available);
  set_address(device, QUEUE_DEVICE, draw(24) == 0 ? anywhere() : arena());
  mmio_write(device + QUEUE_READY, draw(16) == 0 ? draw(3) : 1);
  fill(queue);
}

/* One register, or a part of the configuration, in any width. */
static void scribble(uint64_t device) {
  uint64_t at = device + (draw(2) == 0 ? draw(WINDOW_BYTES) : CONFIG + draw(64));
  uint32_t value = draw(2) == 0 ? draw(256) : draw(0xffffffffu);
  switch (draw(3)) {
  case 0:
    *(volatile uint8_t*)at = (uint8_t)value;
    break;
  case 1:
    *(volatile uint16_t*)(at & ~1ull) = (uint16_t)value;
    break;
  default:
    mmio_write(at & ~3ull, value);
  }
}

static void attack(uint64_t device) {
  if (draw(8) != 0 && !reset(device)) return;
  mmio_write(device + STATUS, 1);
  mmio_write(device + STATUS, 3);
  accept(device, 0, draw(8) == 0 ? draw(0xffffffffu) : offered(device, 0) & draw(0xffffffffu));
  accept(device, 1, draw(16) == 0 ? draw(0xffffffffu) : VERSION_1_HIGH);
  if (draw(16) != 0) mmio_write(device + STATUS, 11);
  for (uint32_t queue = 0; queue < QUEUES_MAX; queue++)
    set_up(device, queue);
  mmio_write(device + STATUS, 15);
  for (uint32_t turn = 0; turn < 6; turn++) {
    for (uint32_t queue = 0; queue < QUEUES_MAX; queue++) {
      if (queues[queue].size == 0) continue;
      mmio_write(device + QUEUE_NOTIFY, queue);
      if (draw(2) == 0) fill(queue);
    }
    mmio_write(device + QUEUE_NOTIFY, draw(70000));
    if (draw(3) == 0) scribble(device);
    mmio_write(device + INTERRUPT_ACK, draw(4));
  }
}

/* By the rules; whether the device goes along. */
static int behave(uint64_t device, uint32_t id) {
  static struct descriptor table[4] __attribute__((aligned(16)));
  static struct available available;
  static struct {
    volatile uint16_t flags, index;
    struct {
      uint32_t id, length;
    } ring[4];
  } used __attribute__((aligned(16)));
  if (!reset(device)) return 0;
  mmio_write(device + STATUS, 1);
  mmio_write(device + STATUS, 3);
  accept(device, 0, 0);
  accept(device, 1, VERSION_1_HIGH);
  mmio_write(device + STATUS, 11);
  if (id == DEVICE_ENTROPY) {
    used.index = available.index = 0;
    mmio_write(device + QUEUE_SEL, 0);
    mmio_write(device + QUEUE_NUM, 4);
    set_address(device, QUEUE_DESC, (uint64_t)table);
    set_address(device, QUEUE_DRIVER, (uint64_t)&available);
    set_address(device, QUEUE_DEVICE, (uint64_t)&used);
    mmio_write(device + QUEUE_READY, 1);
  }
  mmio_write(device + STATUS, 15);
  if (mmio_read(device + STATUS) != 15) return 0;
  if (id != DEVICE_ENTROPY) return 1;
  table[0] = (struct descriptor){ARENA, 64, 2, 0};
  available.ring[0] = 0;
  __atomic_store_n(&available.index, 1, __ATOMIC_SEQ_CST);
  mmio_write(device + QUEUE_NOTIFY, 0);
  for (uint32_t polls = 0; polls < POLLS_MAX && used.index != 1; polls++)
    mmio_read(device + STATUS);
  if (used.index == 1) served++;
  return used.index == 1;
}

static void run(void) {
  for (uint32_t round = 0; round < job.n; round++) {
    for (uint32_t i = 0; i < job.windows; i++)
      attack(job.window[i].base);
  }
  for (uint32_t i = 0; i < job.windows; i++) {
    uint32_t id = mmio_read(job.window[i].base + DEVICE_ID);
    if (id == 0) continue;
    found++;
    alive += (uint32_t)behave(job.window[i].base, id);
  }
}

void bare_main(void) {
  state += (uint64_t)job.depth << 32;
  call_ring3(run);
  print(alive == found && found > 0 && stuck == 0 ? "PASS " : "FAIL ");
  print_number(alive);
  print(" of ");
  print_number(found);
  print(" devices, stuck ");
  print_number(stuck);
  print(", served ");
  print_number(served);
  print("\n");
}
