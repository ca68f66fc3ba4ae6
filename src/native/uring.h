/*
 * A small io_uring for disk images: vectored reads and writes straight into guest memory, fsync,
 * fallocate.
 *
 * One thread owns a ring. Requests are prepared one by one and submitted together; completions are
 * announced on an eventfd, unless they are there when submit returns, and reaped together. Short
 * reads and writes are continued here, so a completed request is whole or failed. Uses the kernel's
 * interface directly (linux/io_uring.h, Linux 5.6 and later).
 */
#ifndef ESTALO_URING_H
#define ESTALO_URING_H

#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct estalo_uring;

enum estalo_uring_operation {
  ESTALO_URING_READ,
  ESTALO_URING_WRITE,
  ESTALO_URING_FSYNC,
  ESTALO_URING_FALLOCATE
};

struct estalo_uring_request {
  uint32_t tag; /* 0 to depth - 1 */
  enum estalo_uring_operation operation;
  int fd;
  int fallocate_mode;
  uint64_t offset_bytes;
  uint64_t length_bytes;
  const struct iovec*
      segments; /* copied; their lengths add up to length_bytes for reads and writes */
  uint32_t segment_count;
};

/*
 * Makes a ring for `depth` requests in flight, announcing completions on event_fd, which does not
 * block and stays open for as long as the ring is there. 0 or -errno.
 */
int estalo_uring_create(struct estalo_uring** out, uint32_t depth, int event_fd);
/* Waits for nothing: the caller has reaped all it submitted, or the kernel cancels the rest. */
void estalo_uring_destroy(struct estalo_uring* ring);
/* 0, -EBUSY if the tag is in flight, -EINVAL, -ENOMEM. Takes effect with the next submit. */
int estalo_uring_prepare(struct estalo_uring* ring, const struct estalo_uring_request* request);
/*
 * Hands prepared requests to the kernel. Returns how many the kernel had no memory for and that
 * wait for the next submit, or -errno. Reap after it: what was done at once is not announced.
 */
int estalo_uring_submit(struct estalo_uring* ring);
/* Nobody waits for the results any more: a long transfer that is not whole is not continued, and
 * fails. */
void estalo_uring_abandon(struct estalo_uring* ring);
/* Fills up to `max` (tag, result) pairs, result 0 or -errno, and returns how many. No system call.
 */
int estalo_uring_reap(struct estalo_uring* ring, int32_t* pairs, uint32_t max);

#ifdef __cplusplus
}
#endif
#endif
