/*
 * The bench guest: finds its job on the command line, runs the loop, reports one line of JSON on
 * COM1, ends.
 *
 *   bench=mmio-read | mmio-write | pio-read | pio-write | clock | queue | idle | start | forever |
 *         disk | net-send | net-receive | net-echo | vsock-send | vsock-receive | vsock-connect
 *   n=20000  ring=3  depth=1  bytes=64  end=report | i8042 | triple | halt
 *   ticks=4000000000  op=read | write  random=1  ahead=256
 *   virtio_mmio.device=4K@0xc0001000:5
 *
 * `clock` measures nothing but two reads of the TSC, so that a reader knows what the others contain
 * of it. `idle` halts for good, `start` ends at once, `forever` writes without a
 * clock until it is ended. A tenth of `n` operations run first, unmeasured. The measures of
 * devices, in the second line, run for a time instead, after a fifth of it as a warm-up, and say
 * when that is over; with end=halt the machine is left as it is afterwards, for who wants to look
 * at its monitor.
 */
#include "guest.h"

#define COM1_SCRATCH 0x3ff
#define MMIO_MAGIC 0x000
#define MMIO_QUEUE_SEL 0x030
#define REPORT_POWER_OFF 0xc0000008ull
#define I8042_COMMAND 0x64
#define I8042_RESET 0xfe
#define PIC_MASTER_MASK 0x21
#define PIC_SLAVE_MASK 0xa1
#define KERNEL_CODE 0x08
#define TSS 0x28
#define GATE_PRESENT_INTERRUPT 0x8e00
#define INVALID_OPCODE 6
#define DEVICE_VECTOR 0x40

struct job job;
struct samples first, second;
struct flow flow;
uint64_t run_ticks;
const char* failure;

extern struct {
  uint16_t low, selector, flags, middle;
  uint32_t high, reserved;
} idt[256];
extern const char exception_stubs[32][16];
extern uint64_t tss_descriptor[2];
extern const char tss[], idt_pointer[], null_idt_pointer[];
extern uint32_t pvh_start_info, linux_zero_page;
void invalid_opcode(void);
void device_interrupt(void);

static void set_gate(uint32_t vector, uint64_t handler) {
  idt[vector].low = (uint16_t)handler;
  idt[vector].selector = KERNEL_CODE;
  idt[vector].flags = GATE_PRESENT_INTERRUPT;
  idt[vector].middle = (uint16_t)(handler >> 16);
}

static void set_tables(void) {
  uint64_t base = (uint64_t)tss;
  tss_descriptor[0] = 0x0000890000000067ull | (base & 0xffffff) << 16 | (base & 0xff000000) << 32;
  tss_descriptor[1] = base >> 32;
  __asm__ volatile("ltr %w0" : : "r"(TSS));
  for (uint32_t vector = 0; vector < 32; vector++) {
    set_gate(vector, (uint64_t)exception_stubs[vector]);
  }
  set_gate(INVALID_OPCODE, (uint64_t)invalid_opcode);
  set_gate(DEVICE_VECTOR, (uint64_t)device_interrupt);
  outb(PIC_MASTER_MASK, 0xff);
  outb(PIC_SLAVE_MASK, 0xff);
}

/* Xen start_info.h: cmdline_paddr. Linux boot.rst: cmd_line_ptr in the zero page. */
static const char* command_line(void) {
  if (pvh_start_info != 0) return (const char*)*(uint64_t*)(uint64_t)(pvh_start_info + 24);
  return (const char*)(uint64_t) * (uint32_t*)(uint64_t)(linux_zero_page + 0x228);
}

/* One loop of `n` operations between two reads of the clock each. */
#define LOOP(operation)                                                                            \
  do {                                                                                             \
    for (uint32_t i = job.n / 10; i > 0; i--)                                                      \
      operation;                                                                                   \
    uint64_t begin = rdtsc();                                                                      \
    for (uint32_t i = job.n; i > 0; i--) {                                                         \
      uint64_t before = rdtsc();                                                                   \
      operation;                                                                                   \
      add_sample(&first, rdtsc() - before);                                                        \
    }                                                                                              \
    first.total = rdtsc() - begin;                                                                 \
  } while (0)

static void measure_mmio_read(void) {
  uint64_t address = job.window[0].base + MMIO_MAGIC;
  LOOP(mmio_read(address));
}

