/**
 * Middleware in the way of network frames: a detour of each interface while somebody wants to see its frames,
 * and nothing otherwise.
 *
 * Frames go through private copies, which is what is passed on: the guest cannot change a frame after it was
 * looked at. Each keeps its virtio-net header, so that checksums and segmentation that were left to do still
 * are. While 256 frames of one direction wait for their functions, others of it are lost, and counted.
 */
import type { FrameDetour } from "../devices/backend.js";
import type { VirtioNet } from "../devices/virtio/net.js";
import { EstaloError } from "../errors.js";
import {
  type Middleware,
  MiddlewareChain,
  type MiddlewareMetrics,
  type MiddlewareReporter,
} from "./middleware.js";

/** Which way a frame, or bytes of the serial port, go. */
export type Direction = "from-guest" | "to-guest";

/** A frame on its way. */
export interface NetFrame {
  /** The interface's id. */
  readonly interface: string;
  readonly direction: Direction;
  /**
   * From the Ethernet header on; up to 64 KiB where segmentation is left to do. To change the frame, change
   * these bytes or put others in their place.
   */
  bytes: Uint8Array;
}

/** Which frames a function is to see. */
export interface NetMiddlewareOptions {
  /** Default: both. */
  readonly direction?: Direction;
}

const HELD_MAX = 256;
const DIRECTIONS = ["from-guest", "to-guest"] as const;

type Device = Pick<VirtioNet, "addDetour" | "sendToGuest" | "sendToHost">;

/** See the file's header. Thread: the device host's. */
export class NetMiddleware {
  readonly #chains: Readonly<Record<Direction, MiddlewareChain<NetFrame>>>;
  readonly #devices = new Map<string, Device>();
  readonly #removals: Record<Direction, (() => void)[]> = { "from-guest": [], "to-guest": [] };
  #outbox: (() => void)[] = [];
  #isClosed = false;

  constructor(report: MiddlewareReporter) {
    const chain = (direction: Direction) => {
      const made = new MiddlewareChain<NetFrame>("net", HELD_MAX, report);
      made.onUse = (isUsed) => this.#onUse(direction, isUsed);
      return made;
    };
    this.#chains = { "from-guest": chain("from-guest"), "to-guest": chain("to-guest") };
  }

  /** An interface was made. */
  add(id: string, device: Device): void {
    this.#devices.set(id, device);
  }

  /**
   * Installs a function in the way of frames from now on, behind those that are there; the returned function
   * takes it out. A frame whose function does not call `next`, or throws, is lost.
   */
  use(middleware: Middleware<NetFrame>, options: NetMiddlewareOptions = {}): () => void {
    const directions = options.direction === undefined ? DIRECTIONS : [options.direction];
    const removals = directions.map((direction) => this.#chains[direction].use(middleware));
    return () => {
      for (const remove of removals) remove();
    };
  }

  /** What has become of the frames of each direction. */
  get metrics(): Readonly<Record<Direction, MiddlewareMetrics>> {
    return {
      "from-guest": this.#chains["from-guest"].metrics,
      "to-guest": this.#chains["to-guest"].metrics,
    };
  }

  /** Frames that are still on their way are lost. */
  close(): void {
    this.#isClosed = true;
    for (const direction of DIRECTIONS) this.#onUse(direction, false);
  }

  #onUse(direction: Direction, isUsed: boolean): void {
    for (const remove of this.#removals[direction].splice(0)) remove();
    if (!isUsed || this.#isClosed) return;
    for (const [id, device] of this.#devices) {
      this.#removals[direction].push(device.addDetour(this.#detour(id, device, direction)));
    }
  }

  /** The device may be in the middle of its receive queue. */
  #sendLater(send: () => void): void {
    this.#outbox.push(send);
    if (this.#outbox.length > 1) return;
    setImmediate(() => {
      for (const each of this.#outbox.splice(0)) if (!this.#isClosed) each();
    });
  }

  #detour(id: string, device: Device, direction: Direction): FrameDetour {
    const take: FrameDetour["transmit"] = (_start, _frameBytes, copy, copyHeader) => {
      const header = copyHeader();
      const pass = ({ bytes }: NetFrame) => {
        if (this.#isClosed) return;
        // Here: what is sent later is told to nobody.
        if (!(bytes instanceof Uint8Array)) throw noBytes(bytes);
        if (direction === "from-guest") device.sendToHost(bytes, header);
        else this.#sendLater(() => device.sendToGuest(bytes, header));
      };
      void this.#chains[direction].send({ interface: id, direction, bytes: copy() }, pass);
      return "charged";
    };
    return direction === "from-guest" ? { transmit: take } : { receive: take };
  }
}

function noBytes(bytes: unknown): EstaloError {
  return new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    `net: a frame's bytes are a Uint8Array, not ${typeof bytes}`,
  );
}
