/*
 * What a trace record costs: the run loop as it is built, around a KVM_RUN that returns at once,
 * and the same loop without records. Prints nanoseconds of processor time for each exit, one JSON
 * object a round, in turn.
 *
 * A loop of a thousand exits without a guest has everything in its caches: this is the least a
 * record costs.
 */
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>

static int returns_at_once(void) {
  /* As a system call does: nothing is known about memory afterwards. */
  __asm__ volatile("" : : : "memory");
  return 0;
}

#define ioctl(fd, request, argument) returns_at_once()
#include "../../src/native/vcpu_loop.c"
#undef ioctl

#define EXITS 2000000

/* estalo_vcpu_run without its two records. */
static __attribute__((noinline)) int run_untraced(struct estalo_vcpu_loop* loop) {
  struct kvm_run* run = loop->run;
  struct estalo_vcpu_control* control = loop->control;
  if (__atomic_load_n(&control->pending, __ATOMIC_SEQ_CST) != 0) return ESTALO_EXIT_KICKED;
  run->kvm_valid_regs = (control->watch & ESTALO_WATCH_RIP) ? KVM_SYNC_X86_REGS : 0;
  if (returns_at_once() < 0) return -1;
  *(run->mmio.is_write ? &control->exits_mmio_write : &control->exits_mmio_read) += 1;
  return (int)run->exit_reason;
}

static double cpu_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double cost_of(int (*volatile run)(struct estalo_vcpu_loop*),
                      struct estalo_vcpu_loop* loop) {
  double begin = cpu_ns();
  for (int i = 0; i < EXITS; i++)
    run(loop);
  return (cpu_ns() - begin) / EXITS;
}

int main(int count, char** words) {
  static struct kvm_run run = {.exit_reason = KVM_EXIT_MMIO,
                               .mmio = {.phys_addr = 0xc0001030, .len = 4, .is_write = 1}};
  static struct estalo_vcpu_control control;
  size_t bytes = sizeof(struct estalo_trace_header) +
                 ESTALO_TRACE_RECORDS * sizeof(struct estalo_trace_record);
  struct estalo_vcpu_loop loop = {
      .run = &run, .control = &control, .trace = aligned_alloc(64, bytes)};
  memset(loop.trace, 0, bytes);
  int rounds = count > 1 ? atoi(words[1]) : 7;
  for (int i = 0; i < rounds; i++) {
    double untraced = cost_of(run_untraced, &loop);
    control.watch = 0;
    double traced = cost_of(estalo_vcpu_run, &loop);
    control.watch = ESTALO_WATCH_TIME | ESTALO_WATCH_RIP;
    double watched = cost_of(estalo_vcpu_run, &loop);
    printf("{\"untracedNs\":%.2f,\"tracedNs\":%.2f,\"watchedNs\":%.2f}\n", untraced, traced,
           watched);
  }
  return 0;
}
