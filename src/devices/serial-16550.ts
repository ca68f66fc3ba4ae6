/**
 * Front of the 16550A UART, as Linux's 8250 driver probes and drives it.
 *
 * Sending puts a byte into the transmit ring and is done: THRE stays set while the ring has room,
 * so the driver never waits for the host; with little room left THRE and TEMT stay clear until the
 * back has drained it below a mark. Receiving takes bytes that the back put into the receive ring.
 * Interrupts are pulses: one whenever a condition arises, and the driver reads IIR until none is
 * left. Specification: National Semiconductor PC16550D data sheet.
 */
import type { DeviceFront, FrontContext } from "./device.js";
import { SERIAL_RECEIVE_EMPTY, SERIAL_RTS_RAISED, SERIAL_TRANSMIT } from "./events.js";
import * as regs from "./serial-16550.regs.js";
import * as words from "./serial-16550.state.js";

const IDLE_LINES = regs.MSR_CTS_MASK | regs.MSR_DSR_MASK | regs.MSR_DCD_MASK;

/** MSR's four line bits: all ready, but in loopback wired to the modem control outputs. */
function modemLines(mcr: number): number {
  if ((mcr & regs.MCR_LOOP_MASK) === 0) return IDLE_LINES;
  return (
    ((mcr & regs.MCR_RTS_MASK) !== 0 ? regs.MSR_CTS_MASK : 0) |
    ((mcr & regs.MCR_DTR_MASK) !== 0 ? regs.MSR_DSR_MASK : 0) |
    ((mcr & regs.MCR_OUT1_MASK) !== 0 ? regs.MSR_RI_MASK : 0) |
    ((mcr & regs.MCR_OUT2_MASK) !== 0 ? regs.MSR_DCD_MASK : 0)
  );
}

/** Whether the RTS pin is raised; in loopback it is not. */
export function rtsRaised(mcr: number): boolean {
  return (mcr & (regs.MCR_RTS_MASK | regs.MCR_LOOP_MASK)) === regs.MCR_RTS_MASK;
}

/** Front of the UART; window of 8 bytes; posts SERIAL_TRANSMIT, _RECEIVE_EMPTY and _RTS_RAISED. */
export class Serial16550Front implements DeviceFront {
  readonly #context: FrontContext;
  readonly #state: Int32Array;
  readonly #rings: words.SerialRings;

  constructor(context: FrontContext) {
    this.#context = context;
    this.#state = context.state;
    this.#rings = words.serialRings(context.state);
  }

  read(offset: number, sizeBytes: number): number {
    const state = this.#state;
    if (sizeBytes !== 1 || offset > regs.SCRATCH_OFFSET) {
      state[words.MISSED_READ_COUNT_WORD]++;
      return 0;
    }
    state[words.READ_COUNT_WORD]++;
    const dlab = (state[words.LCR_WORD] & regs.LCR_DLAB_MASK) !== 0;
    switch (offset) {
      case regs.RECEIVE_OFFSET:
        return dlab ? state[words.DIVISOR_WORD] % 256 : this.#receive();
      case regs.INTERRUPT_ENABLE_OFFSET:
        return dlab ? state[words.DIVISOR_WORD] >>> 8 : state[words.IER_WORD];
      case regs.INTERRUPT_ID_OFFSET:
        return this.#readInterruptId();
      case regs.LINE_CONTROL_OFFSET:
        return state[words.LCR_WORD];
      case regs.MODEM_CONTROL_OFFSET:
        return state[words.MCR_WORD];
      case regs.LINE_STATUS_OFFSET:
        return this.#readLineStatus();
      case regs.MODEM_STATUS_OFFSET:
        return this.#readModemStatus();
      default:
        return state[words.SCRATCH_WORD];
    }
  }

  write(offset: number, sizeBytes: number, value: number): void {
    const state = this.#state;
    if (sizeBytes !== 1 || offset > regs.SCRATCH_OFFSET) {
      state[words.MISSED_WRITE_COUNT_WORD]++;
      return;
    }
    state[words.WRITE_COUNT_WORD]++;
    const dlab = (state[words.LCR_WORD] & regs.LCR_DLAB_MASK) !== 0;
    const divisor = state[words.DIVISOR_WORD];
    switch (offset) {
      case regs.TRANSMIT_OFFSET:
        if (dlab) state[words.DIVISOR_WORD] = divisor - (divisor % 256) + value;
        else this.#transmit(value);
        break;
      case regs.INTERRUPT_ENABLE_OFFSET:
        if (dlab) state[words.DIVISOR_WORD] = (divisor % 256) + value * 256;
        else this.#writeInterruptEnable(value & regs.IER_MASK);
        break;
      case regs.FIFO_CONTROL_OFFSET:
        this.#writeFifoControl(value);
        break;
      case regs.LINE_CONTROL_OFFSET:
        state[words.LCR_WORD] = value;
        break;
      case regs.MODEM_CONTROL_OFFSET:
        this.#writeModemControl(value & regs.MCR_MASK);
        break;
      case regs.SCRATCH_OFFSET:
        state[words.SCRATCH_WORD] = value;
        break;
      default:
        // Line and modem status are read-only.
        state[words.MISSED_WRITE_COUNT_WORD]++;
    }
  }

