/**
 * The memory balloon: pages that the guest does without go back to the host.
 *
 *     inflate   pages that the driver gives, up to the target ─▶ reclaimed
 *     deflate   pages that it takes back: they fault in again, as zeros
 *     stats     a buffer that we keep; returning it asks for new figures
 *     hint      free pages while a run lasts ─▶ reclaimed      report   free pages, at any time ─▶ reclaimed
 *
 * Queues after the second exist when their feature is offered, and are numbered without gaps, as drivers do.
 * Giving pages back takes the host time: a turn takes what TURN_WORK allows, of a large chain a part, which goes
 * back into its queue and is taken on from there in the next turn.
 * Specification: VirtIO 1.2 § 5.5.
 */
import { KIB, MIB } from "../../units.js";
import type { PageReclaimer } from "../backend.js";
import * as regs from "./balloon.regs.js";
import { type BalloonState, createBalloonMetrics } from "./balloon.state.js";
import { gather } from "./chain-io.js";
import type { FeatureBits, VirtioBack, VirtioHost } from "./device.js";
import { featureBits, RING_FEATURES } from "./features.js";
import { PageRanges } from "./page-ranges.js";
import { DescriptorChain, type VirtQueue } from "./queue.js";

/** How a balloon is made. */
export interface BalloonOptions {
  readonly reclaimer: PageReclaimer;
  /** Pages of 4 KiB that the driver is to give from its start. */
  readonly targetPages: number;
  readonly deflateOnOom: boolean;
  readonly hasStatistics: boolean;
  readonly hasHinting: boolean;
  readonly hasReporting: boolean;
}

/** What the guest told of its memory; bytes and counts, by name. Only what it knows is there. */
export type BalloonStatistics = Partial<Record<(typeof regs.STATISTIC_NAMES)[number], number>>;

const QUEUE_SIZE = 256;
/** Pages in one buffer, and statistics: more is not looked at. */
const PAGES_MAX = 65_536;
const STATISTICS_MAX = 64;
/** Work of one turn: 1 for each descriptor, page number and piece of free memory, and for so many bytes in a piece. */
const TURN_WORK = 1024;
const BYTES_OF_WORK = 32 * KIB;
/** Pieces end at multiples of this, and no huge page lies in two. */
const PIECE_BYTES = 2 * MIB;

type QueueUse = "inflate" | "deflate" | "stats" | "hint" | "report";

/** Back of the balloon. */
export class VirtioBalloon implements VirtioBack {
  readonly deviceType = regs.DEVICE_TYPE;
  readonly features: FeatureBits;
  readonly queueSizes: readonly number[];
  readonly config = new Uint8Array(regs.CONFIG_BYTES);
  readonly writableConfig = {
    start: regs.CONFIG_ACTUAL_OFFSET,
    end: regs.CONFIG_ACTUAL_OFFSET + regs.PAGE_NUMBER_BYTES,
  };
  readonly metrics = createBalloonMetrics();
  /** The last that the guest told. */
  statistics: BalloonStatistics = {};

  readonly #host: VirtioHost;
  readonly #options: BalloonOptions;
  readonly #uses: readonly QueueUse[];
  readonly #ranges: PageRanges;
  readonly #chain = new DescriptorChain(QUEUE_SIZE);
  readonly #view = new DataView(this.config.buffer);
  readonly #pages = new Uint8Array(TURN_WORK * regs.PAGE_NUMBER_BYTES);
  /** Of each queue's next chain: bytes of its buffers that earlier turns have taken. */
  readonly #done: number[];
  /** Work that is left in this turn. */
  #work = 0;
  #queues: readonly (VirtQueue | undefined)[] = [];
  /** Head of the statistics buffer that we keep. */
  #statsHead: number | undefined;
  /** It is to go back, for new ones. */
  #isAsking = false;
  #hostCommand: number = regs.HINT_STOP;
  #guestCommand: number | undefined;
  #nextCommand: number = regs.HINT_FIRST;
  #acknowledgesStop = true;

  constructor(host: VirtioHost, options: BalloonOptions) {
    this.#host = host;
    this.#options = options;
    this.#ranges = new PageRanges(host.memory, options.reclaimer);
    const uses: QueueUse[] = ["inflate", "deflate"];
    const bits = [...RING_FEATURES];
    const add = (isOffered: boolean, bit: number, use?: QueueUse) => {
      if (!isOffered) return;
      bits.push(bit);
      if (use !== undefined) uses.push(use);
    };
    add(options.deflateOnOom, regs.FEATURE_DEFLATE_ON_OOM_BIT);
    add(options.hasStatistics, regs.FEATURE_STATS_VQ_BIT, "stats");
    add(options.hasHinting, regs.FEATURE_FREE_PAGE_HINT_BIT, "hint");
    add(options.hasReporting, regs.FEATURE_PAGE_REPORTING_BIT, "report");
    this.features = featureBits(bits);
    this.#uses = uses;
    this.#done = uses.map(() => 0);
    this.queueSizes = uses.map(() => QUEUE_SIZE);
    this.#view.setUint32(regs.CONFIG_TARGET_OFFSET, options.targetPages, true);
  }

