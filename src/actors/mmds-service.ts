/**
 * The metadata service of one microVM: one store, one key for tokens, and a stack in the transmit path of each
 * interface that reaches it. No socket of the host is involved.
 */
import { MetadataService } from "../devices/mmds/metadata.js";
import { createMmdsMetrics, type MmdsMetrics, type MmdsState } from "../devices/mmds/mmds.state.js";
import { MmdsStack } from "../devices/mmds/mmds-stack.js";
import { RETRANSMISSION_US } from "../devices/mmds/tcp-connection.js";
import { TokenAuthority } from "../devices/mmds/tokens.js";
import type { VirtioNet } from "../devices/virtio/net.js";
import { hostEntropy } from "./backends/entropy.js";
import { HostTokenSealer } from "./backends/token-sealer.js";
import type { CheckedMmds } from "./config-mmds.js";
import { MetadataStore } from "./metadata-store.js";
import { nowUs } from "./rate-limits.js";

/** See the file's header. Thread: the device host's. */
export class MmdsFamily {
  readonly metrics: MmdsMetrics = createMmdsMetrics();
  /** What the guest can ask for. */
  readonly data: MetadataStore;
  readonly #config: CheckedMmds;
  readonly #service: MetadataService;
  readonly #closers: (() => void)[] = [];

  /** Raises ERR_ESTALO_CONFIG_INVALID or ERR_ESTALO_TOO_LARGE for data that cannot be stored. */
  constructor(config: CheckedMmds, microVmId: string) {
    this.#config = config;
    this.data = new MetadataStore(config.sizeLimitBytes, config.data);
    this.#service = new MetadataService({
      version: config.version,
      imdsCompat: config.imdsCompat,
      store: this.data.store,
      tokens: new TokenAuthority(new HostTokenSealer(), nowUs, microVmId),
      metrics: this.metrics,
    });
  }

  /** Puts the service into an interface's transmit path until `close`, if that one reaches it. */
  attach(id: string, device: Pick<VirtioNet, "addDetour" | "isPaused" | "sendToGuest">): void {
    if (!this.#config.interfaces.includes(id)) return;
    const stack = new MmdsStack({
      ipv4Address: this.#config.ipv4Address,
      metrics: this.metrics,
      nowUs,
      randomU32,
      answer: (request) => this.#service.answer(request),
    });
    let timer: NodeJS.Timeout | undefined;
    let turn: NodeJS.Immediate | undefined;
    const pump = () => {
      turn = undefined;
      clearTimeout(timer);
      if (device.isPaused) {
        // Its guest acknowledges nothing, and is not to find its connections given up for that.
        timer = setTimeout(pump, RETRANSMISSION_US / 1000).unref();
        return;
      }
      for (let frame = stack.takeFrame(); frame !== undefined; frame = stack.takeFrame()) {
        device.sendToGuest(frame);
      }
      const { timeoutUs } = stack;
      if (timeoutUs === undefined) return;
      timer = setTimeout(pump, Math.max(1, Math.ceil((timeoutUs - nowUs()) / 1000))).unref();
    };
    const remove = device.addDetour({
      transmit(start, _frameBytes, copy) {
        if (!stack.isOwn(start) || !stack.handleFrame(copy())) return false;
        // Later: the device is in the middle of its transmit queue.
        turn ??= setImmediate(pump);
        return true;
      },
    });
    this.#closers.push(() => {
      remove();
      clearTimeout(timer);
      clearImmediate(turn);
    });
  }

  /** The service's record for a snapshot. */
  save(): MmdsState {
    const { version, ipv4Address, imdsCompat, interfaces } = this.#config;
    return { version: 1, mmdsVersion: version, ipv4Address, imdsCompat, interfaces };
  }

  /** Leaves every interface; no timer is left. Idempotent. */
  close(): void {
    for (const close of this.#closers.splice(0)) close();
  }
}

function randomU32(): number {
  const bytes = new Uint8Array(4);
  hostEntropy.fill(bytes, bytes.length);
  return new DataView(bytes.buffer).getUint32(0);
}
