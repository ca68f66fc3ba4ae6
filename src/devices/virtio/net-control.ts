/**
 * The control queue of a network device with several pairs of queues: the driver says how many it uses.
 * Specification: VirtIO 1.2 § 5.1.6.5, its § 5.1.6.5.6 (automatic receive steering).
 */
import { gatherReadable, scatter } from "./chain-io.js";
import type { VirtioHost } from "./device.js";
import * as regs from "./net.regs.js";
import type { NetMetrics } from "./net.state.js";
import { DescriptorChain, type VirtQueue } from "./queue.js";

/** What the one command that there is takes; anything longer or shorter is none that we know. */
const COMMAND_BYTES = regs.CONTROL_HEADER_BYTES + regs.CONTROL_PAIRS_BYTES;

/** See the file's header. */
export class NetControl {
  /** Pairs that the driver may use. */
  pairsMax = 1;

  readonly #host: VirtioHost;
  readonly #metrics: NetMetrics;
  readonly #onPairs: (pairs: number) => void;
  readonly #chain: DescriptorChain;
  readonly #command = new Uint8Array(COMMAND_BYTES);
  readonly #answer = new Uint8Array(1);

  /** @param onPairs - how many pairs the driver uses from now on, 1 to `pairsMax` */
  constructor(
    { host, metrics }: { readonly host: VirtioHost; readonly metrics: NetMetrics },
    queueSize: number,
    onPairs: (pairs: number) => void,
  ) {
    this.#host = host;
    this.#metrics = metrics;
    this.#onPairs = onPairs;
    this.#chain = new DescriptorChain(queueSize);
  }

  /**
   * Obeys one command that the driver offers. One in a turn: it may cost the host's network a millisecond, which
   * a driver that does nothing else must not take from others again and again.
   */
  process(queue: VirtQueue): void {
    const chain = this.#chain;
    if (!queue.next(chain)) {
      if (queue.enableNotifications()) this.#host.deferQueue(queue.index);
      return;
    }
    this.#answer[0] = this.#obey(chain);
    queue.addUsed(chain.head, scatter(this.#host.memory, chain, this.#answer));
    if (queue.publish()) this.#host.interruptQueue(queue.index);
    this.#host.deferQueue(queue.index);
  }

  #obey(chain: DescriptorChain): number {
    this.#metrics.control_count++;
    const command = this.#command;
    if (chain.readableBytes === COMMAND_BYTES && chain.writableBytes > 0) {
      gatherReadable(this.#host.memory, chain, 0, command);
      const pairs = command[2] + 256 * command[3];
      if (
        command[0] === regs.CONTROL_CLASS_MQ &&
        command[1] === regs.CONTROL_MQ_PAIRS_SET &&
        pairs >= 1 &&
        pairs <= this.pairsMax
      ) {
        this.#onPairs(pairs);
        return regs.CONTROL_OK;
      }
    }
    this.#metrics.control_fails++;
    return regs.CONTROL_ERROR;
  }
}