  /** Pages that the guest is to give, and that it says it has given. */
  get targetPages(): number {
    return this.#view.getUint32(regs.CONFIG_TARGET_OFFSET, true);
  }
  get actualPages(): number {
    return this.#view.getUint32(regs.CONFIG_ACTUAL_OFFSET, true);
  }

  /** Commands of free page hinting: ours, and the driver's last. */
  get hinting(): { readonly hostCommand: number; readonly guestCommand: number | undefined } {
    return { hostCommand: this.#hostCommand, guestCommand: this.#guestCommand };
  }

  activate(_accepted: FeatureBits, queues: readonly (VirtQueue | undefined)[]): void {
    this.#queues = queues;
  }

  processQueue(queueIndex: number): void {
    const queue = this.#queues[queueIndex];
    if (queue === undefined) return;
    const use = this.#uses[queueIndex];
    try {
      if (use === "stats") {
        this.#askForStatistics(queue);
        this.#takeStatistics(queue);
      } else this.#takePages(queue, queueIndex, use);
    } finally {
      this.#ranges.flush();
      this.#count(use);
      if (queue.publish()) this.#host.interruptQueue(queueIndex);
    }
  }

  configWritten(offset: number, sizeBytes: number, value: number): void {
    if (offset !== regs.CONFIG_ACTUAL_OFFSET || sizeBytes !== regs.PAGE_NUMBER_BYTES) return;
    this.#view.setUint32(regs.CONFIG_ACTUAL_OFFSET, value, true);
  }

  reset(): undefined {
    this.#queues = [];
    this.#done.fill(0);
    this.#statsHead = undefined;
    this.#isAsking = false;
    this.#guestCommand = undefined;
    this.#view.setUint32(regs.CONFIG_ACTUAL_OFFSET, 0, true);
  }

  quiesce(): undefined {}

  /** Asks the guest to give so many pages in all. */
  setTarget(pages: number): void {
    this.#view.setUint32(regs.CONFIG_TARGET_OFFSET, pages, true);
    this.#host.updateConfig(this.config);
  }

  /** Asks the guest for new statistics; nothing happens while it owes us the last ones. */
  requestStatistics(): void {
    if (this.#statsHead === undefined) return;
    this.#isAsking = true;
    // Not here: during a pause its memory is left alone, and asked for at the end.
    this.#host.notifyQueue(this.#uses.indexOf("stats"));
  }

  /**
   * Asks the guest for its free pages, once through its memory.
   *
   * @param acknowledgesStop - tells the guest that it may use them again as soon as it is through
   */
  startHinting(acknowledgesStop: boolean): void {
    this.#acknowledgesStop = acknowledgesStop;
    const command = this.#nextCommand;
    this.#nextCommand = command === regs.HINT_LAST ? regs.HINT_FIRST : command + 1;
    this.#command(command);
  }

  /** Ends a run: the guest may use its pages again. */
  stopHinting(): void {
    this.#command(regs.HINT_DONE);
  }

  /** The device's record for a snapshot. */
  save(): BalloonState {
    const { deflateOnOom, hasStatistics, hasHinting, hasReporting } = this.#options;
    const { targetPages, actualPages } = this;
    const offered = { deflateOnOom, hasStatistics, hasHinting, hasReporting };
    return { version: 1, targetPages, actualPages, ...offered };
  }

  #command(command: number): void {
    this.#hostCommand = command;
    this.#view.setUint32(regs.CONFIG_HINT_COMMAND_OFFSET, command, true);
    this.#host.updateConfig(this.config);
  }

  /** Takes what the driver offers, as much as one turn may. */
  #takePages(queue: VirtQueue, queueIndex: number, use: QueueUse): void {
    const chain = this.#chain;
    this.#work = TURN_WORK;
    do {
      queue.disableNotifications();
      while (this.#work > 0 && queue.next(chain)) {
        this.#work -= chain.count;
        if (this.#work <= 0 || !this.#take(queueIndex, use)) queue.undoNext();
        else queue.addUsed(chain.head, 0);
      }
      if (this.#work <= 0) {
        this.#host.deferQueue(queueIndex);
        return;
      }
    } while (queue.enableNotifications());
  }

  /** Takes the chain from where the last turn stopped; false: this turn's work ended before the chain did. */
  #take(queueIndex: number, use: QueueUse): boolean {
    if (use === "deflate") {
      this.metrics.deflate_count++;
      return true;
    }
    const done = this.#done[queueIndex];
    const taken = use === "inflate" ? this.#inflate(done) : this.#takeFree(use, done);
    this.#done[queueIndex] = taken ?? 0;
    return taken === undefined;
  }

