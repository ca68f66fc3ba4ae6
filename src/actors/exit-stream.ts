/**
 * Live streams of a microVM's exits, for any number of watchers.
 *
 *     trace rings ─ poll, 1 to 10 ms ─▶ columns ─▶ each watcher: filter, sample ─▶ batches
 *                                                                                └▶ counts by field, by window
 *
 * One timer for all microVMs of the process polls those that are watched; nobody watching costs nothing. A
 * watcher that is not ready gets no batch: what it would have got is counted and gone, nothing queues up.
 */
import {
  connect,
  defer,
  EMPTY,
  endWith,
  ignoreElements,
  interval,
  map,
  merge,
  Observable,
  type Subscriber,
  takeUntil,
  tap,
} from "rxjs";
import { EstaloError } from "../errors.js";
import type { DeviceBoard } from "./device-board.js";
import { ExitBatch, type ExitColumns } from "./exit-batch.js";
import {
  checkCounting,
  ExitCounter,
  type ExitCounts,
  type ExitField,
  WINDOW_MS,
} from "./exit-counts.js";
import { ExitDecoder } from "./exit-decoder.js";
import { checkExitOptions, ExitSelector, type ExitWatchOptions } from "./exit-filter.js";
import { ExitSource } from "./exit-source.js";
import { iterate } from "./inspection.js";
import type { Machine } from "./machine.js";
import type { SharedBlock } from "./shared-block.js";

/** Most exits of a batch. */
const BATCH_MAX = 1024;
/** Batches that an async iterator keeps for a reader who is elsewhere. */
const ITERATOR_BATCHES_MAX = 64;

/** How often rings are looked at: a busy one often, so that it does not overflow in between. */
const POLL_MIN_MS = 1;
const POLL_MAX_MS = 10;
/** Records that a ring should have at most when it is polled: a quarter of it. */
const POLL_AIM = 256;

/** Polls every stream that is watched. */
class ExitPump {
  readonly #streams = new Set<ExitStream>();
  #timer: NodeJS.Timeout | undefined;
  #delayMs = POLL_MAX_MS;

  add(stream: ExitStream): void {
    this.#streams.add(stream);
    this.#timer ??= this.#arm();
  }

