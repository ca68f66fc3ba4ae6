/**
 * The devices of a microVM in a cell, as far as somebody outside speaks to them.
 */
import type { Duplex } from "node:stream";
import type { Observable } from "rxjs";
import { abortable, throwIfAborted } from "../actors/abortable.js";
import type { CheckedConfig } from "../actors/config.js";
import {
  type CheckedBalloon,
  checkBalloonAmount,
  checkStatsChange,
  noBalloon,
} from "../actors/config-balloon.js";
import { noMemoryHotplug } from "../actors/config-memory-hotplug.js";
import type { NetworkInterfaceChange } from "../actors/config-net.js";
import { type Metadata, MetadataStore } from "../actors/metadata-store.js";
import type { DeviceRateLimitEvent } from "../actors/rate-limits.js";
import type {
  RunningBalloon,
  RunningDevices,
  RunningMemoryHotplug,
} from "../actors/running-microvm.js";
import type { RateLimiterConfig, TokenBucketConfig } from "../devices/rate-limiter.js";
import {
  type Check,
  checkAmounts,
  checkBalloonReport,
  checkHinting,
  checkNothing,
  checkPluggedMemory,
} from "./cell-checks.js";
import type { CellLink } from "./cell-link.js";
import { watchRateLimits } from "./remote-limits.js";
import { openDuplex } from "./stream-duplex.js";

/** See the file's header. */
export class RemoteDevices implements RunningDevices {
  readonly interfaces: RunningDevices["interfaces"];
  readonly metadata: RunningDevices["metadata"];
  readonly vsock: RunningDevices["vsock"];
  readonly balloon: RunningBalloon | undefined;
  readonly pmem: RunningDevices["pmem"];
  readonly #memoryHotplug: RunningMemoryHotplug | undefined;
  readonly #link: CellLink;
  readonly #vm: number;

  constructor(link: CellLink, vm: number, config: CheckedConfig) {
    const { mmds, vsock, balloon, memoryMib, memoryHotplug } = config;
    this.#link = link;
    this.#vm = vm;
    this.interfaces = {
      update: (id: string, change: NetworkInterfaceChange) =>
        link.call(vm, "updateInterface", { id, change }, checkNothing),
    };
    this.metadata = mmds && {
      data: new RemoteMetadata(link, vm, mmds.sizeLimitBytes, mmds.data),
    };
    this.vsock = vsock && { agent: { openStream: (signal) => openAgent(link, vm, signal) } };
    this.pmem = {
      limit: (id, change) => link.call(vm, "limitPmem", { id, change }, checkNothing),
    };
    this.#memoryHotplug = memoryHotplug && {
      setRequestedSize: (requestedSizeMib) =>
        link.call(vm, "plugMemory", { requestedSizeMib }, checkNothing),
      report: () => link.call(vm, "pluggedMemory", {}, checkPluggedMemory),
    };
    this.balloon = balloon && new RemoteBalloon(link, vm, balloon, memoryMib);
  }

  limitEntropy(change: RateLimiterConfig): Promise<void> {
    return this.#link.call(this.#vm, "limitEntropy", { change }, checkNothing);
  }

  limitSerial(bucket: TokenBucketConfig): Promise<void> {
    return this.#link.call(this.#vm, "limitSerial", { bucket }, checkNothing);
  }

  get rateLimits$(): Observable<DeviceRateLimitEvent> {
    return watchRateLimits(this.#link, this.#vm);
  }

  requireBalloon(): RunningBalloon {
    if (this.balloon !== undefined) return this.balloon;
    throw noBalloon();
  }

  requireMemoryHotplug(): RunningMemoryHotplug {
    if (this.#memoryHotplug !== undefined) return this.#memoryHotplug;
    throw noMemoryHotplug();
  }
}

/** The guest only reads it: what counts is here, and the cell has a copy. */
class RemoteMetadata {
  readonly #store: MetadataStore;
  readonly #send: () => void;

  constructor(link: CellLink, vm: number, limitBytes: number, data: Metadata | undefined) {
    this.#store = new MetadataStore(limitBytes, data);
    this.#send = () => {
      // A cell that does not take it is lost, and that is seen.
      link.call(vm, "metadata", { data: this.#store.get() }, checkNothing).catch(() => {});
    };
  }

  get(): Metadata {
    return this.#store.get();
  }

  put(data: Metadata): void {
    this.#store.put(data);
    this.#send();
  }

  patch(data: Metadata): void {
    this.#store.patch(data);
    this.#send();
  }
}

class RemoteBalloon implements RunningBalloon {
  readonly #call: <T>(check: Check<T>, operation: string, value?: number | boolean) => Promise<T>;
  readonly #memoryMib: number;
  #statsIntervalS: number;
  #amounts: RunningBalloon["amounts"];
  #isAsking = false;

  constructor(link: CellLink, vm: number, config: CheckedBalloon, memoryMib: number) {
    const { statsIntervalS, amountMib } = config;
    this.#statsIntervalS = statsIntervalS;
    this.#memoryMib = memoryMib;
    this.#amounts = { memoryMib, targetMib: amountMib, actualMib: 0, availableMib: undefined };
    this.#call = (check, operation, value) =>
      link.call(vm, "balloon", value === undefined ? { operation } : { operation, value }, check);
  }

  /** Of the last look, which has the next one taken. */
  get amounts(): RunningBalloon["amounts"] {
    void this.#look();
    return this.#amounts;
  }

  setTarget(amountMib: number): Promise<void> {
    const targetMib = checkBalloonAmount(amountMib, this.#memoryMib);
    this.#amounts = { ...this.#amounts, targetMib };
    return this.#call(checkNothing, "setTarget", targetMib);
  }

  async #look(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      const { actualMib, availableMib } = await this.#call(checkAmounts, "amounts");
      this.#amounts = { ...this.#amounts, actualMib, availableMib };
    } catch {
      // What was heard last stays.
    }
    this.#isAsking = false;
  }

  setStatsInterval(seconds: number): Promise<void> {
    this.#statsIntervalS = checkStatsChange(this.#statsIntervalS, seconds);
    return this.#call(checkNothing, "setStatsInterval", this.#statsIntervalS);
  }

  report() {
    return this.#call(checkBalloonReport, "report");
  }

  startHinting(acknowledgesStop = true): Promise<void> {
    return this.#call(checkNothing, "startHinting", acknowledgesStop);
  }

  stopHinting(): Promise<void> {
    return this.#call(checkNothing, "stopHinting");
  }

  get hinting() {
    return this.#call(checkHinting, "hinting").then(({ hostCommand, guestCommand }) => ({
      hostCommand,
      guestCommand,
    }));
  }
}

/** A connection with the guest's agent. */
async function openAgent(
  link: CellLink,
  vm: number,
  signal: AbortSignal | undefined,
): Promise<Duplex> {
  throwIfAborted(signal);
  const { id, duplex } = openDuplex(link.channel);
  duplex.on("error", () => {});
  try {
    await abortable(link.call(vm, "agent", { stream: id }, checkNothing), signal);
    return duplex;
  } catch (error) {
    duplex.destroy();
    throw error;
  }
}
