/** A network backend in memory: what the guest sent, and frames that wait for it. */
import type { FrameSegments, NetBackend } from "../../src/devices/backend.js";
import type { GuestMemory } from "../../src/native/guest-memory.js";

export class FakeNetBackend implements NetBackend {
  supportsOffloads = true;
  offloads = 0;
  isAttached = true;
  readonly sent: Uint8Array[] = [];
  readonly waiting: Uint8Array[] = [];
  /** Frames that `send` still takes. */
  room = Number.POSITIVE_INFINITY;
  sendErrors = 0;
  receiveErrors = 0;
  sendCalls = 0;
  onReadable: (() => void) | undefined;
  onWritable: (() => void) | undefined;
  readonly #memory: GuestMemory;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  setOffloads(features: number): void {
    this.offloads = features;
  }

  setAttached(isAttached: boolean): void {
    this.isAttached = isAttached;
  }

  send(frames: FrameSegments, first: number, end: number): number {
    this.sendCalls++;
    let done = 0;
    for (let frame = first; frame < end && this.room > 0; frame++) {
      const parts: number[] = [];
      for (let i = frame === 0 ? 0 : frames.ends[frame - 1]; i < frames.ends[frame]; i++) {
        parts.push(...this.#memory.read(frames.addresses[i], frames.lengths[i]));
      }
      this.sent.push(Uint8Array.from(parts));
      this.room--;
      done++;
    }
    return done;
  }

  receive(
    buffers: FrameSegments,
    first: number,
    end: number,
    mergeable: boolean,
    frameBytes: Uint32Array,
    frameBuffers: Uint16Array,
  ): number {
    let buffer = first;
    let frames = 0;
    while (this.waiting.length > 0 && frames < frameBytes.length) {
      const frame = this.waiting[0];
      let taken = 0;
      let copied = 0;
      const most = mergeable ? end - buffer : Math.min(1, end - buffer);
      if (most === 0) break;
      while (copied < frame.length && taken < most) {
        const at = buffer + taken++;
        for (let i = at === 0 ? 0 : buffers.ends[at - 1]; i < buffers.ends[at]; i++) {
          const part = frame.subarray(copied, copied + buffers.lengths[i]);
          this.#memory.write(buffers.addresses[i], part);
          copied += part.length;
        }
      }
      if (copied < frame.length && mergeable && buffer > first) break;
      this.waiting.shift();
      if (copied < frame.length) {
        this.receiveErrors++;
        continue;
      }
      frameBytes[frames] = frame.length;
      frameBuffers[frames++] = taken;
      buffer += taken;
    }
    return frames;
  }

  sendBytes(frame: Uint8Array): boolean {
    if (this.room <= 0) return false;
    this.sent.push(frame);
    return true;
  }

  receiveBytes(): Uint8Array | undefined {
    return this.waiting.shift();
  }

  /** A frame arrives from outside. */
  arrive(...frames: Uint8Array[]): void {
    this.waiting.push(...frames);
    this.onReadable?.();
  }
}
