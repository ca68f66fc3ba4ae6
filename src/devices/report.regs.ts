/**
 * Registers of the report page: how a guest tells its monitor about itself.
 *
 * The first byte is Firecracker's boot timer (its documentation, "boot-timer device"); the rest is
 * ours.
 */

/** WO, u8: writing `BOOTED_BYTE` says that init runs. */
export const BOOTED_OFFSET = 0x0;
/** The value that counts at `BOOTED_OFFSET`. */
export const BOOTED_BYTE = 123;
/** WO, u32: exit status of the guest's command. */
export const EXIT_STATUS_OFFSET = 0x4;
/** WO, u32: writing `POWER_OFF_VALUE` switches the microVM off. */
export const POWER_OFF_OFFSET = 0x8;
/** The value that counts at `POWER_OFF_OFFSET`. */
export const POWER_OFF_VALUE = 1;
