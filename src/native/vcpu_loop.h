/*
 * One thread's hold on a vCPU: the KVM_RUN loop, its trace ring, and the kick that ends it.
 *
 * Thread: `run` on the vCPU's worker thread only; `kick` on any thread. The vCPU's descriptor
 * belongs to whoever created the vCPU and must stay open until `run` has returned for good.
 */
#ifndef ESTALO_VCPU_LOOP_H
#define ESTALO_VCPU_LOOP_H

#include <stdint.h>

#include "shared_layout.h"

#ifdef __cplusplus
extern "C" {
#endif

struct kvm_run;

struct estalo_vcpu_loop {
  int vcpu_fd;
  struct kvm_run* run;                 /* mapped by the caller, run_bytes long */
  struct estalo_vcpu_control* control; /* shared with JavaScript */
  struct estalo_trace_header* trace;   /* shared with JavaScript; records follow the header */
  uint64_t left_tsc;                   /* when the last exit was handed to JavaScript */
  struct estalo_trace_record* open;    /* that exit's record, completed at the next entry */
};

/* Returned by estalo_vcpu_run beside KVM_EXIT_* (all non-negative) and -errno. */
#define ESTALO_EXIT_KICKED 0x10000

/*
 * Enters the guest until something needs JavaScript: returns KVM_EXIT_*, ESTALO_EXIT_KICKED when
 * `control->pending` is set (any unfinished access has then been completed), or -errno.
 */
int estalo_vcpu_run(struct estalo_vcpu_loop* loop);

/* Publishes the record of the last exit; for a vCPU that will not enter the guest again (now_tsc
 * 0). */
void estalo_vcpu_complete_record(struct estalo_vcpu_loop* loop, uint64_t now_tsc);

/* Makes a running vCPU leave KVM_RUN soon. Set `control->pending` first. 0 or -errno. */
int estalo_vcpu_kick(struct kvm_run* run, const struct estalo_vcpu_control* control);

/* Installs the kick's signal handler, once per process. 0 or -errno. */
int estalo_vcpu_install_signal(void);

#ifdef __cplusplus
}
#endif
#endif
