/*
 * The monitor's report page, guest physical 0xC0000000. A store to it leaves the guest, so each is
 * one message:
 *
 *   offset 0  u8   123: init runs (Firecracker's boot timer)
 *   offset 4  u32  the command's exit status
 *   offset 8  u32  1: power the machine off
 *
 * Under a monitor without the page the stores go nowhere, and without /dev/mem there are none.
 */
#include "init.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE_SIZE_BYTES = 4096, BOOT_VALUE = 123 };
static const off_t REPORT_PAGE = 0xC0000000;

static volatile uint8_t* page;

void report_open(void) {
  int memory = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
  if (memory < 0) return;
  void* mapping =
      mmap(NULL, PAGE_SIZE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, REPORT_PAGE);
  close(memory);
  if (mapping != MAP_FAILED) page = mapping;
}

void report_boot(void) {
  if (page) page[0] = BOOT_VALUE;
}

void report_status(uint8_t status) {
  if (page) *(volatile uint32_t*)(page + 4) = status;
}

void report_power_off(void) {
  if (page) *(volatile uint32_t*)(page + 8) = 1;
}