  remove(stream: ExitStream): void {
    this.#streams.delete(stream);
    if (this.#streams.size > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#delayMs = POLL_MAX_MS;
  }

  #arm(): NodeJS.Timeout {
    // A microVM that runs keeps the process alive; who looks at it does not.
    return setTimeout(() => this.#poll(), this.#delayMs).unref();
  }

  #poll(): void {
    let fullest = 0;
    this.#timer = undefined;
    // Who watches again in the middle of it has its turn next time.
    for (const stream of [...this.#streams]) fullest = Math.max(fullest, stream.poll());
    if (fullest > POLL_AIM) this.#delayMs = POLL_MIN_MS;
    else if (fullest < POLL_AIM / 2) this.#delayMs = Math.min(POLL_MAX_MS, this.#delayMs + 1);
    if (this.#streams.size > 0) this.#timer ??= this.#arm();
  }
}

const pump = new ExitPump();

/** Scratch is shared by all streams: whoever subscribes in the middle of a poll does not start another. */
let isPolling = false;

/** How exits are watched, for streams inside the process. */
export interface ExitStreamOptions extends ExitWatchOptions {
  /** Asked before each batch: false drops it, counted. Default: always ready. */
  readonly isReady?: () => boolean;
}

/** How exits are counted. */
export interface ExitCountOptions extends ExitWatchOptions {
  /** At least one. */
  readonly by: readonly ExitField[];
  /** 10 to 3,600,000. Default 1000. */
  readonly windowMs?: number;
}

/** One subscription. */
class ExitWatcher {
  readonly #source: ExitSource;
  readonly #subscriber: Subscriber<ExitBatch>;
  readonly #selector: ExitSelector;
  readonly #hasRip: boolean;
  readonly #isReady: () => boolean;
  readonly #lostBefore: number;
  #dropped = 0;

  constructor(
    source: ExitSource,
    subscriber: Subscriber<ExitBatch>,
    { isReady, ...options }: ExitStreamOptions,
  ) {
    this.#source = source;
    this.#subscriber = subscriber;
    this.#selector = new ExitSelector(options, source.deviceNames);
    this.#hasRip = options.rip ?? false;
    this.#isReady = isReady ?? (() => true);
    this.#lostBefore = source.lost;
  }

  /** Takes what it wants of the first `count` rows. */
  take(columns: ExitColumns, count: number, chosen: Uint32Array): void {
    const found = this.#selector.select(columns, count, chosen);
    for (let begin = 0; begin < found; begin += BATCH_MAX) {
      const end = Math.min(found, begin + BATCH_MAX);
      if (!this.#isReady()) {
        this.#dropped += found - begin;
        return;
      }
      this.#subscriber.next(this.#batchOf(columns, chosen.subarray(begin, end)));
    }
  }

  complete(): void {
    this.#subscriber.complete();
  }

  #batchOf(columns: ExitColumns, chosen: Uint32Array): ExitBatch {
    const batch = new ExitBatch(
      { length: chosen.length, hasRip: this.#hasRip },
      this.#source.deviceNames,
      { lost: this.#source.lost - this.#lostBefore, dropped: this.#dropped },
    );
    copyRows(columns, chosen, batch);
    return batch;
  }
}

/** Copies the rows of these indexes. */
function copyRows(from: ExitColumns, rows: Uint32Array, to: ExitColumns): void {
  const [fromRip, toRip] = [from.ripWords, to.ripWords];
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i];
    to.atNs[i] = from.atNs[row];
    to.address[i] = from.address[row];
    to.dataWords[2 * i] = from.dataWords[2 * row];
    to.dataWords[2 * i + 1] = from.dataWords[2 * row + 1];
    to.sequence[i] = from.sequence[row];
    to.guestNs[i] = from.guestNs[row];
    to.hostNs[i] = from.hostNs[row];
    to.count[i] = from.count[row];
    to.kind[i] = from.kind[row];
    to.access[i] = from.access[row];
    to.vcpu[i] = from.vcpu[row];
    to.device[i] = from.device[row];
    if (fromRip === undefined || toRip === undefined) continue;
    toRip[2 * i] = fromRip[2 * row];
    toRip[2 * i + 1] = fromRip[2 * row + 1];
  }
}

/** Scratch for the indexes that a watcher chose. */
let chosenRows = new Uint32Array(0);

function rowsFor(count: number): Uint32Array {
  if (chosenRows.length < count) chosenRows = new Uint32Array(2 * count);
  return chosenRows;
}

/** Counts of each window of these batches, and of the last one, shorter, when they complete. */
export function countExits(
  batches: Observable<ExitBatch>,
  { by, windowMs = WINDOW_MS }: Pick<ExitCountOptions, "by" | "windowMs">,
  nowNs: () => number,
): Observable<ExitCounts> {
  checkCounting(by, windowMs);
  return defer(() => {
    const counter = new ExitCounter(by, nowNs());
    return batches.pipe(
      connect((shared) =>
        merge(
          shared.pipe(
            tap((batch) => counter.add(batch)),
            ignoreElements(),
            endWith(undefined),
          ),
          interval(windowMs).pipe(takeUntil(shared.pipe(ignoreElements(), endWith(undefined)))),
        ),
      ),
      map(() => counter.take(nowNs())),
    );
  });
}

/** Raises what a host without KVM_CAP_SYNC_REGS cannot tell. */
export function requireRip(hasRip: boolean): void {
  if (hasRip) return;
  throw new EstaloError("ERR_ESTALO_KVM_CAPABILITY", "this host's KVM has no KVM_CAP_SYNC_REGS", {
    data: { capability: "KVM_CAP_SYNC_REGS" },
  });
}

/** See the file's header. Thread: the device host's. */
export class ExitStream {
  readonly #source: ExitSource;
  readonly #watchers = new Set<ExitWatcher>();
  #isClosed = false;

  constructor(source: ExitSource) {
    this.#source = source;
  }

  /** Names of the microVM's devices: what filters take and `device` of a batch indexes. */
  get devices(): readonly string[] {
    return this.#source.deviceNames;
  }

  /** Whether exits can have RIP. */
  get hasRip(): boolean {
    return this.#source.hasRip;
  }

  /**
   * Exits from the subscription on, as they are polled; completes when the microVM has ended. Raises
   * ERR_ESTALO_CONFIG_INVALID for options that make no sense.
   */
  batches(options: ExitStreamOptions = {}): Observable<ExitBatch> {
    checkExitOptions(options, this.devices);
    if (options.rip) requireRip(this.hasRip);
    return new Observable((subscriber) => this.#subscribe(subscriber, options));
  }

  /** As `batches`, as an async iterable; a reader who does not come drops batches, and they say how many. */
  iterate(options: ExitWatchOptions = {}, signal?: AbortSignal): AsyncIterableIterator<ExitBatch> {
    let waiting = 0;
    const batches = this.batches({
      ...options,
      isReady: () => waiting < ITERATOR_BATCHES_MAX,
    }).pipe(
      tap(() => {
        waiting += 1;
      }),
    );
    const iterator = iterate(batches, signal);
    const { next } = iterator;
    iterator.next = async () => {
      const result = await next.call(iterator);
      waiting -= 1;
      return result;
    };
    return iterator;
  }

  /** Counts of each window; the last one, shorter, when the microVM has ended. Raises as `batches` does. */
  counts({ by, windowMs = WINDOW_MS, ...options }: ExitCountOptions): Observable<ExitCounts> {
    checkCounting(by, windowMs);
    const { clock } = this.#source;
    return countExits(this.batches(options), { by, windowMs }, () => clock.sample());
  }

  /** Brings what has happened to the watchers; returns how many records the fullest ring had. */
  poll(): number {
    if (!this.#source.isOpen || isPolling) return 0;
    isPolling = true;
    try {
      const count = this.#source.poll();
      const { columns } = this.#source.decoder;
      const rows = rowsFor(count);
      for (const watcher of [...this.#watchers]) watcher.take(columns, count, rows);
    } finally {
      isPolling = false;
    }
    return this.#source.fullest;
  }

  /** A doorbell was heard, on its way to the device. */
  readonly onDoorbell = (doorbell: Parameters<ExitSource["onDoorbell"]>[0]): void => {
    this.#source.onDoorbell(doorbell);
  };

  /** Records have times from now on, for trace readers of which nobody knows when they end. */
  keepTimes(): void {
    this.#source.keepTimes();
  }

  /** The microVM has ended: brings the last exits, then the ends of all streams. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.poll();
    this.#isClosed = true;
    for (const watcher of this.#watchers) watcher.complete();
    this.#source.dispose();
  }

  #subscribe(subscriber: Subscriber<ExitBatch>, options: ExitStreamOptions): () => void {
    if (this.#isClosed) {
      EMPTY.subscribe(subscriber);
      return () => {};
    }
    if (this.#source.isOpen) this.poll();
    else this.#source.open();
    if (options.rip) this.#source.holdRip();
    const watcher = new ExitWatcher(this.#source, subscriber, options);
    this.#watchers.add(watcher);
    pump.add(this);
    if ((options.history ?? 0) > 0) {
      const decoder = new ExitDecoder();
      const count = this.#source.readBack(decoder, options.history ?? 0);
      watcher.take(decoder.columns, count, new Uint32Array(count));
    }
    return () => {
      this.#watchers.delete(watcher);
      if (options.rip) this.#source.releaseRip();
      if (this.#watchers.size > 0) return;
      pump.remove(this);
      this.#source.close();
    };
  }
}

/** The stream of a machine's exits with the devices of this board, which it hears the doorbells of. */
export function createExitStream(
  machine: Pick<Machine, "vcpus" | "hasSyncRegs">,
  board: DeviceBoard,
  block: SharedBlock,
): ExitStream {
  const stream = new ExitStream(
    new ExitSource({
      buffer: block.buffer,
      vcpus: block.vcpus,
      vcpuFds: machine.vcpus.map(({ fd }) => fd),
      windows: board.exitWindows,
      doorbells: board.doorbells,
      hasRip: machine.hasSyncRegs,
    }),
  );
  board.onDoorbell = stream.onDoorbell;
  return stream;
}
