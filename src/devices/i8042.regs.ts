/**
 * Registers of the i8042 keyboard controller. Offsets are relative to port 60h.
 * Source: IBM PC/AT technical reference, "Keyboard Controller"; command FEh and the subset as in
 * Firecracker's contract.
 */

/** RW, u8: output buffer when read, keyboard or command parameter when written. */
export const DATA_OFFSET = 0x0;
/** RO, u8: status. */
export const STATUS_OFFSET = 0x4;
/** WO, u8: command. */
export const COMMAND_OFFSET = 0x4;

/** Status: a byte waits in the output buffer. */
export const STATUS_OUTPUT_FULL_MASK = 0x01;
/** Status: the last write went to the command port. */
export const STATUS_COMMAND_MASK = 0x08;
/** Status: the keyboard is not locked. */
export const STATUS_KEYBOARD_ENABLED_MASK = 0x10;

/** Command byte (CTR): interrupt 1 when the keyboard's byte is ready. */
export const CTR_KEYBOARD_INTERRUPT_MASK = 0x01;
/** Command byte (CTR): power-on self-test passed. */
export const CTR_POST_OK_MASK = 0x04;

/** Command: read the command byte. */
export const COMMAND_READ_CTR = 0x20;
/** Command: the next data byte is the command byte. */
export const COMMAND_WRITE_CTR = 0x60;
/** Command: read the output port. */
export const COMMAND_READ_OUTPUT_PORT = 0xd0;
/** Command: the next data byte is the output port. */
export const COMMAND_WRITE_OUTPUT_PORT = 0xd1;
/** Command: pulse the reset line. */
export const COMMAND_RESET = 0xfe;

/** Keyboard's answer to every byte sent to it. */
export const KEYBOARD_ACK = 0xfa;
/** Scan codes (set 2) of Ctrl, Alt and Delete going down. */
export const CTRL_ALT_DELETE: readonly number[] = [0x14, 0x11, 0xe0, 0x71];
