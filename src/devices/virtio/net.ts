/**
 * The virtio network device: one receive and one transmit queue over a backend.
 *
 *     driver ─ transmit queue ─▶ check, limiter, detour ─▶ backend.send      (net-transmit.ts)
 *     driver ◀─ receive queue ── limiter ◀─ backend.receive, detour          (net-receive.ts)
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
import { NetReceiver } from "./net-receive.js";
import { type NetShared, NetTransmitter } from "./net-transmit.js";
import type { VirtQueue } from "./queue.js";

/** How an interface shows itself. */
export interface NetOptions {
  readonly backend: NetBackend;
  /** Six bytes. */
  readonly mac: Uint8Array;
  /** 68 to 65,535; absent: the driver's own. */
  readonly mtu?: number;
  /** Asked before each frame to the guest, and from it (default: no limit, at no cost). */
  readonly receiveLimiter?: RateLimiter;
  readonly transmitLimiter?: RateLimiter;
}

const QUEUE_SIZE = 256;
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
    return {
      [direction]: (start: Uint8Array, frameBytes: number, copy: () => Uint8Array) =>
        asked.some((one) => one[direction]?.(start, frameBytes, copy)),
    };
  };
  return { ...join("transmit"), ...join("receive") };
}

/** Back of one network interface. */
export class VirtioNet implements VirtioBack {
  readonly deviceType = regs.DEVICE_TYPE;
  readonly features: FeatureBits;
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE];
  readonly config: Uint8Array;

  readonly #shared: NetShared;
  readonly #options: NetOptions;
  readonly #receiver: NetReceiver;
  readonly #transmitter: NetTransmitter;
  #detours: FrameDetour[] = [];
  #isActive = false;

  constructor(host: VirtioHost, options: NetOptions) {
    const { backend, mac, mtu } = options;
    this.#options = options;
    this.#shared = {
      host,
      backend,
      metrics: createNetMetrics(),
      mac,
      isLinkUp: true,
      detour: undefined,
    };
    this.#receiver = new NetReceiver(this.#shared, QUEUE_SIZE, options.receiveLimiter);
    this.#transmitter = new NetTransmitter(this.#shared, QUEUE_SIZE, options.transmitLimiter);
    const bits = [...RING_FEATURES, regs.FEATURE_MAC_BIT, regs.FEATURE_STATUS_BIT];
    bits.push(regs.FEATURE_MRG_RXBUF_BIT);
    if (mtu !== undefined) bits.push(regs.FEATURE_MTU_BIT);
    if (backend.supportsOffloads) bits.push(...OFFLOAD_BITS);
    this.features = featureBits(bits);
    this.config = this.#configuration();
    backend.onReadable = () => {
      this.metrics.rx_tap_event_count++;
      host.notifyQueue(regs.RECEIVE_QUEUE);
    };
    backend.onWritable = () => host.notifyQueue(regs.TRANSMIT_QUEUE);
  }

  get metrics(): NetMetrics {
    return this.#shared.metrics;
  }

  activate(accepted: FeatureBits, queues: readonly (VirtQueue | undefined)[]): void {
    this.#isActive = true;
    this.#options.backend.setOffloads(accepted.low);
    const mergeable = hasFeature(accepted, regs.FEATURE_MRG_RXBUF_BIT);
    this.#receiver.activate(queues[regs.RECEIVE_QUEUE], mergeable);
    this.#transmitter.activate(queues[regs.TRANSMIT_QUEUE]);
    // Frames may have come before there was a driver, whose arrival nobody tells again.
    this.#shared.host.notifyQueue(regs.RECEIVE_QUEUE);
  }

  processQueue(queueIndex: number): void {
    if (queueIndex === regs.RECEIVE_QUEUE) {
      this.metrics.rx_queue_event_count++;
      this.#receiver.process();
    } else {
      this.metrics.tx_queue_event_count++;
      this.#transmitter.process();
    }
  }

  reset(): undefined {
    this.#isActive = false;
    this.#receiver.activate(undefined, false);
    this.#transmitter.activate(undefined);
  }

  quiesce(): undefined {
    this.#receiver.release();
    this.#transmitter.release();
  }

  /** The limiter of this direction may admit again what it has refused. */
  resumeThrottled(direction: "receive" | "transmit"): void {
    if (direction === "receive") this.metrics.rx_event_rate_limiter_count++;
    else this.metrics.tx_rate_limiter_event_count++;
    const queue = direction === "receive" ? regs.RECEIVE_QUEUE : regs.TRANSMIT_QUEUE;
    this.#shared.host.notifyQueue(queue);
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

  /** Sends a frame (from its Ethernet header on) to the guest; dropped while it has no driver. */
  sendToGuest(frame: Uint8Array): void {
    if (!this.#isActive || !this.#shared.isLinkUp) {
      this.metrics.rx_fails++;
      return;
    }
    this.#receiver.inject(frame);
    this.#shared.host.notifyQueue(regs.RECEIVE_QUEUE);
  }

  /** Sends a frame (from its Ethernet header on) to the host as if it were the guest's; false: no room. */
  sendToHost(frame: Uint8Array): boolean {
    const whole = new Uint8Array(regs.HEADER_BYTES + frame.length);
    whole.set(frame, regs.HEADER_BYTES);
    return this.#options.backend.sendBytes(whole);
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
      offloads: this.#options.backend.supportsOffloads,
    };
  }

  #configuration(): Uint8Array {
    const bytes = new Uint8Array(regs.CONFIG_BYTES);
    const view = new DataView(bytes.buffer);
    bytes.set(this.#options.mac, regs.CONFIG_MAC_OFFSET);
    const status = this.#shared.isLinkUp ? regs.STATUS_LINK_UP_MASK : 0;
    view.setUint16(regs.CONFIG_STATUS_OFFSET, status, true);
    view.setUint16(regs.CONFIG_MAX_PAIRS_OFFSET, 1, true);
    view.setUint16(regs.CONFIG_MTU_OFFSET, this.#options.mtu ?? 0, true);
    return bytes;
  }
}
