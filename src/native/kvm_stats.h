/*
 * KVM's own counters of one vCPU (Linux's Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD): what
 * left the guest and was answered in the kernel, so that KVM_RUN did not return.
 *
 * Thread: any; the descriptor may be read while the vCPU runs.
 */
#ifndef ESTALO_KVM_STATS_H
#define ESTALO_KVM_STATS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The most counters that can be asked for at once. */
#define ESTALO_STATS_MAX 16

/* A descriptor of the vCPU's counters, to be closed by the caller, or -errno. */
int estalo_kvm_stats_fd(int vcpu_fd);

/* Where in that file each counter lies; 0 for one that this kernel has not. 0 or -errno. */
int estalo_kvm_find_stats(int stats_fd, const char* const* names, uint64_t* offsets, size_t count);

#ifdef __cplusplus
}
#endif
#endif
