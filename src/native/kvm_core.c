/* The KVM ioctls; see kvm_core.h for the contract and for why this is C. */
#include "kvm_core.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static int checked(int result) {
  return result < 0 ? -errno : result;
}

int estalo_kvm_get_api_version(int kvm_fd) {
  return checked(ioctl(kvm_fd, KVM_GET_API_VERSION, 0));
}

int estalo_kvm_create_vm(int kvm_fd) {
  int fd;
  /* KVM_CREATE_VM is interruptible: a signal during its set-up is no reason to fail. */
  do {
    fd = checked(ioctl(kvm_fd, KVM_CREATE_VM, 0));
  } while (fd == -EINTR);
  return fd;
}

int estalo_kvm_check_extension(int fd, int capability) {
  return checked(ioctl(fd, KVM_CHECK_EXTENSION, capability));
}

int estalo_kvm_get_vcpu_mmap_size(int kvm_fd) {
  return checked(ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0));
}

_Static_assert(sizeof(struct kvm_cpuid_entry2) == 40, "ten words in the TypeScript record");

static struct kvm_cpuid2* cpuid_buffer(uint32_t count) {
  struct kvm_cpuid2* cpuid = calloc(1, sizeof *cpuid + count * sizeof(struct kvm_cpuid_entry2));
  if (cpuid != NULL) cpuid->nent = count;
  return cpuid;
}

int estalo_kvm_get_supported_cpuid(int kvm_fd, uint32_t* entries, uint32_t max) {
  struct kvm_cpuid2* cpuid = cpuid_buffer(max);
  if (cpuid == NULL) return -ENOMEM;
  int result = checked(ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid));
  if (result >= 0) {
    memcpy(entries, cpuid->entries, cpuid->nent * sizeof(struct kvm_cpuid_entry2));
    result = (int)cpuid->nent;
  }
  free(cpuid);
  return result;
}

int estalo_kvm_set_cpuid2(int vcpu_fd, const uint32_t* entries, uint32_t count) {
  struct kvm_cpuid2* cpuid = cpuid_buffer(count);
  if (cpuid == NULL) return -ENOMEM;
  memcpy(cpuid->entries, entries, count * sizeof(struct kvm_cpuid_entry2));
  int result = checked(ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid));
  free(cpuid);
  return result;
}

int estalo_kvm_set_tss_addr(int vm_fd, uint64_t gpa) {
  return checked(ioctl(vm_fd, KVM_SET_TSS_ADDR, gpa));
}

int estalo_kvm_set_identity_map_addr(int vm_fd, uint64_t gpa) {
  return checked(ioctl(vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &gpa));
}

int estalo_kvm_create_irqchip(int vm_fd) {
  return checked(ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0));
}

int estalo_kvm_create_pit2(int vm_fd) {
  struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};
  return checked(ioctl(vm_fd, KVM_CREATE_PIT2, &config));
}

int estalo_kvm_drop_missed_ticks(int vm_fd) {
  struct kvm_reinject_control control = {.pit_reinject = 0};
  return checked(ioctl(vm_fd, KVM_REINJECT_CONTROL, &control));
}

int estalo_kvm_set_user_memory_region(int vm_fd, uint32_t slot, uint64_t gpa, uint64_t size_bytes,
                                      void* host_address, int read_only) {
  struct kvm_userspace_memory_region region = {
      .slot = slot,
      .flags = read_only ? KVM_MEM_READONLY : 0u,
      .guest_phys_addr = gpa,
      .memory_size = size_bytes,
      .userspace_addr = (uint64_t)(uintptr_t)host_address,
  };
  return checked(ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region));
}

int estalo_kvm_ioeventfd(int vm_fd, int event_fd, uint64_t address, uint32_t size_bytes,
                         int with_match, uint64_t match, int is_pio, int deassign) {
  struct kvm_ioeventfd request = {
      .datamatch = match,
      .addr = address,
      .len = size_bytes,
      .fd = event_fd,
      .flags = (with_match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0u) |
               (is_pio ? KVM_IOEVENTFD_FLAG_PIO : 0u) |
               (deassign ? KVM_IOEVENTFD_FLAG_DEASSIGN : 0u),
  };
  return checked(ioctl(vm_fd, KVM_IOEVENTFD, &request));
}