static void measure_mmio_write(void) {
  uint64_t address = job.window[0].base + MMIO_QUEUE_SEL;
  LOOP(mmio_write(address, 0));
}

static void measure_pio_read(void) {
  LOOP(inb(COM1_SCRATCH));
}

static void measure_pio_write(void) {
  LOOP(outb(COM1_SCRATCH, 0x5a));
}

/* As many exits as there can be, until the machine is ended. */
static void write_forever(void) {
  uint64_t address = job.window[0].base + MMIO_QUEUE_SEL;
  for (;;)
    mmio_write(address, 0);
}

static void measure_clock(void) {
  LOOP((void)0);
}

static const struct {
  const char* name;
  const char* (*prepare)(void); /* 0: nothing to do */
  void (*measure)(void);
} measures[] = {
    {"mmio-read", 0, measure_mmio_read},
    {"mmio-write", 0, measure_mmio_write},
    {"pio-read", 0, measure_pio_read},
    {"pio-write", 0, measure_pio_write},
    {"clock", 0, measure_clock},
    {"forever", 0, write_forever},
    {"queue", queue_prepare, queue_measure},
    {"disk", disk_prepare, disk_measure},
    {"net-send", net_prepare, net_send_measure},
    {"net-receive", net_prepare, net_receive_measure},
    {"net-echo", net_prepare, net_echo_measure},
    {"vsock-send", vsock_prepare, vsock_measure},
    {"vsock-receive", vsock_prepare, vsock_measure},
    {"vsock-connect", vsock_prepare, vsock_measure},
};

static void execute_ud2(void) {
  __asm__ volatile("ud2");
}

/* Ends the machine in the way that this monitor understands. */
static void __attribute__((noreturn)) end(void) {
  if (equal(job.end, "triple")) {
    __asm__ volatile("lidt (%0)" : : "r"(null_idt_pointer));
    call_ring3(execute_ud2);
  } else if (equal(job.end, "i8042")) {
    outb(I8042_COMMAND, I8042_RESET);
  } else if (!equal(job.end, "halt")) {
    mmio_write(REPORT_POWER_OFF, 1);
  }
  for (;;)
    __asm__ volatile("cli; hlt");
}

static void __attribute__((noreturn)) refuse(const char* why) {
  print("{\"error\":\"");
  print(why);
  print("\"}\n");
  end();
}

/* An exception that nobody expects: what and where, then the end. */
void __attribute__((noreturn)) guest_failed(uint32_t vector, const uint64_t* frame) {
  uint64_t cr2;
  __asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
  print("{\"error\":\"exception\",\"vector\":");
  print_number(vector);
  print(",\"code\":\"");
  print_hex(frame[0]);
  print("\",\"rip\":\"");
  print_hex(frame[1]);
  print("\",\"cr2\":\"");
  print_hex(cr2);
  print("\"}\n");
  end();
}

static void report(void) {
  print("{\"bench\":\"");
  print(job.name);
  print("\",\"ring\":");
  print_number(job.ring);
  print(",\"depth\":");
  print_number(job.depth);
  if (flow.ticks > 0) print_flow();
  if (first.count > 0) print_samples("ticks", &first);
  if (second.count > 0) print_samples("interrupt", &second);
  print("}\n");
}

static void run(void (*measure)(void), uint64_t ticks) {
  run_ticks = ticks;
  first.count = second.count = 0;
  flow = (struct flow){0, 0, 0};
  if (job.ring == 0)
    measure();
  else
    call_ring3(measure);
}

void guest_main(void) {
  set_tables();
  parse_command_line(command_line());
  if (equal(job.name, "idle")) {
    for (;;)
      __asm__ volatile("cli; hlt");
  }
  if (equal(job.name, "start")) end();
  if (job.windows == 0) refuse("no virtio_mmio.device on the command line");
  for (uint32_t i = 0; i < sizeof measures / sizeof measures[0]; i++) {
    if (!equal(job.name, measures[i].name)) continue;
    const char* missing = measures[i].prepare == 0 ? 0 : measures[i].prepare();
    if (missing != 0) refuse(missing);
    if (job.ticks > 0) {
      run(measures[i].measure, job.ticks / 5);
      print("measuring\n");
    }
    run(measures[i].measure, job.ticks);
    __asm__ volatile("cli");
    if (failure != 0) refuse(failure);
    call_ring3(summarise);
    report();
    end();
  }
  refuse("no such bench");
}