  #looped(): boolean {
    return (this.#state[words.MCR_WORD] & regs.MCR_LOOP_MASK) !== 0;
  }

  #transmitReady(): boolean {
    return Atomics.load(this.#state, words.TRANSMIT_BLOCKED_WORD) === 0;
  }

  #dataReady(): boolean {
    const state = this.#state;
    if (state[words.LOOP_HEAD_WORD] !== state[words.LOOP_TAIL_WORD]) return true;
    if (this.#looped()) return false;
    return Atomics.load(state, words.RECEIVE_HEAD_WORD) !== state[words.RECEIVE_TAIL_WORD];
  }

  /** Pulses the line if the interrupt is enabled. */
  #raise(mask: number): void {
    if ((this.#state[words.IER_WORD] & mask) !== 0) this.#context.raiseIrq();
  }

  #transmit(value: number): void {
    const state = this.#state;
    if (this.#looped()) {
      this.#loopBack(value);
      this.#announceTransmitReady();
      return;
    }
    const head = state[words.TRANSMIT_HEAD_WORD];
    const used = (head - Atomics.load(state, words.TRANSMIT_TAIL_WORD)) | 0;
    if (used >= words.TRANSMIT_BYTES) {
      state[words.ERROR_COUNT_WORD]++;
      return;
    }
    // Writing THR acknowledges; before the byte is shown, since the back may announce room at once.
    Atomics.store(state, words.THRE_PENDING_WORD, 0);
    this.#rings.transmit[head & (words.TRANSMIT_BYTES - 1)] = value;
    Atomics.store(state, words.TRANSMIT_HEAD_WORD, (head + 1) | 0);
    // Loaded after the head was stored: either the back sees this byte, or we see that it had them
    // all.
    if (Atomics.load(state, words.TRANSMIT_TAIL_WORD) === head) {
      this.#context.post(SERIAL_TRANSMIT, 0);
    }
    this.#blockIfNearlyFull();
    if (this.#transmitReady()) this.#announceTransmitReady();
  }

  #blockIfNearlyFull(): void {
    const state = this.#state;
    const head = state[words.TRANSMIT_HEAD_WORD];
    const full = words.TRANSMIT_BYTES - words.TRANSMIT_ROOM_BYTES;
    if (((head - Atomics.load(state, words.TRANSMIT_TAIL_WORD)) | 0) <= full) return;
    Atomics.store(state, words.TRANSMIT_BLOCKED_WORD, 1);
    // The back may have drained the ring just before it could see the word.
    const used = (head - Atomics.load(state, words.TRANSMIT_TAIL_WORD)) | 0;
    if (used <= words.TRANSMIT_LOW_BYTES) Atomics.store(state, words.TRANSMIT_BLOCKED_WORD, 0);
  }

  #announceTransmitReady(): void {
    Atomics.store(this.#state, words.THRE_PENDING_WORD, 1);
    this.#raise(regs.IER_TRANSMIT_MASK);
  }

