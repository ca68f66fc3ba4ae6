/**
 * The exits of a microVM in a cell: batches come as frames (api/exit-frames.ts), counts are made of them here.
 */
import { Observable } from "rxjs";
import { ExitBatch } from "../actors/exit-batch.js";
import { checkExitOptions, type ExitWatchOptions } from "../actors/exit-filter.js";
import {
  countExits,
  type ExitCountOptions,
  type ExitStreamOptions,
  requireRip,
} from "../actors/exit-stream.js";
import { decodeExitFrame } from "../api/exit-frames.js";
import { toEstaloError } from "../errors.js";
import { checkNothing } from "./cell-checks.js";
import type { CellLink } from "./cell-link.js";
import { frameError } from "./frames.js";

/** See the file's header. */
export class RemoteExits {
  readonly devices: readonly string[];
  readonly #link: CellLink;
  readonly #vm: number;
  readonly #hasRip: boolean;

  constructor(link: CellLink, vm: number, made: { devices: readonly string[]; hasRip: boolean }) {
    this.#link = link;
    this.#vm = vm;
    this.devices = made.devices;
    this.#hasRip = made.hasRip;
  }

  /** As ExitStream's. */
  batches(options: ExitStreamOptions = {}): Observable<ExitBatch> {
    const { isReady = () => true, ...watch } = options;
    checkExitOptions(watch, this.devices);
    if (watch.rip) requireRip(this.#hasRip);
    return new Observable((subscriber) => {
      let dropped = 0;
      const { id, stream } = this.#link.channel.open({
        onBytes: (bytes) => {
          const batch = this.#batchOf(bytes, dropped);
          stream.taken(bytes.length);
          if (isReady()) subscriber.next(batch);
          else dropped += batch.length;
        },
        onEnd: () => subscriber.complete(),
      });
      if (!stream.isOpen) subscriber.complete();
      else this.#watch(id, watch).catch(() => subscriber.complete());
      return () => stream.close();
    });
  }

  /** As ExitStream's. */
  counts({ by, windowMs, ...options }: ExitCountOptions) {
    const window = windowMs === undefined ? { by } : { by, windowMs };
    return countExits(this.batches(options), window, () => Number(process.hrtime.bigint()));
  }

  #watch(stream: number, options: ExitWatchOptions): Promise<unknown> {
    return this.#link.call(this.#vm, "exits", { stream, options }, checkNothing);
  }

  /** The batch of a frame; raises ERR_ESTALO_CELL for what no serialiser would take. */
  #batchOf(bytes: Uint8Array, dropped: number): ExitBatch {
    let batch: ExitBatch;
    try {
      batch = decodeExitFrame(bytes, this.devices);
    } catch (error) {
      throw frameError(toEstaloError(error).message);
    }
    const { length, rip, buffer, lost } = batch;
    const isSound = [lost, batch.dropped].every((count) => Number.isSafeInteger(count));
    if (!isSound || !batch.atNs.every(isTime) || !batch.address.every(isTime)) {
      throw frameError("an exit with numbers that are none");
    }
    const counters = { lost, dropped: batch.dropped + dropped };
    return new ExitBatch(
      { length, hasRip: rip !== undefined, buffer: buffer as ArrayBuffer },
      this.devices,
      counters,
    );
  }
}

function isTime(value: number): boolean {
  return value >= 0 && value < 2 ** 64;
}
