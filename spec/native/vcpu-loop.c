/* The run loop over a KVM that is played: each word of the command line is one answer of KVM_RUN,
 * an exit's number or -1 for EINTR. `pending` is set throughout. Prints what the loop returns,
 * until it was kicked, and how often KVM was entered without immediate_exit. */
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/native/vcpu_loop.h"

static struct kvm_run page;
static char** answers;
static int entered;

/* Linked in the place of ioctl. */
int __wrap_ioctl(int fd, unsigned long request, ...) {
  (void)fd;
  if (request != KVM_RUN || *answers == NULL) abort();
  if (!page.immediate_exit) entered++;
  int answer = atoi(*answers++);
  if (answer < 0) {
    errno = EINTR;
    return -1;
  }
  page.exit_reason = (uint32_t)answer;
  return 0;
}

int main(int count, char** words) {
  static struct estalo_vcpu_control control = {.pending = 1};
  static struct {
    struct estalo_trace_header header;
    struct estalo_trace_record records[ESTALO_TRACE_RECORDS];
  } trace;
  struct estalo_vcpu_loop loop = {.run = &page, .control = &control, .trace = &trace.header};
  (void)count;
  answers = words + 1;
  for (int reason = 0; reason != ESTALO_EXIT_KICKED;) {
    reason = estalo_vcpu_run(&loop);
    printf("%d ", reason);
  }
  estalo_vcpu_complete_record(&loop, 0);
  printf("entered %d, told %d\n", entered, (int)trace.header.written);
  return 0;
}
