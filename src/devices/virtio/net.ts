/**
 * The virtio network device: pairs of one receive and one transmit queue, each over a backend of its own.
 *
 *     driver ─ transmit queue ─▶ check, limiter, detour ─▶ backend.send      (net-transmit.ts)
 *     driver ◀─ receive queue ── limiter ◀─ backend.receive, detour          (net-receive.ts)
 *     driver ─ control queue ──▶ how many pairs it uses                      (net-control.ts)
 *
 * All pairs share limiters, counters and link. A pair that the driver does not use receives nothing; what it
 * still sends goes through the first one's backend.
 *
 * Offloads are the host kernel's: checksums and segmentation travel in each frame's header between driver and
 * backend, and nothing here looks at them. Specification: VirtIO 1.2 § 5.1.
 */
import type { FrameDetour, NetBackend } from "../backend.js";
import type { RateLimiter } from "../rate-limiter.js";
import type { FeatureBits, VirtioBack, VirtioHost } from "./device.js";
import { featureBits, hasFeature, RING_FEATURES } from "./features.js";
import * as regs from "./net.regs.js";
import { createNetMetrics, type NetMetrics, type NetState } from "./net.state.js";
import { NetControl } from "./net-control.js";
import { NetReceiver } from "./net-receive.js";
import { type NetShared, NetTransmitter } from "./net-transmit.js";
import type { VirtQueue } from "./queue.js";

/** How an interface shows itself. */
export interface NetOptions {
  /** One for each pair of queues, 1 to 8, alike in what they can; with more than one there is a control queue. */
  readonly backends: readonly NetBackend[];
  /** Six bytes. */
  readonly mac: Uint8Array;
  /** 68 to 65,535; absent: the driver's own. */
  readonly mtu?: number;
  /** Asked before each frame to the guest, and from it (default: no limit, at no cost). */
  readonly receiveLimiter?: RateLimiter;
  readonly transmitLimiter?: RateLimiter;
}

const QUEUE_SIZE = 256;
const CONTROL_QUEUE_SIZE = 64;
const OFFLOAD_BITS = [
  regs.FEATURE_CSUM_BIT,
  regs.FEATURE_HOST_TSO4_BIT,
  regs.FEATURE_HOST_TSO6_BIT,
  regs.FEATURE_HOST_UFO_BIT,
  regs.FEATURE_GUEST_CSUM_BIT,
  regs.FEATURE_GUEST_TSO4_BIT,
  regs.FEATURE_GUEST_TSO6_BIT,
  regs.FEATURE_GUEST_UFO_BIT,
];

/** One that asks each in turn, until one takes the frame; `undefined` for none. */
function joinDetours(detours: readonly FrameDetour[]): FrameDetour | undefined {
  if (detours.length <= 1) return detours[0];
  const join = (direction: "transmit" | "receive") => {
    const asked = detours.filter((one) => one[direction] !== undefined);
    if (asked.length === 0) return {};
    const ask: FrameDetour["transmit"] = (...frame) => {
      for (const one of asked) {
        const fate = one[direction]?.(...frame) ?? false;
        if (fate !== false) return fate;
      }
      return false;
    };
    return { [direction]: ask };
  };
  return { ...join("transmit"), ...join("receive") };
}

/** Two queues and what is behind them. */
interface Pair {
  readonly backend: NetBackend;
  readonly receiver: NetReceiver;
  readonly transmitter: NetTransmitter;
}

/** Back of one network interface. */
export class VirtioNet implements VirtioBack {
  readonly deviceType = regs.DEVICE_TYPE;
  readonly features: FeatureBits;
  readonly queueSizes: readonly number[];
  readonly config: Uint8Array;

  readonly #shared: NetShared;
  readonly #options: NetOptions;
  readonly #pairs: readonly Pair[];
  readonly #control: NetControl;
  /** Pairs that the driver uses, the first ones. */
  #activePairs = 1;
  #controlQueue: VirtQueue | undefined;
  #detours: FrameDetour[] = [];
  #isActive = false;
  #isPaused = false;

