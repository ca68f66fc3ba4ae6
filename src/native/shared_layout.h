/*
 * Memory shared between the addon and JavaScript, one block per vCPU. The TypeScript side of the
 * same tables is layouts.ts; addon.cc exports these numbers and spec/native/layouts.spec.ts
 * compares them.
 *
 * All fields are little-endian. "Owner" is the one thread that writes the field.
 */
#ifndef ESTALO_SHARED_LAYOUT_H
#define ESTALO_SHARED_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define ESTALO_STATIC_ASSERT static_assert
#else
#define ESTALO_STATIC_ASSERT _Static_assert
#endif

/* Control words of one vCPU: how other threads reach it, and what it counts. One cache line. */
struct estalo_vcpu_control {
  uint32_t pending;     /* owner: supervisor. Not 0: leave KVM_RUN and return to JavaScript */
  uint32_t tid;         /* owner: vCPU thread. Its kernel thread id while in the run loop, else 0 */
  uint32_t watch;       /* owner: supervisor. ESTALO_WATCH_* bits, read at each exit */
  uint32_t exits_io_in; /* owner: vCPU thread, and all below; they wrap */
  uint32_t exits_io_out;
  uint32_t exits_mmio_read;
  uint32_t exits_mmio_write;
  uint32_t exits_other;
  uint32_t kicks; /* times KVM_RUN was left for a signal */
  uint32_t reserved[7];
};
ESTALO_STATIC_ASSERT(sizeof(struct estalo_vcpu_control) == 64, "one cache line");

/* Bits of `watch`. Nobody watches: a record has neither times nor RIP, and costs no read of the
 * TSC. */
#define ESTALO_WATCH_RIP 1u /* record the guest's RIP with each exit (costs a register copy) */
#define ESTALO_WATCH_TIME                                                                          \
  2u /* record when it was and how long it took (costs two reads of the TSC) */

/*
 * Trace ring of one vCPU: lossy, overwriting, the vCPU thread is its only writer. What no vCPU
 * thread sees (doorbells, exits that KVM answered) goes to a ring of the same form that the device
 * host writes while somebody watches.
 *
 *   [ header 64 B: written = number of records ever written ][ record 0 ][ record 1 ] … [ record
 * N-1 ]
 *
 * Record k of the ring's life lies in slot k mod N. A reader copies a slot, then reads `written`
 * again: if written > k + N - 1 the slot may have been overwritten while it was copied, and the
 * copy is dropped.
 */
struct estalo_trace_header {
  uint64_t written; /* stored with release order after the record is complete */
  uint64_t reserved[7];
};
ESTALO_STATIC_ASSERT(sizeof(struct estalo_trace_header) == 64, "one cache line");

struct estalo_trace_record {
  uint64_t address;     /* port or guest-physical address */
  uint64_t data;        /* value written, or the value the read was answered with */
  uint64_t rip;         /* with ESTALO_WATCH_RIP, else 0 */
  uint64_t exit_tsc;    /* host TSC when KVM_RUN returned; with ESTALO_WATCH_TIME, else 0 */
  uint64_t guest_ticks; /* TSC ticks in KVM_RUN before this exit; 0 without ESTALO_WATCH_TIME */
  uint64_t host_ticks;  /* TSC ticks from this exit to the next KVM_RUN; 0 when it ended the run */
  uint32_t reason;      /* KVM_EXIT_*; KVM_EXIT_INTR: left for a signal; ESTALO_EXIT_NOTIFY */
  uint32_t count; /* of a string port I/O; in the device host's ring, how many are told as one */
  uint8_t size_bytes; /* 1, 2, 4, 8; 0 when it is not an access */
  uint8_t is_write;
  uint16_t vcpu; /* in the device host's ring only: whose, or ESTALO_TRACE_NO_VCPU */
  uint32_t reserved;
};
ESTALO_STATIC_ASSERT(sizeof(struct estalo_trace_record) == 64, "one cache line");
ESTALO_STATIC_ASSERT(offsetof(struct estalo_trace_record, exit_tsc) == 24, "no padding");
ESTALO_STATIC_ASSERT(offsetof(struct estalo_trace_record, vcpu) == 58, "no padding");

/* Beside KVM_EXIT_*: a queue notification that an ioeventfd took (written by the device host). */
#define ESTALO_EXIT_NOTIFY 0x10001u
#define ESTALO_TRACE_NO_VCPU 0xffffu

#define ESTALO_TRACE_RECORDS 1024u

#endif
