// fill-memory MIB [STRIDE]: writes MIB mebibytes of memory and reads them back.
//
// A word is written every STRIDE bytes (8: every word; 64: one per cache line, which is 8 times
// quicker and finds the same mapping mistakes). Its value depends on its place, so that memory
// which appears twice in the guest's address space, or not at all, shows. All is written before any
// is read. Where the kernel tells physical addresses (root, CONFIG_PROC_PAGE_MONITOR), prints how
// much lay above 4 GiB: past the MMIO gap. Ends with one PASS or FAIL line.

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_FRAME_MASK ((1ull << 55) - 1)

static uint64_t pattern(size_t offset) {
  uint64_t x = offset + 0x632be59bd9b4e019u;
  x *= 0x9e3779b97f4a7c15u;
  return x ^ (x >> 29);
}

static void print_physical(const uint8_t* memory, size_t size_bytes) {
  uint64_t entries[512], above = 0, known = 0, highest = 0;
  int fd = open("/proc/self/pagemap", O_RDONLY);
  if (fd < 0) return;
  off_t at = (off_t)((uintptr_t)memory / PAGE_BYTES * sizeof entries[0]);
  size_t pages = size_bytes / PAGE_BYTES;
  while (pages > 0) {
    size_t want = pages < 512 ? pages : 512;
    ssize_t got = pread(fd, entries, want * sizeof entries[0], at);
    if (got <= 0) break;
    size_t got_pages = (size_t)got / sizeof entries[0];
    for (size_t i = 0; i < got_pages; i++) {
      uint64_t address = (entries[i] & PAGEMAP_FRAME_MASK) * PAGE_BYTES;
      if (!(entries[i] & PAGEMAP_PRESENT) || address == 0) continue;
      known++;
      if (address >= 1ull << 32) above++;
      if (address > highest) highest = address;
    }
    at += got;
    pages -= got_pages;
  }
  close(fd);
  if (known == 0) return;
  printf("physical: %llu MiB below 4 GiB, %llu MiB above, highest 0x%llx\n",
         (unsigned long long)((known - above) * PAGE_BYTES >> 20),
         (unsigned long long)(above * PAGE_BYTES >> 20), (unsigned long long)highest);
}

int main(int argc, char** argv) {
  size_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
  size_t stride = argc > 2 ? strtoull(argv[2], NULL, 10) : 64;
  if (mib == 0 || mib > 1u << 20 || stride < 8 || stride % 8 || stride > PAGE_BYTES) {
    fputs("usage: fill-memory MIB [STRIDE], STRIDE a multiple of 8 up to 4096\n", stderr);
    return 2;
  }
  size_t size_bytes = mib << 20;
  uint8_t* memory =
      mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    printf("FAIL fill-memory: no %zu MiB\n", mib);
    return 1;
  }
  madvise(memory, size_bytes, MADV_HUGEPAGE); // fewer page faults; no harm where it is not known
  for (size_t at = 0; at < size_bytes; at += stride) {
    *(volatile uint64_t*)(memory + at) = pattern(at);
  }
  size_t wrong = 0;
  for (size_t at = 0; at < size_bytes; at += stride) {
    uint64_t value = *(volatile uint64_t*)(memory + at);
    if (value == pattern(at)) continue;
    if (wrong++ == 0) {
      printf("first difference at offset 0x%zx: 0x%llx, not 0x%llx\n", at,
             (unsigned long long)value, (unsigned long long)pattern(at));
    }
  }
  print_physical(memory, size_bytes);
  printf("%s fill-memory: %zu MiB, a word every %zu bytes, %zu wrong\n", wrong ? "FAIL" : "PASS",
         mib, stride, wrong);
  return wrong ? 1 : 0;
}
