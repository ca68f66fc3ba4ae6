/* See start.h. */
#include "start.h"

#define REPORT_POWER_OFF 0xc0000008ull
#define INVALID_OPCODE 6
#define TSS 0x28
#define KERNEL_CODE 0x08
#define GATE_PRESENT_INTERRUPT 0x8e00

struct job job;

extern struct {
  uint16_t low, selector, flags, middle;
  uint32_t high, reserved;
} idt[256];
extern uint64_t tss_descriptor[2];
extern const char tss[];
extern const char exception_stubs[32][16];
extern uint32_t pvh_start_info, linux_zero_page;
void invalid_opcode(void);

static void __attribute__((noreturn)) end(void) {
  mmio_write(REPORT_POWER_OFF, 1);
  for (;;)
    __asm__ volatile("cli; hlt");
}

void __attribute__((noreturn)) guest_failed(uint32_t vector, const uint64_t* frame) {
  print("FAIL exception ");
  print_number(vector);
  print(" at ");
  print_hex(frame[1]);
  print("\n");
  end();
}

static void set_gate(uint32_t vector, uint64_t handler) {
  idt[vector].low = (uint16_t)handler;
  idt[vector].selector = KERNEL_CODE;
  idt[vector].flags = GATE_PRESENT_INTERRUPT;
  idt[vector].middle = (uint16_t)(handler >> 16);
}

/* PVH's start info, or Linux' zero page, has where it is. */
static const char* command_line(void) {
  if (pvh_start_info != 0) return (const char*)*(uint64_t*)(uint64_t)(pvh_start_info + 24);
  return (const char*)(uint64_t) * (uint32_t*)(uint64_t)(linux_zero_page + 0x228);
}

void guest_main(void) {
  uint64_t base = (uint64_t)tss;
  tss_descriptor[0] = 0x0000890000000067ull | (base & 0xffffff) << 16 | (base & 0xff000000) << 32;
  tss_descriptor[1] = base >> 32;
  __asm__ volatile("ltr %w0" : : "r"(TSS));
  for (uint32_t vector = 0; vector < 32; vector++)
    set_gate(vector, (uint64_t)exception_stubs[vector]);
  /* The way back from ring 3. */
  set_gate(INVALID_OPCODE, (uint64_t)invalid_opcode);
  parse_command_line(command_line());
  __asm__ volatile("cli");
  bare_main();
  end();
}
