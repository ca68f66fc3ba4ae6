/**
 * The i8042 keyboard controller, as far as Linux needs it to reset the machine and to take
 * Ctrl-Alt-Del.
 *
 * Front: the two ports at 60h and 64h. Back: queues scan codes. Neither waits for the other: the
 * front owns the replies, the back owns the scan codes, and the guest sees one output buffer
 * (i8042.state.ts).
 */
import type { DeviceFront, FrontContext, IrqLine } from "./device.js";
import { I8042_RESET } from "./events.js";
import * as regs from "./i8042.regs.js";
import * as words from "./i8042.state.js";

/** Front of the i8042; window of 5 bytes at port 60h; posts I8042_RESET. */
export class I8042Front implements DeviceFront {
  readonly #context: FrontContext;
  readonly #state: Int32Array;

  constructor(context: FrontContext) {
    this.#context = context;
    this.#state = context.state;
  }

  read(offset: number, sizeBytes: number): number {
    const state = this.#state;
    if (sizeBytes === 1 && offset === regs.DATA_OFFSET) {
      state[words.READ_COUNT_WORD]++;
      return this.#readData();
    }
    if (sizeBytes === 1 && offset === regs.STATUS_OFFSET) {
      state[words.READ_COUNT_WORD]++;
      return (
        regs.STATUS_KEYBOARD_ENABLED_MASK |
        (this.#hasOutput() ? regs.STATUS_OUTPUT_FULL_MASK : 0) |
        (state[words.LAST_WAS_COMMAND_WORD] !== 0 ? regs.STATUS_COMMAND_MASK : 0)
      );
    }
    state[words.MISSED_READ_COUNT_WORD]++;
    return 0;
  }

  write(offset: number, sizeBytes: number, value: number): void {
    const state = this.#state;
    if (sizeBytes === 1 && offset === regs.DATA_OFFSET) {
      state[words.WRITE_COUNT_WORD]++;
      state[words.LAST_WAS_COMMAND_WORD] = 0;
      this.#writeData(value);
    } else if (sizeBytes === 1 && offset === regs.COMMAND_OFFSET) {
      state[words.WRITE_COUNT_WORD]++;
      state[words.LAST_WAS_COMMAND_WORD] = 1;
      this.#command(value);
    } else {
      state[words.MISSED_WRITE_COUNT_WORD]++;
    }
  }

  #hasOutput(): boolean {
    const state = this.#state;
    return (
      state[words.REPLY_WORD] !== 0 ||
      Atomics.load(state, words.SCANCODE_HEAD_WORD) !== state[words.SCANCODE_TAIL_WORD]
    );
  }

  #readData(): number {
    const state = this.#state;
    let value = 0;
    const reply = state[words.REPLY_WORD];
    const tail = state[words.SCANCODE_TAIL_WORD];
    if (reply !== 0) {
      state[words.REPLY_WORD] = 0;
      value = reply - 1;
    } else if (Atomics.load(state, words.SCANCODE_HEAD_WORD) !== tail) {
      value = state[words.SCANCODE_FIRST_WORD + (tail & (words.SCANCODE_COUNT - 1))];
      Atomics.store(state, words.SCANCODE_TAIL_WORD, (tail + 1) | 0);
    }
    // The line is edge-triggered: each byte that moves up into the buffer needs its own pulse.
    if (this.#hasOutput()) this.#raise();
    return value;
  }

  #writeData(value: number): void {
    const state = this.#state;
    const command = state[words.PENDING_COMMAND_WORD];
    state[words.PENDING_COMMAND_WORD] = 0;
    if (command === regs.COMMAND_WRITE_CTR) Atomics.store(state, words.CTR_WORD, value);
    else if (command === regs.COMMAND_WRITE_OUTPUT_PORT) state[words.OUTPUT_PORT_WORD] = value;
    else this.#reply(regs.KEYBOARD_ACK);
  }

  #command(value: number): void {
    const state = this.#state;
    state[words.PENDING_COMMAND_WORD] = 0;
    switch (value) {
      case regs.COMMAND_READ_CTR:
        this.#reply(state[words.CTR_WORD]);
        break;
      case regs.COMMAND_READ_OUTPUT_PORT:
        this.#reply(state[words.OUTPUT_PORT_WORD]);
        break;
      case regs.COMMAND_WRITE_CTR:
      case regs.COMMAND_WRITE_OUTPUT_PORT:
        state[words.PENDING_COMMAND_WORD] = value;
        break;
      case regs.COMMAND_RESET:
        state[words.RESET_COUNT_WORD]++;
        this.#context.post(I8042_RESET, 0);
        break;
    }
  }

  /**
   * A newer reply replaces one that was not fetched, as in the one-byte buffer of the real
   * controller.
   */
  #reply(value: number): void {
    this.#state[words.REPLY_WORD] = value + 1;
    this.#raise();
  }

  #raise(): void {
    if ((this.#state[words.CTR_WORD] & regs.CTR_KEYBOARD_INTERRUPT_MASK) !== 0) {
      this.#context.raiseIrq();
    }
  }
}

/** Back of the i8042: the keyboard. Its constructor sets the controller's power-on state. */
export class I8042Back {
  readonly #state: Int32Array;
  readonly #irq: IrqLine;

  constructor(state: Int32Array, irq: IrqLine) {
    this.#state = state;
    this.#irq = irq;
    Atomics.store(state, words.CTR_WORD, regs.CTR_POST_OK_MASK | regs.CTR_KEYBOARD_INTERRUPT_MASK);
  }

  /**
   * Presses Ctrl, Alt and Delete. False, and nothing pressed, while the guest has not read earlier
   * keys.
   */
  sendCtrlAltDelete(): boolean {
    const state = this.#state;
    const head = state[words.SCANCODE_HEAD_WORD];
    const used = (head - Atomics.load(state, words.SCANCODE_TAIL_WORD)) | 0;
    if (used + regs.CTRL_ALT_DELETE.length > words.SCANCODE_COUNT) return false;
    for (const [index, code] of regs.CTRL_ALT_DELETE.entries()) {
      state[words.SCANCODE_FIRST_WORD + ((head + index) & (words.SCANCODE_COUNT - 1))] = code;
    }
    Atomics.store(state, words.SCANCODE_HEAD_WORD, (head + regs.CTRL_ALT_DELETE.length) | 0);
    if ((Atomics.load(state, words.CTR_WORD) & regs.CTR_KEYBOARD_INTERRUPT_MASK) !== 0) {
      this.#irq.raise();
    }
    return true;
  }
}
