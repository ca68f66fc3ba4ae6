/* The KVM_RUN loop; see vcpu_loop.h. */
#include "vcpu_loop.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

/* A real-time signal that neither Node nor libuv uses. Its handler does nothing: the point is
 * EINTR. */
#define KICK_SIGNAL (SIGRTMIN + 3)

static void ignore_kick(int signal_number) {
  (void)signal_number;
}

int estalo_vcpu_install_signal(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = ignore_kick;
  sigemptyset(&action.sa_mask);
  /* Without SA_RESTART, so that KVM_RUN returns EINTR. */
  return sigaction(KICK_SIGNAL, &action, NULL) < 0 ? -errno : 0;
}

int estalo_vcpu_kick(struct kvm_run* run, const struct estalo_vcpu_control* control) {
  /*
   * Order matters: pending (set by the caller), immediate_exit, signal. A vCPU that has not entered
   * the guest yet sees immediate_exit there; one that has is interrupted by the signal; one that
   * clears immediate_exit on its way out looks at pending afterwards.
   */
  __atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
  uint32_t tid = __atomic_load_n(&control->tid, __ATOMIC_SEQ_CST);
  if (tid == 0) return 0;
  if (syscall(SYS_tgkill, getpid(), (pid_t)tid, KICK_SIGNAL) < 0 && errno != ESRCH) return -errno;
  return 0;
}

/*
 * Opens a record for the exit that just happened. An access is completed by the next entry, with
 * what JavaScript answered; everything else is complete as it is, and published at once: it may be
 * the last this vCPU does.
 */
static void record_exit(struct estalo_vcpu_loop* loop, uint32_t reason, uint32_t watch,
                        uint64_t entered) {
  uint64_t left = (watch & ESTALO_WATCH_TIME) ? __rdtsc() : 0;
  struct kvm_run* run = loop->run;
  struct estalo_vcpu_control* control = loop->control;
  struct estalo_trace_record* records = (struct estalo_trace_record*)(loop->trace + 1);
  struct estalo_trace_record* record = &records[loop->trace->written % ESTALO_TRACE_RECORDS];
  memset(record, 0, sizeof *record);
  record->reason = reason;
  record->count = 1;
  record->exit_tsc = left;
  record->guest_ticks = left - entered;
  if (watch & ESTALO_WATCH_RIP) record->rip = run->s.regs.regs.rip;
  loop->open = record;
  loop->left_tsc = left;
  switch (reason) {
  case KVM_EXIT_IO:
    record->address = run->io.port;
    record->size_bytes = run->io.size;
    record->is_write = run->io.direction == KVM_EXIT_IO_OUT;
    record->count = run->io.count;
    *(record->is_write ? &control->exits_io_out : &control->exits_io_in) += 1;
    return;
  case KVM_EXIT_MMIO:
    record->address = run->mmio.phys_addr;
    record->size_bytes = (uint8_t)run->mmio.len;
    record->is_write = run->mmio.is_write;
    *(record->is_write ? &control->exits_mmio_write : &control->exits_mmio_read) += 1;
    return;
  case KVM_EXIT_INTR:
    control->kicks += 1;
    break;
  default:
    control->exits_other += 1;
  }
  estalo_vcpu_complete_record(loop, left);
}

/* Completes the open record on the way back into the guest, and publishes it. */
void estalo_vcpu_complete_record(struct estalo_vcpu_loop* loop, uint64_t now) {
  struct estalo_trace_record* record = loop->open;
  if (record == NULL) return;
  loop->open = NULL;
  const struct kvm_run* run = loop->run;
  if (record->size_bytes > 0 && record->size_bytes <= sizeof record->data) {
    const void* data = record->reason == KVM_EXIT_IO
                           ? (const void*)((const char*)run + run->io.data_offset)
                           : (const void*)run->mmio.data;
    memcpy(&record->data, data, record->size_bytes);
  }
  /* Both were taken, or it is not known: somebody began or ceased to watch in between. */
  if (now != 0 && loop->left_tsc != 0) record->host_ticks = now - loop->left_tsc;
  __atomic_store_n(&loop->trace->written, loop->trace->written + 1, __ATOMIC_RELEASE);
}

/*
 * Lets KVM take the answer of the last access in, without entering the guest. One instruction may
 * make several (a read before a write, a copy, a crossed page): then KVM asks for the next one, and
 * keeps no trace of it for later.
 */
static int finish_access(struct estalo_vcpu_loop* loop, uint32_t watch, uint64_t entered) {
  struct kvm_run* run = loop->run;
  __atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
  int result = ioctl(loop->vcpu_fd, KVM_RUN, 0);
  __atomic_store_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
  if (result < 0) return errno != EINTR && errno != EAGAIN ? -errno : ESTALO_EXIT_KICKED;
  record_exit(loop, run->exit_reason, watch, entered);
  return run->exit_reason != KVM_EXIT_INTR ? (int)run->exit_reason : ESTALO_EXIT_KICKED;
}

int estalo_vcpu_run(struct estalo_vcpu_loop* loop) {
  struct kvm_run* run = loop->run;
  struct estalo_vcpu_control* control = loop->control;
  for (;;) {
    uint32_t watch = __atomic_load_n(&control->watch, __ATOMIC_RELAXED);
    uint64_t entered = (watch & ESTALO_WATCH_TIME) ? __rdtsc() : 0;
    estalo_vcpu_complete_record(loop, entered);
    run->kvm_valid_regs = (watch & ESTALO_WATCH_RIP) ? KVM_SYNC_X86_REGS : 0;
    if (__atomic_load_n(&control->pending, __ATOMIC_SEQ_CST) != 0)
      return finish_access(loop, watch, entered);
    if (ioctl(loop->vcpu_fd, KVM_RUN, 0) < 0) {
      if (errno != EINTR && errno != EAGAIN) return -errno;
      /* Cleared before `pending` is read again above, so that no kick between the two is lost. */
      __atomic_store_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
      record_exit(loop, KVM_EXIT_INTR, watch, entered);
      continue;
    }
    record_exit(loop, run->exit_reason, watch, entered);
    if (run->exit_reason != KVM_EXIT_INTR) return (int)run->exit_reason;
  }
}
