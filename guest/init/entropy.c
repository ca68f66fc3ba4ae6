/*
 * The kernel's random number generator. It is ready from the start where the kernel can use the
 * CPU's own (RDRAND); where kernel mode is emulated it cannot, but user mode can. The kernel is
 * built to trust that source (CONFIG_RANDOM_TRUST_CPU), so what init gives it counts in full.
 */
#include "init.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

enum { WORDS = 4, RDRAND_TRIES = 10 };

/* struct rand_pool_info of linux/random.h, with its buffer. */
struct pool_input {
  int entropy_bits, size_bytes;
  unsigned long long words[WORDS];
};
#define RNDADDENTROPY _IOW('R', 0x03, int[2])

__attribute__((target("rdrnd"))) static bool read_cpu(unsigned long long* word) {
  for (int tries = 0; tries < RDRAND_TRIES; tries++) {
    if (__builtin_ia32_rdrand64_step(word)) return true;
  }
  return false;
}

void seed_random(void) {
  unsigned eax, ebx, ecx, edx;
  uint8_t probe;
  struct pool_input input = {.entropy_bits = WORDS * 64, .size_bytes = WORDS * 8};

  if (getrandom(&probe, 1, GRND_NONBLOCK) == 1 || errno != EAGAIN) return;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_RDRND)) return;
  for (int i = 0; i < WORDS; i++) {
    if (!read_cpu(&input.words[i])) return;
  }
  int random = open("/dev/random", O_WRONLY | O_CLOEXEC);
  if (random < 0) return;
  ioctl(random, RNDADDENTROPY, &input);
  close(random);
}