  constructor(host: VirtioHost, options: NetOptions) {
    const { backends, mac, mtu, receiveLimiter, transmitLimiter } = options;
    this.#options = options;
    this.#shared = {
      host,
      metrics: createNetMetrics(),
      mac,
      isLinkUp: true,
      detour: undefined,
    };
    const shared = this.#shared;
    this.#pairs = backends.map((backend) => ({
      backend,
      receiver: new NetReceiver(shared, backend, QUEUE_SIZE, receiveLimiter),
      transmitter: new NetTransmitter(shared, backend, QUEUE_SIZE, transmitLimiter),
    }));
    const hasControl = backends.length > 1;
    this.queueSizes = [
      ...backends.flatMap(() => [QUEUE_SIZE, QUEUE_SIZE]),
      ...(hasControl ? [CONTROL_QUEUE_SIZE] : []),
    ];
    // Its queue may be the one that is a pair's for another driver.
    this.#control = new NetControl(shared, QUEUE_SIZE, (pairs) => this.#usePairs(pairs));
    const bits = [...RING_FEATURES, regs.FEATURE_MAC_BIT, regs.FEATURE_STATUS_BIT];
    bits.push(regs.FEATURE_MRG_RXBUF_BIT);
    if (mtu !== undefined) bits.push(regs.FEATURE_MTU_BIT);
    if (hasControl) bits.push(regs.FEATURE_CTRL_VQ_BIT, regs.FEATURE_MQ_BIT);
    if (backends[0].supportsOffloads) bits.push(...OFFLOAD_BITS);
    this.features = featureBits(bits);
    this.config = this.#configuration();
    for (const [pair, backend] of backends.entries()) {
      backend.onReadable = () => {
        this.metrics.rx_tap_event_count++;
        host.notifyQueue(receiveQueue(pair));
      };
      backend.onWritable = () => this.#notifyAll(regs.TRANSMIT_QUEUE);
    }
  }

  get metrics(): NetMetrics {
    return this.#shared.metrics;
  }

  activate(accepted: FeatureBits, queues: readonly (VirtQueue | undefined)[]): void {
    this.#isActive = true;
    // The interface's, whichever queue of it is asked.
    this.#pairs[0].backend.setOffloads(accepted.low);
    const mergeable = hasFeature(accepted, regs.FEATURE_MRG_RXBUF_BIT);
    const hasAll = hasFeature(accepted, regs.FEATURE_MQ_BIT);
    const hasControl = hasFeature(accepted, regs.FEATURE_CTRL_VQ_BIT);
    const controlIndex = hasAll ? receiveQueue(this.#pairs.length) : regs.SINGLE_CONTROL_QUEUE;
    this.#controlQueue = hasControl ? queues[controlIndex] : undefined;
    this.#control.pairsMax = hasAll ? this.#pairs.length : 1;
    // Without MQ there is one pair, whatever else the driver has set up.
    for (const [index, { receiver, transmitter }] of this.#pairs.entries()) {
      const isThere = index === 0 || hasAll;
      const queue = receiveQueue(index);
      receiver.activate(isThere ? queues[queue] : undefined, mergeable);
      transmitter.activate(isThere ? queues[queue + regs.TRANSMIT_QUEUE] : undefined);
    }
    this.#usePairs(1);
    // Frames may have come before there was a driver, whose arrival nobody tells again.
    this.#shared.host.notifyQueue(regs.RECEIVE_QUEUE);
  }

  processQueue(queueIndex: number): void {
    this.#isPaused = false;
    if (this.#controlQueue?.index === queueIndex) {
      this.#control.process(this.#controlQueue);
      return;
    }
    const index = Math.floor(queueIndex / regs.QUEUES_OF_PAIR);
    const pair = this.#pairs[index];
    if (queueIndex === receiveQueue(index)) {
      this.metrics.rx_queue_event_count++;
      if (index < this.#activePairs) pair?.receiver.process();
    } else {
      this.metrics.tx_queue_event_count++;
      pair.transmitter.process();
    }
  }

  reset(): undefined {
    this.#isActive = false;
    this.#controlQueue = undefined;
    for (const { receiver, transmitter } of this.#pairs) {
      receiver.activate(undefined, false);
      transmitter.activate(undefined);
    }
    this.#usePairs(1);
  }

  quiesce(): undefined {
    this.#isPaused = true;
    for (const { receiver, transmitter } of this.#pairs) {
      receiver.release();
      transmitter.release();
    }
  }

  /** The limiter of this direction may admit again what it has refused. */
  resumeThrottled(direction: "receive" | "transmit"): void {
    if (direction === "receive") this.metrics.rx_event_rate_limiter_count++;
    else this.metrics.tx_rate_limiter_event_count++;
    this.#notifyAll(direction === "receive" ? regs.RECEIVE_QUEUE : regs.TRANSMIT_QUEUE);
  }

  /**
   * Lets somebody look at the frames from now on, after those who do so already; the returned function ends that.
   * Nothing is paid while nobody does.
   */
  addDetour(detour: FrameDetour): () => void {
    this.#detours.push(detour);
    this.#shared.detour = joinDetours(this.#detours);
    return () => {
      this.#detours = this.#detours.filter((other) => other !== detour);
      this.#shared.detour = joinDetours(this.#detours);
    };
  }

  /**
   * Sends a frame (from its Ethernet header on) to the guest; dropped while it has no driver. `header`: of one
   * that came from the backend, whose limit counts it; default: nothing is left to do to it.
   */
  sendToGuest(frame: Uint8Array, header?: Uint8Array): void {
    if (!this.#isActive || !this.#shared.isLinkUp) {
      this.metrics.rx_fails++;
      return;
    }
    this.#pairs[0].receiver.inject(frame, header);
    this.#shared.host.notifyQueue(regs.RECEIVE_QUEUE);
  }

  /**
   * Sends a frame (from its Ethernet header on) to the host as if it were the guest's, and counts it as such;
   * false: it is lost, as there is no room or no link. `header`: what is left to do to it; default: nothing.
   */
  sendToHost(frame: Uint8Array, header?: Uint8Array): boolean {
    const { metrics, isLinkUp } = this.#shared;
    const [{ backend }] = this.#pairs;
    const whole = new Uint8Array(regs.HEADER_BYTES + frame.length);
    if (header !== undefined) whole.set(header);
    whole.set(frame, regs.HEADER_BYTES);
    const failed = backend.sendErrors;
    const isSent = isLinkUp && backend.sendBytes(whole) && backend.sendErrors === failed;
    if (isSent) {
      metrics.tx_packets_count++;
      metrics.tx_bytes_count += whole.length;
    } else metrics.tx_fails++;
    return isSent;
  }

  /** From `quiesce` on, until a queue is looked at again: what is sent to the guest waits. */
  get isPaused(): boolean {
    return this.#isPaused;
  }

  get isLinkUp(): boolean {
    return this.#shared.isLinkUp;
  }

  /** Plugs the cable in or out; frames are lost while it is out, and the driver is told. */
  setLink(isUp: boolean): void {
    if (isUp === this.#shared.isLinkUp) return;
    this.#shared.isLinkUp = isUp;
    this.config.set(this.#configuration());
    this.#shared.host.updateConfig(this.config);
  }

  /** The device's record for a snapshot. */
  save(): NetState {
    return {
      version: 1,
      mac: [...this.#options.mac],
      mtu: this.#options.mtu,
      isLinkUp: this.#shared.isLinkUp,
      offloads: this.#pairs[0].backend.supportsOffloads,
      pairs: this.#pairs.length,
      activePairs: this.#activePairs,
    };
  }

  /** The driver uses so many pairs from now on: the others take no part in receiving. */
  #usePairs(pairs: number): void {
    const before = this.#activePairs;
    this.#activePairs = pairs;
    for (const [index, { backend, receiver, transmitter }] of this.#pairs.entries()) {
      const isUsed = index < pairs;
      if (index === 0 || isUsed === index < before) continue;
      if (!isUsed) receiver.release();
      backend.setAttached(isUsed);
      transmitter.backend = isUsed ? backend : this.#pairs[0].backend;
      if (isUsed) this.#shared.host.notifyQueue(receiveQueue(index));
    }
  }

  /** Has this queue of every pair looked at. */
  #notifyAll(queueOfPair: number): void {
    for (let index = 0; index < this.#pairs.length; index++) {
      this.#shared.host.notifyQueue(receiveQueue(index) + queueOfPair);
    }
  }

  #configuration(): Uint8Array {
    const bytes = new Uint8Array(regs.CONFIG_BYTES);
    const view = new DataView(bytes.buffer);
    bytes.set(this.#options.mac, regs.CONFIG_MAC_OFFSET);
    const status = this.#shared.isLinkUp ? regs.STATUS_LINK_UP_MASK : 0;
    view.setUint16(regs.CONFIG_STATUS_OFFSET, status, true);
    view.setUint16(regs.CONFIG_MAX_PAIRS_OFFSET, this.#options.backends.length, true);
    view.setUint16(regs.CONFIG_MTU_OFFSET, this.#options.mtu ?? 0, true);
    return bytes;
  }
}

/** Of this pair; its transmit queue is the next one. */
function receiveQueue(pair: number): number {
  return pair * regs.QUEUES_OF_PAIR;
}
