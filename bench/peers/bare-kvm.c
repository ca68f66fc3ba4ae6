/*
 * The physical limit: the smallest monitor that boots the bench guest, a loop around KVM_RUN in C.
 *
 *   bare-kvm [--linux64] KERNEL COMMAND-LINE   serial port to stdout, until the guest powers off
 *   bare-kvm --steps KERNEL COMMAND-LINE       and lines of JSON: microseconds of each step
 *   bare-kvm --tsc                             the frequency of the guest's TSC in kHz
 *
 * One vCPU, 128 MiB, KVM's own interrupt chips, no threads. It answers what the bench guest asks
 * and nothing else: COM1 (LSR, scratch, transmitter), a virtio-mmio magic value and a QueueSel at
 * 0xc0001000, and the report page's power-off. Every answer is the least work that can be right.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY_BYTES (128u << 20)
#define START_INFO 0x6000
#define ZERO_PAGE 0x7000
#define STACK 0x8ff0
#define PML4 0x9000
#define COMMAND_LINE 0x20000
#define COM1 0x3f8
#define COM1_LSR 0x3fd
#define COM1_SCRATCH 0x3ff
#define VIRTIO_WINDOW 0xc0001000ull
#define POWER_OFF 0xc0000008ull
#define PVH_ENTRY_NOTE 18

static uint8_t* memory;
static int linux64, show_steps;
static uint32_t entry, pvh_entry;

static void fail(const char* what) {
  fprintf(stderr, "bare-kvm: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int checked(int result, const char* what) {
  if (result < 0) fail(what);
  return result;
}

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Notes how long the step that ends now took. */
static void step(const char* name) {
  static double last;
  static const char* separator = "{";
  double now = now_us();
  if (name != NULL && show_steps) {
    printf("%s\"%s\":%.0f", separator, name, now - last);
    separator = ",";
  }
  last = now_us();
}

