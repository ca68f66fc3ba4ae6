/* io_uring for disk images; see uring.h. */
#include "uring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A request of more than this is long: a thread of the kernel's copies it, even where the page
 * cache holds it, since else it would be copied before io_uring_enter returns. */
#define LONG_BYTES (4u << 20)

/* One request in flight: what is left of it, so that a short transfer can be continued. */
struct slot {
  struct iovec* segments;
  uint32_t capacity;
  uint32_t first; /* segments before it are done */
  uint32_t count;
  uint64_t offset_bytes;
  uint64_t left_bytes;
  int fd;
  int fallocate_mode;
  uint8_t operation;
  uint8_t busy;
};

struct estalo_uring {
  int fd;
  int event_fd;
  uint32_t depth;
  uint32_t prepared;
  uint8_t abandoned;
  uint8_t* rings; /* submission and completion ring, one mapping (IORING_FEAT_SINGLE_MMAP) */
  size_t rings_bytes;
  struct io_uring_sqe* entries;
  size_t entries_bytes;
  uint32_t *sq_head, *sq_tail, *sq_mask, *sq_array;
  uint32_t *cq_head, *cq_tail, *cq_mask;
  struct io_uring_cqe* completions;
  struct slot* slots;
};

static int map_rings(struct estalo_uring* ring, const struct io_uring_params* params) {
  size_t sq_bytes = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
  size_t cq_bytes = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
  ring->rings_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
  ring->rings = mmap(NULL, ring->rings_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                     ring->fd, IORING_OFF_SQ_RING);
  if (ring->rings == MAP_FAILED) {
    ring->rings = NULL;
    return -errno;
  }
  ring->entries_bytes = params->sq_entries * sizeof(struct io_uring_sqe);
  ring->entries = mmap(NULL, ring->entries_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                       ring->fd, IORING_OFF_SQES);
  if (ring->entries == MAP_FAILED) {
    ring->entries = NULL;
    return -errno;
  }
  ring->sq_head = (uint32_t*)(ring->rings + params->sq_off.head);
  ring->sq_tail = (uint32_t*)(ring->rings + params->sq_off.tail);
  ring->sq_mask = (uint32_t*)(ring->rings + params->sq_off.ring_mask);
  ring->sq_array = (uint32_t*)(ring->rings + params->sq_off.array);
  ring->cq_head = (uint32_t*)(ring->rings + params->cq_off.head);
  ring->cq_tail = (uint32_t*)(ring->rings + params->cq_off.tail);
  ring->cq_mask = (uint32_t*)(ring->rings + params->cq_off.ring_mask);
  ring->completions = (struct io_uring_cqe*)(ring->rings + params->cq_off.cqes);
  return 0;
}

int estalo_uring_create(struct estalo_uring** out, uint32_t depth, int event_fd) {
  struct estalo_uring* ring = calloc(1, sizeof *ring);
  if (ring == NULL) return -ENOMEM;
  struct io_uring_params params;
  memset(&params, 0, sizeof params);
  ring->depth = depth;
  ring->event_fd = event_fd;
  ring->fd = (int)syscall(SYS_io_uring_setup, depth, &params);
  int result = ring->fd < 0 ? -errno : 0;
  if (result == 0 && !(params.features & IORING_FEAT_SINGLE_MMAP)) result = -ENOSYS;
  if (result == 0) result = map_rings(ring, &params);
  if (result == 0) {
    ring->slots = calloc(depth, sizeof *ring->slots);
    if (ring->slots == NULL) result = -ENOMEM;
  }
  if (result == 0 &&
      syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_EVENTFD, &event_fd, 1) < 0) {
    result = -errno;
  }
  if (result < 0) {
    estalo_uring_destroy(ring);
    return result;
  }
  *out = ring;
  return 0;
}

void estalo_uring_destroy(struct estalo_uring* ring) {
  if (ring->entries != NULL) munmap(ring->entries, ring->entries_bytes);
  if (ring->rings != NULL) munmap(ring->rings, ring->rings_bytes);
  if (ring->fd >= 0) close(ring->fd);
  if (ring->slots != NULL) {
    for (uint32_t tag = 0; tag < ring->depth; tag++)
      free(ring->slots[tag].segments);
  }
  free(ring->slots);
  free(ring);
}

