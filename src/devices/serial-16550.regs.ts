/**
 * Registers of the 16550A UART, all u8. Offsets are relative to the port's base (3F8h for COM1).
 * Source: National Semiconductor PC16550D data sheet (June 1995), table II and § 8.
 */

/** RO, DLAB 0: received byte. */
export const RECEIVE_OFFSET = 0x0;
/** WO, DLAB 0: byte to send. */
export const TRANSMIT_OFFSET = 0x0;
/** RW, DLAB 1: divisor latch, low and high byte. */
export const DIVISOR_LOW_OFFSET = 0x0;
export const DIVISOR_HIGH_OFFSET = 0x1;
/** RW, DLAB 0: interrupt enable. */
export const INTERRUPT_ENABLE_OFFSET = 0x1;
/** RO: interrupt identification. */
export const INTERRUPT_ID_OFFSET = 0x2;
/** WO: FIFO control. */
export const FIFO_CONTROL_OFFSET = 0x2;
/** RW: line control. */
export const LINE_CONTROL_OFFSET = 0x3;
/** RW: modem control. */
export const MODEM_CONTROL_OFFSET = 0x4;
/** RO: line status. */
export const LINE_STATUS_OFFSET = 0x5;
/** RO: modem status. */
export const MODEM_STATUS_OFFSET = 0x6;
/** RW: scratch. */
export const SCRATCH_OFFSET = 0x7;

/** IER: received data available. */
export const IER_RECEIVE_MASK = 0x01;
/** IER: transmitter holding register empty. */
export const IER_TRANSMIT_MASK = 0x02;
/** IER: receiver line status. */
export const IER_LINE_STATUS_MASK = 0x04;
/** IER: modem status. */
export const IER_MODEM_STATUS_MASK = 0x08;
/** IER: the bits that exist. */
export const IER_MASK = 0x0f;

/** IIR, by priority: line status, received data, transmitter empty, modem status, none. */
export const IIR_LINE_STATUS = 0x06;
export const IIR_RECEIVE = 0x04;
export const IIR_TRANSMIT = 0x02;
export const IIR_MODEM_STATUS = 0x00;
export const IIR_NONE = 0x01;
/** IIR: both bits set while FIFOs are enabled. */
export const IIR_FIFO_MASK = 0xc0;

/** FCR: FIFOs enabled. */
export const FCR_ENABLE_MASK = 0x01;
/** FCR: clears the receive FIFO. */
export const FCR_CLEAR_RECEIVE_MASK = 0x02;

/** LCR: divisor latch access. */
export const LCR_DLAB_MASK = 0x80;

/** MCR: data terminal ready, request to send, outputs 1 and 2, loopback. */
export const MCR_DTR_MASK = 0x01;
export const MCR_RTS_MASK = 0x02;
export const MCR_OUT1_MASK = 0x04;
export const MCR_OUT2_MASK = 0x08;
export const MCR_LOOP_MASK = 0x10;
/** MCR: the bits that exist. */
export const MCR_MASK = 0x1f;

/** LSR: data ready. */
export const LSR_DATA_READY_MASK = 0x01;
/** LSR: overrun. */
export const LSR_OVERRUN_MASK = 0x02;
/** LSR: transmitter holding register empty, and transmitter empty. */
export const LSR_THRE_MASK = 0x20;
export const LSR_TEMT_MASK = 0x40;

/** MSR: change bits of CTS, DSR and DCD, and RI's trailing edge. */
export const MSR_DELTA_CTS_MASK = 0x01;
export const MSR_DELTA_DSR_MASK = 0x02;
export const MSR_TRAILING_RI_MASK = 0x04;
export const MSR_DELTA_DCD_MASK = 0x08;
/** MSR: clear to send, data set ready, ring indicator, carrier detect. */
export const MSR_CTS_MASK = 0x10;
export const MSR_DSR_MASK = 0x20;
export const MSR_RI_MASK = 0x40;
export const MSR_DCD_MASK = 0x80;
/** From a line's bit to its change bit. */
export const MSR_DELTA_SHIFT = 4;

/** Depth of the 16550A's FIFOs; the driver sends this many bytes when THRE is set. */
export const FIFO_BYTES = 16;