static void load_kernel(const char* path) {
  int fd = checked(open(path, O_RDONLY | O_CLOEXEC), path);
  off_t bytes = lseek(fd, 0, SEEK_END);
  uint8_t* file = mmap(NULL, (size_t)bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  if (file == MAP_FAILED) fail(path);
  const Elf64_Ehdr* header = (const Elf64_Ehdr*)file;
  const Elf64_Phdr* segments = (const Elf64_Phdr*)(file + header->e_phoff);
  entry = (uint32_t)header->e_entry;
  for (int i = 0; i < header->e_phnum; i++) {
    const uint8_t* from = file + segments[i].p_offset;
    if (segments[i].p_type == PT_LOAD)
      memcpy(memory + segments[i].p_paddr, from, segments[i].p_filesz);
    const Elf64_Nhdr* note = (const Elf64_Nhdr*)from;
    if (segments[i].p_type == PT_NOTE && note->n_type == PVH_ENTRY_NOTE) {
      memcpy(&pvh_entry, from + sizeof *note + 4, sizeof pvh_entry);
    }
  }
  munmap(file, (size_t)bytes);
  close(fd);
}

static void write_boot_tables(const char* command_line) {
  strcpy((char*)memory + COMMAND_LINE, command_line);
  *(uint32_t*)(memory + START_INFO) = 0x336ec578; /* "xEn3" */
  *(uint64_t*)(memory + START_INFO + 24) = COMMAND_LINE;
  *(uint32_t*)(memory + ZERO_PAGE + 0x228) = COMMAND_LINE;
  *(uint64_t*)(memory + PML4) = PML4 + 0x1000 + 3;
  *(uint64_t*)(memory + PML4 + 0x1000) = PML4 + 0x2000 + 3;
  for (uint64_t i = 0; i < 512; i++) {
    *(uint64_t*)(memory + PML4 + 0x2000 + 8 * i) = (i << 21) + 0x83;
  }
}

static void set_registers(int vcpu) {
  struct kvm_sregs sregs;
  checked(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  struct kvm_segment data = {
      .limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
  struct kvm_segment code = data;
  code.selector = 8;
  code.type = 11;
  code.l = (uint8_t)linux64;
  code.db = !linux64;
  sregs.cs = code;
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
  struct kvm_segment task = {.limit = 0x67, .type = 11, .present = 1};
  sregs.tr = task;
  sregs.cr0 = linux64 ? 0x80000011 : 0x11;
  sregs.cr3 = linux64 ? PML4 : 0;
  sregs.cr4 = linux64 ? 0x20 : 0;
  sregs.efer = linux64 ? 0x500 : 0;
  checked(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  struct kvm_regs regs = {.rflags = 2};
  regs.rip = linux64 ? entry : pvh_entry;
  regs.rbx = START_INFO;
  regs.rsi = ZERO_PAGE;
  regs.rsp = STACK;
  checked(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static void set_cpuid(int kvm, int vcpu) {
  struct {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[256];
  } cpuid = {.head = {.nent = 256}};
  checked(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
  checked(ioctl(vcpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
}

static uint8_t scratch;
static uint32_t queue_sel;

static void port_io(struct kvm_run* run) {
  uint8_t* data = (uint8_t*)run + run->io.data_offset;
  if (run->io.direction == KVM_EXIT_IO_IN) {
    *data = run->io.port == COM1_LSR ? 0x60 : run->io.port == COM1_SCRATCH ? scratch : 0;
  } else if (run->io.port == COM1) {
    if (write(STDOUT_FILENO, data, 1) < 0) fail("write");
  } else if (run->io.port == COM1_SCRATCH) {
    scratch = *data;
  }
}

/* Whether the guest goes on. */
static int memory_io(struct kvm_run* run) {
  uint32_t value = 0;
  if (run->mmio.is_write) {
    if (run->mmio.phys_addr == POWER_OFF) return 0;
    if (run->mmio.phys_addr == VIRTIO_WINDOW + 0x30) memcpy(&queue_sel, run->mmio.data, 4);
    return 1;
  }
  if (run->mmio.phys_addr == VIRTIO_WINDOW) value = 0x74726976;
  memcpy(run->mmio.data, &value, sizeof value);
  return 1;
}

static void run_guest(int vcpu, struct kvm_run* run) {
  int first = show_steps;
  for (;;) {
    if (ioctl(vcpu, KVM_RUN, 0) < 0 && errno != EINTR) fail("KVM_RUN");
    if (first) {
      step("firstExit");
      puts("}");
      fflush(stdout);
      first = 0;
    }
    if (run->exit_reason == KVM_EXIT_IO)
      port_io(run);
    else if (run->exit_reason == KVM_EXIT_MMIO) {
      if (!memory_io(run)) return;
    } else if (run->exit_reason != KVM_EXIT_INTR) {
      struct kvm_regs regs;
      checked(ioctl(vcpu, KVM_GET_REGS, &regs), "KVM_GET_REGS");
      fprintf(stderr, "bare-kvm: exit %u at 0x%llx\n", run->exit_reason, regs.rip);
      exit(1);
    }
  }
}

static int create_machine(int kvm) {
  int vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  step("KVM_CREATE_VM");
  uint64_t identity_map = 0xfffbc000;
  checked(ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map), "KVM_SET_IDENTITY_MAP_ADDR");
  checked(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
  step("KVM_SET_TSS_ADDR");
  memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail("mmap");
  struct kvm_userspace_memory_region region = {.memory_size = MEMORY_BYTES,
                                               .userspace_addr = (uint64_t)memory};
  checked(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
  step("KVM_SET_USER_MEMORY_REGION");
  checked(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
  step("KVM_CREATE_IRQCHIP");
  struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
  checked(ioctl(vm, KVM_CREATE_PIT2, &pit), "KVM_CREATE_PIT2");
  step("KVM_CREATE_PIT2");
  return vm;
}

static int print_tsc(int kvm) {
  int vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  int vcpu = checked(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
  printf("%d\n", checked(ioctl(vcpu, KVM_GET_TSC_KHZ, 0), "KVM_GET_TSC_KHZ"));
  return 0;
}

int main(int count, char** arguments) {
  step(NULL);
  int kvm = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
  if (count == 2 && strcmp(arguments[1], "--tsc") == 0) return print_tsc(kvm);
  for (; count > 3; count--, arguments++) {
    linux64 |= strcmp(arguments[1], "--linux64") == 0;
    show_steps |= strcmp(arguments[1], "--steps") == 0;
  }
  if (count != 3) {
    fprintf(stderr, "usage: bare-kvm [--linux64] [--steps] KERNEL COMMAND-LINE | --tsc\n");
    return 2;
  }
  int vm = create_machine(kvm);
  load_kernel(arguments[1]);
  write_boot_tables(arguments[2]);
  step("kernel");
  int vcpu = checked(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
  step("KVM_CREATE_VCPU");
  set_cpuid(kvm, vcpu);
  set_registers(vcpu);
  int run_bytes = checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  struct kvm_run* run = mmap(NULL, (size_t)run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (run == MAP_FAILED) fail("mmap kvm_run");
  step("vcpuState");
  run_guest(vcpu, run);
  double ended = now_us();
  munmap(run, (size_t)run_bytes);
  close(vcpu);
  close(vm);
  if (show_steps) printf("{\"close\":%.0f}\n", now_us() - ended);
  return 0;
}