  /** In loopback what is sent is received, through a FIFO of the real one's depth. */
  #loopBack(value: number): void {
    const state = this.#state;
    const head = state[words.LOOP_HEAD_WORD];
    if (((head - state[words.LOOP_TAIL_WORD]) | 0) >= regs.FIFO_BYTES) {
      state[words.LSR_ERRORS_WORD] |= regs.LSR_OVERRUN_MASK;
      this.#raise(regs.IER_LINE_STATUS_MASK);
      return;
    }
    this.#rings.loop[head & (regs.FIFO_BYTES - 1)] = value;
    state[words.LOOP_HEAD_WORD] = (head + 1) | 0;
    this.#raise(regs.IER_RECEIVE_MASK);
  }

  #receive(): number {
    const state = this.#state;
    const loopTail = state[words.LOOP_TAIL_WORD];
    if (state[words.LOOP_HEAD_WORD] !== loopTail) {
      state[words.LOOP_TAIL_WORD] = (loopTail + 1) | 0;
      return this.#rings.loop[loopTail & (regs.FIFO_BYTES - 1)];
    }
    if (!this.#dataReady()) return 0;
    const tail = state[words.RECEIVE_TAIL_WORD];
    const value = this.#rings.receive[tail & (words.RECEIVE_BYTES - 1)];
    this.#moveReceiveTail((tail + 1) | 0);
    return value;
  }

  #moveReceiveTail(tail: number): void {
    const state = this.#state;
    Atomics.store(state, words.RECEIVE_TAIL_WORD, tail);
    if (Atomics.load(state, words.RECEIVE_HEAD_WORD) !== tail) return;
    if (Atomics.exchange(state, words.RECEIVE_WAITING_WORD, 0) !== 0) {
      this.#context.post(SERIAL_RECEIVE_EMPTY, 0);
    }
  }

  #readInterruptId(): number {
    const state = this.#state;
    const enabled = state[words.IER_WORD];
    const fifo = (state[words.FCR_WORD] & regs.FCR_ENABLE_MASK) !== 0 ? regs.IIR_FIFO_MASK : 0;
    if ((enabled & regs.IER_LINE_STATUS_MASK) !== 0 && state[words.LSR_ERRORS_WORD] !== 0) {
      return fifo | regs.IIR_LINE_STATUS;
    }
    if ((enabled & regs.IER_RECEIVE_MASK) !== 0 && this.#dataReady()) {
      return fifo | regs.IIR_RECEIVE;
    }
    // Reading IIR acknowledges this one, if it is the one reported.
    if (
      (enabled & regs.IER_TRANSMIT_MASK) !== 0 &&
      Atomics.exchange(state, words.THRE_PENDING_WORD, 0) !== 0
    ) {
      return fifo | regs.IIR_TRANSMIT;
    }
    if ((enabled & regs.IER_MODEM_STATUS_MASK) !== 0 && state[words.MSR_DELTA_WORD] !== 0) {
      return fifo | regs.IIR_MODEM_STATUS;
    }
    return fifo | regs.IIR_NONE;
  }

  #readLineStatus(): number {
    const state = this.#state;
    const errors = state[words.LSR_ERRORS_WORD];
    state[words.LSR_ERRORS_WORD] = 0;
    return (
      errors |
      (this.#dataReady() ? regs.LSR_DATA_READY_MASK : 0) |
      (this.#transmitReady() ? regs.LSR_THRE_MASK | regs.LSR_TEMT_MASK : 0)
    );
  }

  #readModemStatus(): number {
    const state = this.#state;
    const delta = state[words.MSR_DELTA_WORD];
    state[words.MSR_DELTA_WORD] = 0;
    return modemLines(state[words.MCR_WORD]) | delta;
  }

  #writeInterruptEnable(value: number): void {
    const state = this.#state;
    const added = value & ~state[words.IER_WORD];
    // Stored before the conditions are looked at: the back looks at IER after it makes one.
    Atomics.store(state, words.IER_WORD, value);
    if ((added & regs.IER_TRANSMIT_MASK) !== 0 && this.#transmitReady()) {
      this.#announceTransmitReady();
    }
    if ((added & regs.IER_RECEIVE_MASK) !== 0 && this.#dataReady()) this.#context.raiseIrq();
    if ((added & regs.IER_LINE_STATUS_MASK) !== 0 && state[words.LSR_ERRORS_WORD] !== 0) {
      this.#context.raiseIrq();
    }
    if ((added & regs.IER_MODEM_STATUS_MASK) !== 0 && state[words.MSR_DELTA_WORD] !== 0) {
      this.#context.raiseIrq();
    }
  }

  /** The transmit ring is not cleared: what is in it counts as sent. */
  #writeFifoControl(value: number): void {
    const state = this.#state;
    state[words.FCR_WORD] = value;
    if ((value & regs.FCR_CLEAR_RECEIVE_MASK) === 0) return;
    state[words.LOOP_TAIL_WORD] = state[words.LOOP_HEAD_WORD];
    this.#moveReceiveTail(Atomics.load(state, words.RECEIVE_HEAD_WORD));
  }

  #writeModemControl(value: number): void {
    const state = this.#state;
    const previous = state[words.MCR_WORD];
    Atomics.store(state, words.MCR_WORD, value);
    const before = modemLines(previous);
    const lines = modemLines(value);
    const changed = before ^ lines;
    // RI counts when it falls, the other lines when they change.
    const counted = (changed & ~regs.MSR_RI_MASK) | (changed & before & regs.MSR_RI_MASK);
    if (counted !== 0) {
      state[words.MSR_DELTA_WORD] |= counted >>> regs.MSR_DELTA_SHIFT;
      this.#raise(regs.IER_MODEM_STATUS_MASK);
    }
    if (rtsRaised(value) && !rtsRaised(previous)) {
      Atomics.store(state, words.RTS_SEEN_WORD, 1);
      this.#context.post(SERIAL_RTS_RAISED, 0);
    }
  }
}
