/**
 * The socket device of one microVM: who on the host is at the other end of its connections, this process's
 * streams or Unix sockets.
 */
import { VirtioVsock } from "../devices/virtio/vsock.js";
import type { VsockConnection, VsockEnd } from "../devices/virtio/vsock-connection.js";
import { EstaloError } from "../errors.js";
import { abortable, throwIfAborted } from "./abortable.js";
import { GuestAgent } from "./agent/guest-agent.js";
import { AGENT_PORT } from "./agent/protocol.js";
import { VsockSockets } from "./backends/vsock-sockets.js";
import type { CheckedVsock } from "./config-vsock.js";
import type { VirtioDeviceRequest } from "./device-board.js";
import type { DeviceFamily } from "./device-family.js";
import { MiddlewareChain, type MiddlewareReporter } from "./middleware.js";
import type { Direction } from "./net-middleware.js";
import { VsockStream, vsockError } from "./vsock-stream.js";

/** A connection that the guest asks the host for, or the host the guest. */
export interface VsockConnect {
  /** Who asks: the guest, or the host by `vm.connect()` or the device's Unix socket. */
  readonly direction: Direction;
  /** The port that is asked for: the host's "from-guest", the guest's "to-guest". */
  readonly port: number;
  /** The guest's port: "to-guest" the one that is asked for. */
  readonly guestPort: number;
}

/** Takes the guest's connections to a port of the host's. */
export type VsockHandler = (stream: VsockStream) => void;

/** See the file's header. Thread: the device host's. */
export class VsockFamily implements DeviceFamily {
  /** The agent in the guest, where there is one. Its connections are ours, and no function is asked. */
  readonly agent = new GuestAgent((signal) => this.#reach(AGENT_PORT, signal));
  readonly #config: CheckedVsock;
  readonly #sockets: VsockSockets | undefined;
  /** In the way of connections, whoever asks for them; not of the agent's. */
  readonly middleware: MiddlewareChain<VsockConnect>;
  readonly #handlers = new Map<number, VsockHandler>();
  /** Refusals of connections whose functions have not decided yet. */
  readonly #held = new Set<() => void>();
  #device: VirtioVsock | undefined;

  /** Listens where the configuration says; raises ERR_ESTALO_VSOCK_SOCKET. */
  constructor(config: CheckedVsock, report: MiddlewareReporter = () => {}) {
    this.#config = config;
    // Each holds one of the device's connections.
    this.middleware = new MiddlewareChain("vsock", config.connectionsMax, report);
    const { udsPath, connectionsMax } = config;
    if (udsPath !== undefined) {
      this.#sockets = new VsockSockets(udsPath, connectionsMax, {
        permit: (port, go, refuse) => this.#permit(toGuest(port), go, refuse),
        connect: (port, end) => this.#device?.connect(port, end),
      });
    }
  }

  get requests(): VirtioDeviceRequest[] {
    return [
      {
        name: "vsock",
        create: (host) => {
          this.#device = new VirtioVsock(host, {
            guestCid: this.#config.guestCid,
            connectionsMax: this.#config.connectionsMax,
            onRequest: (connection) => this.#offer(connection),
            schedule: (delayMs, task) => {
              const timer = setTimeout(task, delayMs).unref();
              return () => clearTimeout(timer);
            },
          });
          return this.#device;
        },
      },
    ];
  }

  connect(): void {}

  /** Counters under Firecracker's names. */
  get metrics() {
    return this.#device === undefined
      ? undefined
      : { ...this.#device.metrics, ...this.#sockets?.metrics };
  }

  /** A stream to a port of the guest's, when it has accepted; rejects with ERR_ESTALO_VSOCK. Asks no function. */
  open(port: number): { readonly stream: Promise<VsockStream>; cancel(): void } {
    let cancel = () => {};
    const stream = new Promise<VsockStream>((resolve, reject) => {
      let opened: VsockStream | undefined;
      const end: VsockEnd = {
        onOpen: () => {
          opened = new VsockStream(connection as VsockConnection);
          Object.assign(end, opened.end$);
          resolve(opened);
        },
        onData: () => {},
        onEnd: () => {},
        onClose: (reason) => reject(vsockError(port, reason)),
      };
      const connection = this.#device?.connect(port, end);
      if (connection === undefined) reject(vsockError(port, "no driver, or too many connections"));
      cancel = () => connection?.destroy();
    });
    return { stream, cancel: () => cancel() };
  }

  /** A stream as by `open` when functions pass it on, given up when the signal aborts. */
  connectTo(port: number, signal: AbortSignal | undefined): Promise<VsockStream> {
    if (!this.middleware.isUsed) return this.#reach(port, signal);
    const stream = new Promise<VsockStream>((resolve, reject) => {
      const go = () => resolve(this.#reach(port, signal));
      this.#permit(toGuest(port), go, () => reject(vsockError(port, "refused")));
    });
    return abortable(stream, signal);
  }

  /** As `open`, given up when the signal aborts. */
  async #reach(port: number, signal: AbortSignal | undefined): Promise<VsockStream> {
    throwIfAborted(signal);
    const { stream, cancel } = this.open(port);
    try {
      return await abortable(stream, signal);
    } catch (error) {
      cancel();
      throw error;
    }
  }

  /** Takes the guest's connections to this port from now on; the returned function ends that. */
  listen(port: number, handler: VsockHandler): () => void {
    if (this.#handlers.has(port)) {
      throw new EstaloError("ERR_ESTALO_VSOCK", `vsock port ${port} of the host has a handler`, {
        data: { port, reason: "in use" },
      });
    }
    this.#handlers.set(port, handler);
    return () => {
      if (this.#handlers.get(port) === handler) this.#handlers.delete(port);
    };
  }

  close(): void {
    this.agent.close();
    this.#device?.reset();
    this.#sockets?.close();
    this.#handlers.clear();
    const held = [...this.#held];
    this.#held.clear();
    for (const refuse of held) refuse();
  }

  #offer(connection: VsockConnection): void {
    const { hostPort, guestPort } = connection;
    const connect: VsockConnect = { direction: "from-guest", port: hostPort, guestPort };
    const go = () => {
      if (!connection.isClosed) this.#connect(connection);
    };
    this.#permit(connect, go, () => connection.destroy());
  }

  /**
   * Lets functions look at a connection before it is made: `go` when they pass it on, `refuse` when they do not.
   * Without any, `go` at once.
   */
  #permit(connect: VsockConnect, go: () => void, refuse: () => void): void {
    if (!this.middleware.isUsed) {
      go();
      return;
    }
    this.#held.add(refuse);
    const decide = (decision: () => void) => {
      if (this.#held.delete(refuse)) decision();
    };
    void this.middleware.send(connect, () => decide(go)).then(() => decide(refuse));
  }

  #connect(connection: VsockConnection): void {
    const handler = this.#handlers.get(connection.hostPort);
    if (handler !== undefined) {
      const stream = new VsockStream(connection);
      connection.accept(stream.end$);
      handler(stream);
    } else if (this.#sockets !== undefined) {
      this.#sockets.offer(connection);
    } else {
      connection.destroy();
    }
  }
}

function toGuest(port: number): VsockConnect {
  return { direction: "to-guest", port, guestPort: port };
}
