/*
 * What the bench guest's parts share: access to ports, memory and the clock, the job, and its
 * results.
 *
 * Freestanding C, no libc. All addresses are physical: the page tables map 4 GiB one to one.
 */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

#include <stdint.h>

#define SAMPLES_MAX 65536u

static inline void outb(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

static inline uint32_t mmio_read(uint64_t address) {
  uint32_t value;
  __asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
  return value;
}

static inline void mmio_write(uint64_t address, uint32_t value) {
  __asm__ volatile("movl %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

static inline uint64_t rdtsc(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return low | (uint64_t)high << 32;
}

/* One measure's durations in ticks of the TSC. */
struct samples {
  uint32_t count; /* all of them; the first SAMPLES_MAX are kept, and then a random choice */
  uint64_t total; /* from the first operation's start to the last one's end, gaps included */
  uint32_t ticks[SAMPLES_MAX];
};

/* Notes one duration. */
static inline void add_sample(struct samples* samples, uint64_t ticks) {
  static uint32_t random = 1;
  uint32_t at = samples->count++;
  if (at >= SAMPLES_MAX) {
    random = random * 1664525u + 1013904223u;
    at = (uint32_t)((uint64_t)random * samples->count >> 32);
    if (at >= SAMPLES_MAX) return;
  }
  samples->ticks[at] = ticks > UINT32_MAX ? UINT32_MAX : (uint32_t)ticks;
}

/* What a device's measure moved, and in which time. */
struct flow {
  uint64_t operations, bytes, ticks;
};

/* A virtio-mmio device of the command line. */
struct window {
  uint64_t base;
  uint32_t irq;
};

/* What the command line asks for. */
struct job {
  char name[24];    /* bench= */
  uint32_t n;       /* n=: operations, or batches of `depth` requests */
  uint32_t ring;    /* ring=: 0 or 3, where the loop runs */
  uint32_t depth;   /* depth=: requests for each doorbell */
  uint32_t bytes;   /* bytes=: of each request or frame */
  uint64_t ticks;   /* ticks=: of the TSC, how long a device's measure lasts */
  uint32_t ahead;   /* ahead=: frames that the host may have on the way */
  uint32_t random;  /* random=1: blocks in any order */
  char op[8];       /* op=: read or write */
  char end[8];      /* end=: report, i8042, triple or halt */
  uint32_t windows; /* virtio_mmio.device= */
  struct window window[8];
};

extern struct job job;
extern struct samples first, second; /* second: interrupts, of a queue measure */
extern struct flow flow;
extern uint64_t
    run_ticks; /* how long the measure that runs is to last: the warm-up's or the job's */
extern const char* failure; /* why a measure is worth nothing, found by itself */

/* entry.S */
void call_ring3(void (*function)(void));
extern volatile uint64_t interrupt_tsc;
extern volatile uint32_t interrupt_count;

/* text.c: all of ring 0, over COM1. */
int equal(const char* left, const char* right);
void parse_command_line(const char* line);
void print(const char* text);
void print_number(uint64_t number);
void print_hex(uint64_t number);

/* statistics.c */
void summarise(void); /* sorts `first` and `second`; fast where ring 3 is */
void print_samples(const char* name, const struct samples* samples);
void print_flow(void);

/* Devices: ready the driver, in ring 0, and say what is missing or 0; then the loop, in the job's
 * ring. */
const char* queue_prepare(void);
void queue_measure(void);
const char* disk_prepare(void);
void disk_measure(void);
const char* net_prepare(void);
void net_send_measure(void);
void net_receive_measure(void);
void net_echo_measure(void);
const char* vsock_prepare(void);
void vsock_measure(void);

#endif
