/**
 * Numbers that JavaScript shares with the addon and with KVM: constants of linux/kvm.h, offsets in the
 * kvm_run page, and the layout of the memory one vCPU shares between its threads (shared_layout.h).
 *
 * The addon exports the same names with the values its compiler saw; spec/native/layouts.spec.ts compares
 * every one. Nothing here is computed at run time, so that V8 folds it.
 */

export const KVM_API_VERSION = 12;

export const KVM_CAP_IRQCHIP = 0;
export const KVM_CAP_USER_MEMORY = 3;
export const KVM_CAP_SET_TSS_ADDR = 4;
export const KVM_CAP_EXT_CPUID = 7;
export const KVM_CAP_NR_VCPUS = 9;
export const KVM_CAP_MP_STATE = 14;
export const KVM_CAP_IRQFD = 32;
export const KVM_CAP_PIT2 = 33;
export const KVM_CAP_PIT_STATE2 = 35;
export const KVM_CAP_IOEVENTFD = 36;
export const KVM_CAP_ADJUST_CLOCK = 39;
export const KVM_CAP_VCPU_EVENTS = 41;
export const KVM_CAP_DEBUGREGS = 50;
export const KVM_CAP_XSAVE = 55;
export const KVM_CAP_XCRS = 56;
export const KVM_CAP_MAX_VCPUS = 66;
export const KVM_CAP_SYNC_REGS = 74;
export const KVM_CAP_IMMEDIATE_EXIT = 136;

export const KVM_EXIT_IO = 2;
export const KVM_EXIT_HYPERCALL = 3;
export const KVM_EXIT_HLT = 5;
export const KVM_EXIT_MMIO = 6;
export const KVM_EXIT_IRQ_WINDOW_OPEN = 7;
export const KVM_EXIT_SHUTDOWN = 8;
export const KVM_EXIT_FAIL_ENTRY = 9;
export const KVM_EXIT_INTR = 10;
export const KVM_EXIT_INTERNAL_ERROR = 17;
export const KVM_EXIT_SYSTEM_EVENT = 24;
/** Not KVM's: the run loop left because `pending` was set. */
export const EXIT_KICKED = 0x10000;
/** Not KVM's either: a queue notification that an ioeventfd took, in the device host's ring. */
export const EXIT_NOTIFY = 0x10001;

// Offsets in struct kvm_run, bytes.
export const KVM_RUN_EXIT_REASON_OFFSET = 8;
export const KVM_RUN_IO_DIRECTION_OFFSET = 32;
export const KVM_RUN_IO_SIZE_OFFSET = 33;
export const KVM_RUN_IO_PORT_OFFSET = 34;
export const KVM_RUN_IO_COUNT_OFFSET = 36;
export const KVM_RUN_IO_DATA_OFFSET_OFFSET = 40;
export const KVM_RUN_MMIO_PHYS_ADDR_OFFSET = 32;
export const KVM_RUN_MMIO_DATA_OFFSET = 40;
export const KVM_RUN_MMIO_LEN_OFFSET = 48;
export const KVM_RUN_MMIO_IS_WRITE_OFFSET = 52;
export const KVM_RUN_INTERNAL_SUBERROR_OFFSET = 32;
export const KVM_RUN_INTERNAL_NDATA_OFFSET = 36;
export const KVM_RUN_INTERNAL_DATA_OFFSET = 40;
export const KVM_RUN_FAIL_ENTRY_REASON_OFFSET = 32;

// struct estalo_vcpu_control, bytes.
export const VCPU_CONTROL_BYTES = 64;
export const VCPU_CONTROL_PENDING_OFFSET = 0;
export const VCPU_CONTROL_TID_OFFSET = 4;
export const VCPU_CONTROL_WATCH_OFFSET = 8;
/** First of five counters: port reads, port writes, MMIO reads, MMIO writes, other exits. */
export const VCPU_CONTROL_EXITS_IO_IN_OFFSET = 12;
export const VCPU_CONTROL_KICKS_OFFSET = 32;

/** Bit of `watch`: the guest's RIP with each exit. */
export const WATCH_RIP = 1;
/** Bit of `watch`: when each exit was, and how long it took. */
export const WATCH_TIME = 2;

// struct estalo_trace_header and estalo_trace_record, bytes.
export const TRACE_HEADER_BYTES = 64;
export const TRACE_RECORD_BYTES = 64;
export const TRACE_RECORDS = 1024;
export const TRACE_RECORD_ADDRESS_OFFSET = 0;
export const TRACE_RECORD_DATA_OFFSET = 8;
export const TRACE_RECORD_RIP_OFFSET = 16;
export const TRACE_RECORD_EXIT_TSC_OFFSET = 24;
export const TRACE_RECORD_GUEST_TICKS_OFFSET = 32;
export const TRACE_RECORD_HOST_TICKS_OFFSET = 40;
export const TRACE_RECORD_REASON_OFFSET = 48;
export const TRACE_RECORD_COUNT_OFFSET = 52;
export const TRACE_RECORD_SIZE_BYTES_OFFSET = 56;
export const TRACE_RECORD_IS_WRITE_OFFSET = 57;
export const TRACE_RECORD_VCPU_OFFSET = 58;
/** In the device host's ring: nobody knows which vCPU it was. */
export const TRACE_NO_VCPU = 0xffff;
export const TRACE_BYTES = TRACE_HEADER_BYTES + TRACE_RECORDS * TRACE_RECORD_BYTES;
