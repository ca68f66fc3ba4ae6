/**
 * The memory balloon: pages that the guest does without go back to the host.
 *
 *     inflate   pages that the driver gives, up to the target ─▶ reclaimed
 *     deflate   pages that it takes back: they fault in again, as zeros
 *     stats     a buffer that we keep; returning it asks for new figures
 *     hint      free pages while a run lasts ─▶ reclaimed      report   free pages, at any time ─▶ reclaimed
 *
 * Queues after the second exist when their feature is offered, and are numbered without gaps, as drivers do.
 * Specification: VirtIO 1.2 § 5.5.
 */
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
  readonly #pages = new Uint8Array(PAGES_MAX * regs.PAGE_NUMBER_BYTES);
  #queues: readonly (VirtQueue | undefined)[] = [];
  /** Head of the statistics buffer that we keep. */
  #statsHead: number | undefined;
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
      if (use === "stats") this.#takeStatistics(queue);
      else this.#takePages(queue, queueIndex, use);
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
    this.#statsHead = undefined;
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
    const index = this.#uses.indexOf("stats");
    const queue = this.#queues[index];
    if (this.#statsHead === undefined || queue === undefined) return;
    queue.addUsed(this.#statsHead, 0);
    this.#statsHead = undefined;
    if (queue.publish()) this.#host.interruptQueue(index);
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

  /** Takes what the driver offers, a queue's worth in one turn. */
  #takePages(queue: VirtQueue, queueIndex: number, use: QueueUse): void {
    let budget = queue.size;
    do {
      queue.disableNotifications();
      while (budget > 0 && queue.next(this.#chain)) {
        budget--;
        if (use === "inflate") this.#inflate();
        else if (use === "deflate") this.metrics.deflate_count++;
        else this.#takeFree(use);
        queue.addUsed(this.#chain.head, 0);
      }
      if (budget === 0) {
        this.#host.deferQueue(queueIndex);
        return;
      }
    } while (queue.enableNotifications());
  }

  /** The driver gives single pages, by their numbers. */
  #inflate(): void {
    const chain = this.#chain;
    const readable = { first: 0, end: chain.firstWritable, skip: 0 };
    const bytes = gather(this.#host.memory, chain, readable, this.#pages, this.#pages.length);
    const view = new DataView(this.#pages.buffer, 0, bytes);
    this.metrics.inflate_count++;
    if (bytes % regs.PAGE_NUMBER_BYTES !== 0) this.metrics.event_fails++;
    for (let at = 0; at + regs.PAGE_NUMBER_BYTES <= bytes; at += regs.PAGE_NUMBER_BYTES) {
      this.#ranges.add(view.getUint32(at, true) * regs.PAGE_BYTES, regs.PAGE_BYTES);
    }
  }

  /** The driver lends free memory: what it points at may be dropped. A hint's number comes the other way. */
  #takeFree(use: QueueUse): void {
    const chain = this.#chain;
    if (use === "hint") {
      this.metrics.free_page_hint_count++;
      if (chain.readableBytes > 0) this.#takeHintCommand();
      // Of a run that is over: the guest may be using these pages already.
      if (this.#guestCommand !== this.#hostCommand) return;
    } else {
      this.metrics.free_page_report_count++;
    }
    for (let index = chain.firstWritable; index < chain.count; index++) {
      this.#ranges.add(chain.addresses[index], chain.lengths[index]);
    }
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
      this.stopHinting();
    }
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
