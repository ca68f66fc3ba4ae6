/*
 * The KVM ioctls Estalo uses, each wrapped once and named after its KVM constant.
 *
 * This is C, not C++, on purpose: linux/kvm.h declares flexible arrays whose size is 0 in C and not
 * in C++ on some distributions, which silently changes ioctl numbers. C++ sees plain byte buffers
 * only. Every function returns a non-negative value or -errno. None keeps state.
 */
#ifndef ESTALO_KVM_CORE_H
#define ESTALO_KVM_CORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* System ioctls, on the descriptor of /dev/kvm. */
int estalo_kvm_get_api_version(int kvm_fd);
int estalo_kvm_create_vm(int kvm_fd);
int estalo_kvm_check_extension(int fd, int capability);
int estalo_kvm_get_vcpu_mmap_size(int kvm_fd);
/* Fills at most `max` records of 10 words (struct kvm_cpuid_entry2); returns how many. */
int estalo_kvm_get_supported_cpuid(int kvm_fd, uint32_t* entries, uint32_t max);

/* VM ioctls. */
int estalo_kvm_set_tss_addr(int vm_fd, uint64_t gpa);
int estalo_kvm_set_identity_map_addr(int vm_fd, uint64_t gpa);
int estalo_kvm_create_irqchip(int vm_fd);
int estalo_kvm_create_pit2(int vm_fd);
/*
 * By default KVM gives a guest every tick of the PIT that it missed, one after the other. Linux
 * keeps time by the TSC and needs none of them; a guest that waits for a processor, or was paused,
 * would do nothing else, and where a tick costs more than its share of the processor never again.
 * Waits in the kernel until no CPU can still see the old state: up to 20 ms.
 */
int estalo_kvm_drop_missed_ticks(int vm_fd);
/* 0 bytes: the slot goes. */
int estalo_kvm_set_user_memory_region(int vm_fd, uint32_t slot, uint64_t gpa, uint64_t size_bytes,
                                      void* host_address, int read_only);
int estalo_kvm_ioeventfd(int vm_fd, int event_fd, uint64_t address, uint32_t size_bytes,
                         int with_match, uint64_t match, int is_pio, int deassign);
int estalo_kvm_irqfd(int vm_fd, int event_fd, uint32_t gsi, int deassign);
/* An edge on an interrupt line: up and down again. */
int estalo_kvm_pulse_irq(int vm_fd, uint32_t gsi);
int estalo_kvm_create_vcpu(int vm_fd, uint32_t id);

/* vCPU ioctls on whole structures, passed as bytes; sizes are checked by the caller against these.
 */
enum estalo_vcpu_struct {
  ESTALO_REGS,
  ESTALO_SREGS,
  ESTALO_FPU,
  ESTALO_LAPIC,
  ESTALO_MP_STATE,
  ESTALO_VCPU_EVENTS,
  ESTALO_VCPU_STRUCT_COUNT
};
size_t estalo_kvm_struct_bytes(enum estalo_vcpu_struct which);
int estalo_kvm_get_struct(int vcpu_fd, enum estalo_vcpu_struct which, void* bytes);
int estalo_kvm_set_struct(int vcpu_fd, enum estalo_vcpu_struct which, const void* bytes);
int estalo_kvm_set_cpuid2(int vcpu_fd, const uint32_t* entries, uint32_t count);
/* Sets or gets `count` MSRs; `values[i]` belongs to `indexes[i]`. Returns how many were taken. */
int estalo_kvm_set_msrs(int vcpu_fd, const uint32_t* indexes, const uint64_t* values,
                        uint32_t count);
int estalo_kvm_get_msrs(int vcpu_fd, const uint32_t* indexes, uint64_t* values, uint32_t count);
int estalo_kvm_kvmclock_ctrl(int vcpu_fd);

/* Numbers the TypeScript side has too; spec/native/layouts.spec.ts compares them. */
struct estalo_number {
  const char* name;
  uint32_t value;
};
extern const struct estalo_number estalo_kvm_numbers[];
extern const size_t estalo_kvm_number_count;

#ifdef __cplusplus
}
#endif
#endif
