/**
 * A device front on its own: shared words, posts kept in a list, one interrupt line for both sides.
 */
import type { DeviceFront, FrontContext, FrontKind } from "../devices/device.js";
import { createFront, STATE_WORDS } from "../devices/fronts.js";
import { FakeIrq } from "./fake-irq.js";

/** What a front told its back. */
export interface PostedEvent {
  readonly event: number;
  readonly value: number;
}

/** Zeroed shared words for a device of this kind. */
export function createState(kind: FrontKind): Int32Array {
  return new Int32Array(new SharedArrayBuffer(STATE_WORDS[kind] * Int32Array.BYTES_PER_ELEMENT));
}

/** A front with everything it was given in reach. */
export class FakeFront {
  readonly state: Int32Array;
  readonly irq = new FakeIrq();
  readonly front: DeviceFront;
  posts: PostedEvent[] = [];
  /** What happens while the front waits for its back. */
  onWait: (word: number, value: number) => void = () => {};

  constructor(kind: FrontKind) {
    this.state = createState(kind);
    this.front = createFront(kind, this.context());
  }

  /** The context of one more front over the same words: another vCPU's. */
  context(): FrontContext {
    return {
      state: this.state,
      post: (event, value) => this.posts.push({ event, value }),
      raiseIrq: () => this.irq.raise(),
      waitWhile: (word, value) => this.onWait(word, value),
      waitAnswer: (word, value) => {
        this.onWait(word, value);
        return this.state[word] !== value;
      },
    };
  }

  /** The events posted since the last call. */
  takePosts(): PostedEvent[] {
    return this.posts.splice(0);
  }

  read8(offset: number): number {
    return this.front.read(offset, 1);
  }

  write8(offset: number, value: number): void {
    this.front.write(offset, 1, value);
  }

  read32(offset: number): number {
    return this.front.read(offset, 4) >>> 0;
  }

  write32(offset: number, value: number): void {
    this.front.write(offset, 4, value >>> 0);
  }
}
