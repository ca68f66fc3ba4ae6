/**
 * The memory balloon of one microVM: its target, and how often the guest is asked for statistics.
 */
import { EMPTY, interval, Subject, type Subscription, startWith, switchMap } from "rxjs";
import { VirtioBalloon } from "../devices/virtio/balloon.js";
import { PAGES_PER_MIB } from "../devices/virtio/balloon.regs.js";
import type { BalloonMetrics } from "../devices/virtio/balloon.state.js";
import { EstaloError } from "../errors.js";
import type { NativeGuestMapping } from "../native/binding.js";
import { MIB } from "../units.js";
import { type CheckedBalloon, checkBalloonAmount, checkStatsChange } from "./config-balloon.js";
import type { VirtioDeviceRequest } from "./device-board.js";
import type { DeviceFamily, DeviceSurroundings } from "./device-family.js";

/** What a balloon holds, and what its guest told of its memory (bytes and counts; only what it knows). */
export interface BalloonReport {
  readonly targetMib: number;
  readonly targetPages: number;
  /** What the guest says it has given. */
  readonly actualMib: number;
  readonly actualPages: number;
  readonly statistics: VirtioBalloon["statistics"];
}

/** How much memory a guest has, is asked to give and has given, MiB. */
export interface BalloonAmounts {
  readonly memoryMib: number;
  readonly targetMib: number;
  readonly actualMib: number;
  /** What the guest could use at once without swapping, as it told last; only with statistics. */
  readonly availableMib: number | undefined;
}

/** See the file's header. Thread: the device host's. */
export class BalloonFamily implements DeviceFamily {
  readonly #memoryMib: number;
  readonly #intervals = new Subject<number>();
  readonly #asking: Subscription;
  #config: CheckedBalloon;
  #mapping: NativeGuestMapping | undefined;
  #device: VirtioBalloon | undefined;

  constructor(config: CheckedBalloon, memoryMib: number) {
    this.#config = config;
    this.#memoryMib = memoryMib;
    // A new interval replaces the one before it.
    this.#asking = this.#intervals
      .pipe(
        startWith(config.statsIntervalS),
        switchMap((seconds) => (seconds === 0 ? EMPTY : interval(seconds * 1000))),
      )
      .subscribe(() => this.#device?.requestStatistics());
  }

  get requests(): VirtioDeviceRequest[] {
    const { amountMib, deflateOnOom, statsIntervalS, ...free } = this.#config;
    return [
      {
        name: "balloon",
        create: (host) => {
          const mapping = this.#mapping as NativeGuestMapping;
          this.#device = new VirtioBalloon(host, {
            reclaimer: { reclaim: (starts, lengths, n) => mapping.reclaim(starts, lengths, n) },
            targetPages: amountMib * PAGES_PER_MIB,
            deflateOnOom,
            hasStatistics: statsIntervalS > 0,
            hasHinting: free.freePageHinting,
            hasReporting: free.freePageReporting,
          });
          return this.#device;
        },
      },
    ];
  }

  connect({ mapping }: DeviceSurroundings): void {
    this.#mapping = mapping;
  }

  get metrics(): BalloonMetrics | undefined {
    return this.#device?.metrics;
  }

  /** What it is set to now. */
  get config(): CheckedBalloon {
    return this.#config;
  }

  /** Asks the guest to give so much memory, in all; raises ERR_ESTALO_CONFIG_INVALID. */
  setTarget(amountMib: number): void {
    const checked = checkBalloonAmount(amountMib, this.#memoryMib);
    this.#config = { ...this.#config, amountMib: checked };
    this.#device?.setTarget(checked * PAGES_PER_MIB);
  }

  /** How often statistics are asked for from now on; raises ERR_ESTALO_CONFIG_INVALID from or to never. */
  setStatsInterval(seconds: number): void {
    const statsIntervalS = checkStatsChange(this.#config.statsIntervalS, seconds);
    this.#config = { ...this.#config, statsIntervalS };
    this.#intervals.next(statsIntervalS);
  }

  /** As they are now. */
  get amounts(): BalloonAmounts {
    const { actualPages = 0, statistics = {} } = this.#device ?? {};
    const { available_memory: availableBytes } = statistics;
    return {
      memoryMib: this.#memoryMib,
      targetMib: this.#config.amountMib,
      actualMib: Math.floor(actualPages / PAGES_PER_MIB),
      availableMib: availableBytes === undefined ? undefined : availableBytes / MIB,
    };
  }

  /** As it is now; raises ERR_ESTALO_STATE without statistics. */
  report(): BalloonReport {
    if (this.#config.statsIntervalS === 0) throw unavailable("statistics");
    const { targetPages = 0, actualPages = 0, statistics = {} } = this.#device ?? {};
    return {
      targetMib: Math.floor(targetPages / PAGES_PER_MIB),
      targetPages,
      actualMib: Math.floor(actualPages / PAGES_PER_MIB),
      actualPages,
      statistics,
    };
  }

  /** Asks the guest for its free pages; raises ERR_ESTALO_STATE where it cannot be asked. */
  startHinting(acknowledgesStop = true): void {
    this.#hinting().startHinting(acknowledgesStop);
  }

  stopHinting(): void {
    this.#hinting().stopHinting();
  }

  get hinting(): VirtioBalloon["hinting"] {
    return this.#hinting().hinting;
  }

  close(): void {
    this.#asking.unsubscribe();
  }

  #hinting(): VirtioBalloon {
    if (this.#config.freePageHinting && this.#device !== undefined) return this.#device;
    throw unavailable("free page hinting");
  }
}

function unavailable(what: string): EstaloError {
  return new EstaloError("ERR_ESTALO_STATE", `this balloon was made without ${what}`);
}