  /** The driver gives single pages, by their numbers: returns where in them the turn ended, if not with them. */
  #inflate(done: number): number | undefined {
    const chain = this.#chain;
    const end = Math.min(chain.readableBytes, PAGES_MAX * regs.PAGE_NUMBER_BYTES);
    const most = Math.max(0, Math.min(end - done, this.#work * regs.PAGE_NUMBER_BYTES));
    const readable = { first: 0, end: chain.firstWritable, skip: done };
    const bytes = gather(this.#host.memory, chain, readable, this.#pages, most);
    const view = new DataView(this.#pages.buffer, 0, bytes);
    for (let at = 0; at + regs.PAGE_NUMBER_BYTES <= bytes; at += regs.PAGE_NUMBER_BYTES) {
      this.#ranges.add(view.getUint32(at, true) * regs.PAGE_BYTES, regs.PAGE_BYTES);
    }
    this.#work -= Math.ceil(bytes / regs.PAGE_NUMBER_BYTES);
    if (done + bytes < end) return done + bytes;
    this.metrics.inflate_count++;
    if (end % regs.PAGE_NUMBER_BYTES !== 0) this.metrics.event_fails++;
    return undefined;
  }

  /**
   * The driver lends free memory: what it points at may be dropped. A hint's number comes the other way. Returns
   * where in it the turn ended, if not with it.
   */
  #takeFree(use: QueueUse, done: number): number | undefined {
    const chain = this.#chain;
    const isHint = use === "hint";
    if (isHint && done === 0 && chain.readableBytes > 0) this.#takeHintCommand();
    // Of a run that is over: the guest may be using these pages already.
    const isOver = isHint && this.#guestCommand !== this.#hostCommand;
    let start = 0;
    for (let index = chain.firstWritable; index < chain.count && !isOver; index++) {
      const end = start + chain.lengths[index];
      for (let at = Math.max(start, done); at < end; ) {
        if (this.#work <= 0) return at;
        const address = chain.addresses[index] + at - start;
        const bytes = Math.min(end - at, PIECE_BYTES - (address % PIECE_BYTES));
        this.#ranges.add(address, bytes);
        this.#work -= 1 + Math.floor(bytes / BYTES_OF_WORK);
        at += bytes;
      }
      start = end;
    }
    if (isHint) this.metrics.free_page_hint_count++;
    else this.metrics.free_page_report_count++;
    return undefined;
  }

  #takeHintCommand(): void {
    const chain = this.#chain;
    const word = new Uint8Array(regs.PAGE_NUMBER_BYTES);
    const readable = { first: 0, end: chain.firstWritable, skip: 0 };
    if (gather(this.#host.memory, chain, readable, word, word.length) < word.length) {
      this.metrics.event_fails++;
      return;
    }
    this.#guestCommand = new DataView(word.buffer).getUint32(0, true);
    const isThrough = this.#guestCommand === regs.HINT_STOP;
    if (isThrough && this.#acknowledgesStop && this.#hostCommand >= regs.HINT_FIRST) {
      // First what it has lent: other vCPUs may use it as soon as they are told.
      this.#ranges.flush();
      this.stopHinting();
    }
  }

  /** Gives the buffer back for new figures. */
  #askForStatistics(queue: VirtQueue): void {
    if (!this.#isAsking || this.#statsHead === undefined) return;
    this.#isAsking = false;
    queue.addUsed(this.#statsHead, 0);
    this.#statsHead = undefined;
  }

  /** The buffer with new figures; we keep it until somebody asks again. A queue's worth in one turn. */
  #takeStatistics(queue: VirtQueue): void {
    let budget = queue.size;
    do {
      queue.disableNotifications();
      while (budget > 0 && queue.next(this.#chain)) {
        budget--;
        if (this.#statsHead !== undefined) {
          // Two at once are one too many: the older one goes back.
          this.metrics.stats_update_fails++;
          queue.addUsed(this.#statsHead, 0);
        }
        this.#statsHead = this.#chain.head;
        this.#readStatistics();
      }
      if (budget === 0) {
        this.#host.deferQueue(queue.index);
        return;
      }
    } while (queue.enableNotifications());
  }

  #readStatistics(): void {
    const chain = this.#chain;
    const bytes = new Uint8Array(STATISTICS_MAX * regs.STATISTIC_BYTES);
    const readable = { first: 0, end: chain.firstWritable, skip: 0 };
    const count = gather(this.#host.memory, chain, readable, bytes, bytes.length);
    const view = new DataView(bytes.buffer);
    const told: BalloonStatistics = {};
    for (let at = 0; at + regs.STATISTIC_BYTES <= count; at += regs.STATISTIC_BYTES) {
      const name = regs.STATISTIC_NAMES[view.getUint16(at, true)];
      const value = view.getBigUint64(at + regs.STATISTIC_VALUE_OFFSET, true);
      if (name !== undefined) told[name] = Number(value);
    }
    this.statistics = told;
    this.metrics.stats_updates_count++;
  }

  /** Books what the last flush freed or failed to free under the queue's name. */
  #count(use: QueueUse): void {
    const { freedBytes, failures } = this.#ranges;
    this.#ranges.freedBytes = 0;
    this.#ranges.failures = 0;
    if (use === "hint") {
      this.metrics.free_page_hint_freed += freedBytes;
      this.metrics.free_page_hint_fails += failures;
    } else if (use === "report") {
      this.metrics.free_page_report_freed += freedBytes;
      this.metrics.free_page_report_fails += failures;
    } else {
      this.metrics.event_fails += failures;
    }
  }
}
