/* KVM's counters; see kvm_stats.h. C for the flexible array in struct kvm_stats_desc. */
#include "kvm_stats.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Linux 6.x has 48 and about 50. */
#define NAME_BYTES_MAX 256u
#define DESCRIPTORS_MAX 1024u

int estalo_kvm_stats_fd(int vcpu_fd) {
  int fd = ioctl(vcpu_fd, KVM_GET_STATS_FD, 0);
  return fd < 0 ? -errno : fd;
}

int estalo_kvm_find_stats(int stats_fd, const char* const* names, uint64_t* offsets, size_t count) {
  struct kvm_stats_header header;
  memset(offsets, 0, count * sizeof *offsets);
  ssize_t got = pread(stats_fd, &header, sizeof header, 0);
  if (got < 0) return -errno;
  if (got != sizeof header || header.name_size > NAME_BYTES_MAX ||
      header.num_desc > DESCRIPTORS_MAX)
    return -EPROTO;
  size_t step = sizeof(struct kvm_stats_desc) + header.name_size;
  char* table = calloc(header.num_desc, step);
  if (table == NULL) return -ENOMEM;
  int result = 0;
  got = pread(stats_fd, table, header.num_desc * step, header.desc_offset);
  if (got != (ssize_t)(header.num_desc * step)) result = got < 0 ? -errno : -EPROTO;
  for (size_t i = 0; result == 0 && i < header.num_desc; i++) {
    const struct kvm_stats_desc* descriptor = (const struct kvm_stats_desc*)(table + i * step);
    for (size_t k = 0; k < count; k++) {
      if (descriptor->size == 1 && strncmp(descriptor->name, names[k], header.name_size) == 0) {
        offsets[k] = (uint64_t)header.data_offset + descriptor->offset;
      }
    }
  }
  free(table);
  return result;
}
