/**
 * The network interfaces of one microVM: what is behind them, limiters and virtio devices.
 */
import { RateLimiter } from "../devices/rate-limiter.js";
import { VirtioNet } from "../devices/virtio/net.js";
import type { NetMetrics } from "../devices/virtio/net.state.js";
import { EstaloError } from "../errors.js";
import { PasstBackend } from "./backends/passt.js";
import { openTap, TapBackend } from "./backends/tap.js";
import { invalid, onlyFields } from "./config-checks.js";
import { type CheckedInterface, checkForwards, type NetworkInterfaceChange } from "./config-net.js";
import { checkRateLimiter } from "./config-rate-limiter.js";
import type { VirtioDeviceRequest } from "./device-board.js";
import type { DeviceFamily, DeviceSurroundings } from "./device-family.js";
import { GivenFiles } from "./given-files.js";
import { nowUs, RateLimit } from "./rate-limits.js";

/** One interface and what it owns. */
export interface NetworkInterface {
  readonly config: CheckedInterface;
  /** One for each pair of queues. */
  readonly backends: readonly (TapBackend | PasstBackend)[];
  readonly rx: RateLimit;
  readonly tx: RateLimit;
  device: VirtioNet | undefined;
}

/** See the file's header. Thread: the device host's. */
export class NetSet implements DeviceFamily {
  readonly #interfaces: NetworkInterface[] = [];
  readonly #onDevice: (id: string, device: VirtioNet) => void;

  /**
   * Opens every tap that is not given; raises ERR_ESTALO_TAP or ERR_ESTALO_PASST with none left open.
   *
   * @param onDevice - told of each device when it was made
   */
  constructor(
    configs: readonly CheckedInterface[],
    onDevice: (id: string, device: VirtioNet) => void = () => {},
    given = new GivenFiles(),
  ) {
    this.#onDevice = onDevice;
    try {
      for (const config of configs) {
        this.#open(config, openBackends(config, given));
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get requests(): VirtioDeviceRequest[] {
    return this.#interfaces.map((it) => ({
      name: `interface ${it.config.id}`,
      create: (host) => {
        const { mac, mtu } = it.config;
        it.device = new VirtioNet(host, {
          backends: it.backends,
          mac,
          ...(mtu === undefined ? {} : { mtu }),
          receiveLimiter: it.rx.limiter,
          transmitLimiter: it.tx.limiter,
        });
        this.#onDevice(it.config.id, it.device);
        return it.device;
      },
    }));
  }

  connect(surroundings: DeviceSurroundings): void {
    for (const { backends } of this.#interfaces) {
      for (const backend of backends) backend.connect(surroundings);
    }
  }

  /**
   * Changes limits, link or forwards of an interface; raises ERR_ESTALO_INTERFACE_UNKNOWN or
   * ERR_ESTALO_CONFIG_INVALID. Fulfilled when it is done: at once, but for forwards. Rejects with ERR_ESTALO_PASST,
   * and changes nothing, when these cannot be had.
   */
  update(id: string, change: NetworkInterfaceChange): Promise<void> {
    const { rx, tx, device, backends } = this.find(id);
    onlyFields("change", change, ["rxRateLimiter", "txRateLimiter", "isLinkUp", "forwards"]);
    const [backend] = backends;
    const forwards = change.forwards && checkForwards("forwards", change.forwards);
    if (forwards !== undefined && !(backend instanceof PasstBackend)) {
      throw invalid("forwards", "an interface with a user's network", id);
    }
    const rxChange =
      change.rxRateLimiter && checkRateLimiter("rxRateLimiter", change.rxRateLimiter);
    const txChange =
      change.txRateLimiter && checkRateLimiter("txRateLimiter", change.txRateLimiter);
    const apply = () => {
      if (rxChange !== undefined) rx.configure(rxChange);
      if (txChange !== undefined) tx.configure(txChange);
      if (change.isLinkUp !== undefined) device?.setLink(change.isLinkUp);
    };
    if (forwards === undefined) {
      apply();
      return Promise.resolve();
    }
    const done = (backend as PasstBackend).setForwards(forwards).then(apply);
    // Who does not wait for it is not ended by it.
    done.catch(() => {});
    return done;
  }

  /** The interface with this id, or ERR_ESTALO_INTERFACE_UNKNOWN. */
  find(id: string): NetworkInterface {
    const found = this.#interfaces.find(({ config }) => config.id === id);
    if (found !== undefined) return found;
    throw new EstaloError("ERR_ESTALO_INTERFACE_UNKNOWN", `there is no network interface ${id}`, {
      data: { id, interfaces: this.#interfaces.map(({ config }) => config.id) },
    });
  }

  /** Counters of each interface, by id. */
  get metrics(): ReadonlyMap<string, NetMetrics> {
    const entries = this.#interfaces.flatMap(({ config, device }) =>
      device === undefined ? [] : [[config.id, device.metrics] as const],
    );
    return new Map(entries);
  }

  /** The limits at work, by device and direction. */
  get limits(): ReadonlyMap<string, RateLimit> {
    const entries = this.#interfaces.flatMap(({ config, rx, tx }) => [
      [`interface ${config.id} rx`, rx] as const,
      [`interface ${config.id} tx`, tx] as const,
    ]);
    return new Map(entries);
  }

  close(): void {
    for (const { backends, rx, tx } of this.#interfaces) {
      rx.close();
      tx.close();
      for (const backend of backends) backend.close();
    }
  }

  #open(config: CheckedInterface, backends: NetworkInterface["backends"]): void {
    const it: NetworkInterface = {
      config,
      backends,
      rx: new RateLimit(new RateLimiter(config.rxRateLimiter, nowUs), () =>
        it.device?.resumeThrottled("receive"),
      ),
      tx: new RateLimit(new RateLimiter(config.txRateLimiter, nowUs), () =>
        it.device?.resumeThrottled("transmit"),
      ),
      device: undefined,
    };
    this.#interfaces.push(it);
  }
}

function openBackends(config: CheckedInterface, given: GivenFiles): (TapBackend | PasstBackend)[] {
  const { id, tap = "", user, queuePairs } = config;
  const fds = Array.from({ length: queuePairs }, () => given.take(`interface ${id}`));
  const [socket] = fds;
  if (user !== undefined) return [new PasstBackend(user, socket === undefined ? {} : { socket })];
  if (socket === undefined) return openTap(tap, queuePairs);
  return fds.map((fd) => new TapBackend(tap, "only", fd));
}