static void fill_entry(struct estalo_uring* ring, uint32_t tag) {
  struct slot* slot = &ring->slots[tag];
  uint32_t tail = *ring->sq_tail;
  uint32_t index = tail & *ring->sq_mask;
  struct io_uring_sqe* entry = &ring->entries[index];
  memset(entry, 0, sizeof *entry);
  entry->fd = slot->fd;
  entry->user_data = tag;
  switch (slot->operation) {
  case ESTALO_URING_READ:
  case ESTALO_URING_WRITE:
    entry->opcode = slot->operation == ESTALO_URING_READ ? IORING_OP_READV : IORING_OP_WRITEV;
    entry->addr = (uint64_t)(uintptr_t)&slot->segments[slot->first];
    entry->len = slot->count - slot->first;
    entry->off = slot->offset_bytes;
    if (slot->left_bytes > LONG_BYTES) entry->flags = IOSQE_ASYNC;
    break;
  case ESTALO_URING_FSYNC:
    entry->opcode = IORING_OP_FSYNC;
    entry->fsync_flags = IORING_FSYNC_DATASYNC;
    break;
  default:
    entry->opcode = IORING_OP_FALLOCATE;
    entry->off = slot->offset_bytes;
    entry->addr = slot->left_bytes;
    entry->len = (uint32_t)slot->fallocate_mode;
  }
  ring->sq_array[index] = index;
  __atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
  ring->prepared += 1;
}

int estalo_uring_prepare(struct estalo_uring* ring, const struct estalo_uring_request* request) {
  if (request->tag >= ring->depth) return -EINVAL;
  struct slot* slot = &ring->slots[request->tag];
  if (slot->busy) return -EBUSY;
  if (request->segment_count > slot->capacity) {
    struct iovec* grown = realloc(slot->segments, request->segment_count * sizeof *grown);
    if (grown == NULL) return -ENOMEM;
    slot->segments = grown;
    slot->capacity = request->segment_count;
  }
  if (request->segment_count > 0) {
    memcpy(slot->segments, request->segments, request->segment_count * sizeof(struct iovec));
  }
  slot->first = 0;
  slot->count = request->segment_count;
  slot->offset_bytes = request->offset_bytes;
  slot->left_bytes = request->length_bytes;
  slot->fd = request->fd;
  slot->fallocate_mode = request->fallocate_mode;
  slot->operation = (uint8_t)request->operation;
  slot->busy = 1;
  fill_entry(ring, request->tag);
  return 0;
}

static int enter(struct estalo_uring* ring) {
  if (ring->prepared == 0) return 0;
  long result;
  do {
    result = syscall(SYS_io_uring_enter, ring->fd, ring->prepared, 0, 0, NULL, 0);
  } while (result < 0 && errno == EINTR);
  if (result >= 0) ring->prepared -= (uint32_t)result;
  /* Out of memory for requests, or for completions: what is prepared stays so. */
  else if (errno != EAGAIN && errno != EBUSY)
    return -errno;
  return (int)ring->prepared;
}

int estalo_uring_submit(struct estalo_uring* ring) {
  int result = enter(ring);
  /*
   * What was done at once need not be announced: its signal is taken back, for the caller reaps
   * now. A completion that comes later is seen by that, or signals again.
   */
  if (__atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE) != *ring->cq_head) {
    uint64_t signals;
    (void)!read(ring->event_fd, &signals, sizeof signals);
  }
  return result;
}

/* Takes `done` bytes off a read or write. Returns whether it has to go on. */
static int advance(struct slot* slot, uint64_t done) {
  slot->offset_bytes += done;
  slot->left_bytes -= done > slot->left_bytes ? slot->left_bytes : done;
  while (slot->first < slot->count && done >= slot->segments[slot->first].iov_len) {
    done -= slot->segments[slot->first].iov_len;
    slot->first += 1;
  }
  if (slot->first == slot->count) return 0;
  struct iovec* segment = &slot->segments[slot->first];
  segment->iov_base = (uint8_t*)segment->iov_base + done;
  segment->iov_len -= done;
  return slot->left_bytes > 0;
}

void estalo_uring_abandon(struct estalo_uring* ring) {
  ring->abandoned = 1;
}

int estalo_uring_reap(struct estalo_uring* ring, int32_t* pairs, uint32_t max) {
  uint32_t head = *ring->cq_head;
  uint32_t tail = __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE);
  uint32_t filled = 0;
  for (; head != tail && filled < max; head++) {
    const struct io_uring_cqe* completion = &ring->completions[head & *ring->cq_mask];
    uint32_t tag = (uint32_t)completion->user_data;
    int result = completion->res;
    struct slot* slot = &ring->slots[tag];
    if (result == -EINTR || result == -EAGAIN) {
      fill_entry(ring, tag);
      continue;
    }
    if (slot->operation <= ESTALO_URING_WRITE && result >= 0) {
      if (result == 0 && slot->left_bytes > 0) {
        result = -EIO; /* the file ends here: it shrank below the capacity its driver was told */
      } else if (advance(slot, (uint64_t)result)) {
        if (!ring->abandoned || slot->left_bytes <= LONG_BYTES) {
          fill_entry(ring, tag);
          continue;
        }
        result = -ECANCELED;
      }
    }
    slot->busy = 0;
    pairs[2 * filled] = (int32_t)tag;
    pairs[2 * filled + 1] = result < 0 ? result : 0;
    filled += 1;
  }
  __atomic_store_n(ring->cq_head, head, __ATOMIC_RELEASE);
  /* Continued requests go out now: nobody else would submit them. A failure shows at the next
   * submit. */
  (void)enter(ring);
  return (int)filled;
}
