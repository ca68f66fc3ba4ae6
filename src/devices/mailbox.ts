/**
 * Front of a user's port or MMIO device: its code cannot be on the vCPU's thread, so accesses go to it.
 *
 *     read   from the register image at once, or (sync) from the back, whose answer this vCPU waits for
 *     write  posted, or (sync) waited for
 *
 * The wait is the synchronous back of docs/adr/0017: it holds the vCPU, and others that touch this device.
 * It goes on through a pause, so that no guest sees an answer that was never given; it ends when the back
 * says that nobody will answer any more.
 */
import type { DeviceFront, FrontContext } from "./device.js";
import { MAILBOX_ACCESS, MAILBOX_WRITE } from "./events.js";
import * as words from "./mailbox.state.js";

/** See the file's header; posts MAILBOX_ACCESS and MAILBOX_WRITE. */
export class MailboxFront implements DeviceFront {
  readonly #context: FrontContext;
  readonly #state: Int32Array;
  readonly #image: Uint8Array;

  constructor(context: FrontContext) {
    this.#context = context;
    this.#state = context.state;
    this.#image = words.imageBytes(context.state);
  }

  read(offset: number, sizeBytes: number): number {
    this.#state[words.READ_COUNT_WORD]++;
    if ((this.#state[words.MODE_WORD] & words.MODE_READS_WAIT) !== 0) {
      return this.#ask(words.encodeAccess(offset, sizeBytes, false), 0);
    }
    let value = 0;
    for (let index = sizeBytes - 1; index >= 0; index--) {
      value = value * 256 + this.#image[offset + index];
    }
    return value;
  }

  write(offset: number, sizeBytes: number, value: number): void {
    this.#state[words.WRITE_COUNT_WORD]++;
    if ((this.#state[words.MODE_WORD] & words.MODE_WRITES_WAIT) !== 0) {
      this.#ask(words.encodeAccess(offset, sizeBytes, true), value);
    } else {
      this.#context.post(MAILBOX_WRITE + words.encodeAccess(offset, sizeBytes, false), value);
    }
  }

  /** Puts an access into the mailbox and waits for what the back makes of it. */
  #ask(access: number, value: number): number {
    const state = this.#state;
    const before = Atomics.load(state, words.REQUEST_WORD);
    state[words.ACCESS_WORD] = access;
    state[words.VALUE_WORD] = value;
    Atomics.store(state, words.REQUEST_WORD, before + 1);
    if (Atomics.load(state, words.GONE_WORD) !== 0) return words.ALL_ONES;
    do {
      // Again: for the back an access that it knows is none.
      this.#context.post(MAILBOX_ACCESS, 0);
    } while (!this.#context.waitAnswer(words.ANSWER_WORD, before));
    return state[words.RESULT_WORD] >>> 0;
  }
}
