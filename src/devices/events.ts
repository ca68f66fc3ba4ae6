/**
 * What device fronts post to their backs: every event code of every device, in one table.
 *
 * Codes are u16 and unique over all devices, so that a trace names an event without knowing its
 * device. `value` is 0 where none is named. A post is a hint as well: backs look at the shared
 * words again, so a repeated or late one does no harm.
 */

/** Serial: the transmit ring went from empty to non-empty. */
export const SERIAL_TRANSMIT = 1;
/** Serial: the guest emptied the receive ring and the back had said that it has more. */
export const SERIAL_RECEIVE_EMPTY = 2;
/** Serial: MCR.RTS was raised: bytes may be pushed (again). */
export const SERIAL_RTS_RAISED = 3;

/** i8042: command FEh, the reset line was pulsed. */
export const I8042_RESET = 16;

/** Report page: the guest's init runs (Firecracker's boot timer write). */
export const REPORT_BOOTED = 32;
/** Report page: the guest's command ended; value: its exit status. */
export const REPORT_EXIT_STATUS = 33;
/** Report page or ACPI sleep control: the guest asks to be switched off. */
export const POWER_OFF = 34;
/** pvpanic; value: the bits written, 1 panicked, 2 crash kernel loaded. */
export const PANICKED = 35;

/** VirtIO: the driver set DRIVER_OK. */
export const VIRTIO_DRIVER_OK = 64;
/**
 * VirtIO: the driver wrote status 0 to a live device and its vCPU waits for the acknowledgement.
 */
export const VIRTIO_RESET = 65;
/** VirtIO: a queue notification that left the guest (no ioeventfd took it); value: queue index. */
export const VIRTIO_NOTIFY = 66;
/** A user's port or MMIO device: an access is in its mailbox, and a vCPU waits. */
export const MAILBOX_ACCESS = 80;

/**
 * VirtIO: a write to configuration space; value: what was written. The code is
 * `VIRTIO_CONFIG_WRITE + log2(sizeBytes) * 256 + offset`, up to `VIRTIO_CONFIG_WRITE_LAST`.
 */
export const VIRTIO_CONFIG_WRITE = 1024;
export const VIRTIO_CONFIG_WRITE_LAST = VIRTIO_CONFIG_WRITE + 3 * 256 - 1;

/**
 * A user's port or MMIO device: a write that nobody waits for; value: what was written. The code is
 * `MAILBOX_WRITE + log2(sizeBytes) * 4096 + offset`, below 8192 + 3 * 4096.
 */
export const MAILBOX_WRITE = 8192;