int estalo_kvm_irqfd(int vm_fd, int event_fd, uint32_t gsi, int deassign) {
  struct kvm_irqfd request = {
      .fd = (uint32_t)event_fd,
      .gsi = gsi,
      .flags = deassign ? KVM_IRQFD_FLAG_DEASSIGN : 0u,
  };
  return checked(ioctl(vm_fd, KVM_IRQFD, &request));
}

int estalo_kvm_pulse_irq(int vm_fd, uint32_t gsi) {
  struct kvm_irq_level line = {.irq = gsi, .level = 1};
  int result = checked(ioctl(vm_fd, KVM_IRQ_LINE, &line));
  if (result < 0) return result;
  line.level = 0;
  return checked(ioctl(vm_fd, KVM_IRQ_LINE, &line));
}

int estalo_kvm_create_vcpu(int vm_fd, uint32_t id) {
  return checked(ioctl(vm_fd, KVM_CREATE_VCPU, id));
}

static const struct {
  size_t bytes;
  unsigned long get;
  unsigned long set;
} vcpu_structs[ESTALO_VCPU_STRUCT_COUNT] = {
    [ESTALO_REGS] = {sizeof(struct kvm_regs), KVM_GET_REGS, KVM_SET_REGS},
    [ESTALO_SREGS] = {sizeof(struct kvm_sregs), KVM_GET_SREGS, KVM_SET_SREGS},
    [ESTALO_FPU] = {sizeof(struct kvm_fpu), KVM_GET_FPU, KVM_SET_FPU},
    [ESTALO_LAPIC] = {sizeof(struct kvm_lapic_state), KVM_GET_LAPIC, KVM_SET_LAPIC},
    [ESTALO_MP_STATE] = {sizeof(struct kvm_mp_state), KVM_GET_MP_STATE, KVM_SET_MP_STATE},
    [ESTALO_VCPU_EVENTS] = {sizeof(struct kvm_vcpu_events), KVM_GET_VCPU_EVENTS,
                            KVM_SET_VCPU_EVENTS},
};

size_t estalo_kvm_struct_bytes(enum estalo_vcpu_struct which) {
  return vcpu_structs[which].bytes;
}

int estalo_kvm_get_struct(int vcpu_fd, enum estalo_vcpu_struct which, void* bytes) {
  return checked(ioctl(vcpu_fd, vcpu_structs[which].get, bytes));
}

int estalo_kvm_set_struct(int vcpu_fd, enum estalo_vcpu_struct which, const void* bytes) {
  return checked(ioctl(vcpu_fd, vcpu_structs[which].set, bytes));
}

static int msrs(int vcpu_fd, unsigned long request, const uint32_t* indexes, uint64_t* values,
                uint32_t count) {
  struct kvm_msrs* list = calloc(1, sizeof *list + count * sizeof(struct kvm_msr_entry));
  if (list == NULL) return -ENOMEM;
  list->nmsrs = count;
  for (uint32_t i = 0; i < count; i++) {
    list->entries[i].index = indexes[i];
    list->entries[i].data = values[i];
  }
  int result = checked(ioctl(vcpu_fd, request, list));
  for (uint32_t i = 0; i < count; i++)
    values[i] = list->entries[i].data;
  free(list);
  return result;
}

int estalo_kvm_set_msrs(int vcpu_fd, const uint32_t* indexes, const uint64_t* values,
                        uint32_t count) {
  uint64_t* copy = malloc((count + 1) * sizeof *copy);
  if (copy == NULL) return -ENOMEM;
  memcpy(copy, values, count * sizeof *copy);
  int result = msrs(vcpu_fd, KVM_SET_MSRS, indexes, copy, count);
  free(copy);
  return result;
}

int estalo_kvm_get_msrs(int vcpu_fd, const uint32_t* indexes, uint64_t* values, uint32_t count) {
  memset(values, 0, count * sizeof *values);
  return msrs(vcpu_fd, KVM_GET_MSRS, indexes, values, count);
}

int estalo_kvm_kvmclock_ctrl(int vcpu_fd) {
  return checked(ioctl(vcpu_fd, KVM_KVMCLOCK_CTRL, 0));
}

#define RUN_OFFSET(field) offsetof(struct kvm_run, field)
/* A structure of kvm-structs.ts: its size, and where each field is and how long. */
#define STRUCT(tag)                                                                                \
  { "sizeof " #tag, sizeof(struct tag) }
#define FIELD(tag, field)                                                                          \
  {#tag "." #field, offsetof(struct tag, field)}, {                                                \
    "sizeof " #tag "." #field, sizeof(((struct tag*)0)->field)                                     \
  }

const struct estalo_number estalo_kvm_numbers[] = {
    {"KVM_API_VERSION", KVM_API_VERSION},
    {"KVM_CAP_IRQCHIP", KVM_CAP_IRQCHIP},
    {"KVM_CAP_USER_MEMORY", KVM_CAP_USER_MEMORY},
    {"KVM_CAP_SET_TSS_ADDR", KVM_CAP_SET_TSS_ADDR},
    {"KVM_CAP_EXT_CPUID", KVM_CAP_EXT_CPUID},
    {"KVM_CAP_NR_VCPUS", KVM_CAP_NR_VCPUS},
    {"KVM_CAP_MP_STATE", KVM_CAP_MP_STATE},
    {"KVM_CAP_IRQFD", KVM_CAP_IRQFD},
    {"KVM_CAP_PIT2", KVM_CAP_PIT2},
    {"KVM_CAP_PIT_STATE2", KVM_CAP_PIT_STATE2},
    {"KVM_CAP_IOEVENTFD", KVM_CAP_IOEVENTFD},
    {"KVM_CAP_ADJUST_CLOCK", KVM_CAP_ADJUST_CLOCK},
    {"KVM_CAP_VCPU_EVENTS", KVM_CAP_VCPU_EVENTS},
    {"KVM_CAP_DEBUGREGS", KVM_CAP_DEBUGREGS},
    {"KVM_CAP_XSAVE", KVM_CAP_XSAVE},
    {"KVM_CAP_XCRS", KVM_CAP_XCRS},
    {"KVM_CAP_MAX_VCPUS", KVM_CAP_MAX_VCPUS},
    {"KVM_CAP_SYNC_REGS", KVM_CAP_SYNC_REGS},
    {"KVM_CAP_IMMEDIATE_EXIT", KVM_CAP_IMMEDIATE_EXIT},
    {"KVM_EXIT_IO", KVM_EXIT_IO},
    {"KVM_EXIT_HYPERCALL", KVM_EXIT_HYPERCALL},
    {"KVM_EXIT_HLT", KVM_EXIT_HLT},
    {"KVM_EXIT_MMIO", KVM_EXIT_MMIO},
    {"KVM_EXIT_IRQ_WINDOW_OPEN", KVM_EXIT_IRQ_WINDOW_OPEN},
    {"KVM_EXIT_SHUTDOWN", KVM_EXIT_SHUTDOWN},
    {"KVM_EXIT_FAIL_ENTRY", KVM_EXIT_FAIL_ENTRY},
    {"KVM_EXIT_INTR", KVM_EXIT_INTR},
    {"KVM_EXIT_INTERNAL_ERROR", KVM_EXIT_INTERNAL_ERROR},
    {"KVM_EXIT_SYSTEM_EVENT", KVM_EXIT_SYSTEM_EVENT},
    {"KVM_RUN_EXIT_REASON_OFFSET", RUN_OFFSET(exit_reason)},
    {"KVM_RUN_IO_DIRECTION_OFFSET", RUN_OFFSET(io.direction)},
    {"KVM_RUN_IO_SIZE_OFFSET", RUN_OFFSET(io.size)},
    {"KVM_RUN_IO_PORT_OFFSET", RUN_OFFSET(io.port)},
    {"KVM_RUN_IO_COUNT_OFFSET", RUN_OFFSET(io.count)},
    {"KVM_RUN_IO_DATA_OFFSET_OFFSET", RUN_OFFSET(io.data_offset)},
    {"KVM_RUN_MMIO_PHYS_ADDR_OFFSET", RUN_OFFSET(mmio.phys_addr)},
    {"KVM_RUN_MMIO_DATA_OFFSET", RUN_OFFSET(mmio.data)},
    {"KVM_RUN_MMIO_LEN_OFFSET", RUN_OFFSET(mmio.len)},
    {"KVM_RUN_MMIO_IS_WRITE_OFFSET", RUN_OFFSET(mmio.is_write)},
    {"KVM_RUN_INTERNAL_SUBERROR_OFFSET", RUN_OFFSET(internal.suberror)},
    {"KVM_RUN_INTERNAL_NDATA_OFFSET", RUN_OFFSET(internal.ndata)},
    {"KVM_RUN_INTERNAL_DATA_OFFSET", RUN_OFFSET(internal.data)},
    {"KVM_RUN_FAIL_ENTRY_REASON_OFFSET", RUN_OFFSET(fail_entry.hardware_entry_failure_reason)},
    STRUCT(kvm_regs),
    FIELD(kvm_regs, rax),
    FIELD(kvm_regs, rbx),
    FIELD(kvm_regs, rcx),
    FIELD(kvm_regs, rdx),
    FIELD(kvm_regs, rsi),
    FIELD(kvm_regs, rdi),
    FIELD(kvm_regs, rsp),
    FIELD(kvm_regs, rbp),
    FIELD(kvm_regs, r8),
    FIELD(kvm_regs, r9),
    FIELD(kvm_regs, r10),
    FIELD(kvm_regs, r11),
    FIELD(kvm_regs, r12),
    FIELD(kvm_regs, r13),
    FIELD(kvm_regs, r14),
    FIELD(kvm_regs, r15),
    FIELD(kvm_regs, rip),
    FIELD(kvm_regs, rflags),
    STRUCT(kvm_segment),
    FIELD(kvm_segment, base),
    FIELD(kvm_segment, limit),
    FIELD(kvm_segment, selector),
    FIELD(kvm_segment, type),
    FIELD(kvm_segment, present),
    FIELD(kvm_segment, dpl),
    FIELD(kvm_segment, db),
    FIELD(kvm_segment, s),
    FIELD(kvm_segment, l),
    FIELD(kvm_segment, g),
    FIELD(kvm_segment, avl),
    FIELD(kvm_segment, unusable),
    STRUCT(kvm_dtable),
    FIELD(kvm_dtable, base),
    FIELD(kvm_dtable, limit),
    STRUCT(kvm_sregs),
    FIELD(kvm_sregs, cs),
    FIELD(kvm_sregs, ds),
    FIELD(kvm_sregs, es),
    FIELD(kvm_sregs, fs),
    FIELD(kvm_sregs, gs),
    FIELD(kvm_sregs, ss),
    FIELD(kvm_sregs, tr),
    FIELD(kvm_sregs, ldt),
    FIELD(kvm_sregs, gdt),
    FIELD(kvm_sregs, idt),
    FIELD(kvm_sregs, cr0),
    FIELD(kvm_sregs, cr2),
    FIELD(kvm_sregs, cr3),
    FIELD(kvm_sregs, cr4),
    FIELD(kvm_sregs, cr8),
    FIELD(kvm_sregs, efer),
    FIELD(kvm_sregs, apic_base),
    FIELD(kvm_sregs, interrupt_bitmap),
    STRUCT(kvm_cpuid_entry2),
    FIELD(kvm_cpuid_entry2, function),
    FIELD(kvm_cpuid_entry2, index),
    FIELD(kvm_cpuid_entry2, flags),
    FIELD(kvm_cpuid_entry2, eax),
    FIELD(kvm_cpuid_entry2, ebx),
    FIELD(kvm_cpuid_entry2, ecx),
    FIELD(kvm_cpuid_entry2, edx),
    STRUCT(kvm_msr_entry),
    FIELD(kvm_msr_entry, index),
    FIELD(kvm_msr_entry, data),
    STRUCT(kvm_fpu),
    FIELD(kvm_fpu, fpr),
    FIELD(kvm_fpu, fcw),
    FIELD(kvm_fpu, fsw),
    FIELD(kvm_fpu, ftwx),
    FIELD(kvm_fpu, last_opcode),
    FIELD(kvm_fpu, last_ip),
    FIELD(kvm_fpu, last_dp),
    FIELD(kvm_fpu, xmm),
    FIELD(kvm_fpu, mxcsr),
};
const size_t estalo_kvm_number_count = sizeof estalo_kvm_numbers / sizeof estalo_kvm_numbers[0];
