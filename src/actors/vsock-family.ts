/**
 * The socket device of one microVM: who on the host is at the other end of its connections, this process's
 * streams or Unix sockets.
 */
import { VirtioVsock } from "../devices/virtio/vsock.js";
import type { VsockConnection, VsockEnd } from "../devices/virtio/vsock-connection.js";
import { EstaloError } from "../errors.js";
import { abortable } from "./abortable.js";
import { GuestAgent } from "./agent/guest-agent.js";
import { AGENT_PORT } from "./agent/protocol.js";
import { VsockSockets } from "./backends/vsock-sockets.js";
import type { CheckedVsock } from "./config-vsock.js";
import type { VirtioDeviceRequest } from "./device-board.js";
import type { DeviceFamily } from "./device-family.js";
import { MiddlewareChain, type MiddlewareReporter } from "./middleware.js";
import { VsockStream, vsockError } from "./vsock-stream.js";

/** A connection that the guest asks for. */
export interface VsockConnect {
  /** The host's port, and the guest's. */
  readonly port: number;
  readonly guestPort: number;
}

/** Takes the guest's connections to a port of the host's. */
export type VsockHandler = (stream: VsockStream) => void;

/** See the file's header. Thread: the device host's. */
export class VsockFamily implements DeviceFamily {
  /** The agent in the guest, where there is one. */
  readonly agent = new GuestAgent((signal) => this.connectTo(AGENT_PORT, signal));
  readonly #config: CheckedVsock;
  readonly #sockets: VsockSockets | undefined;
  /** In the way of the guest's connections to the host. */
  readonly middleware: MiddlewareChain<VsockConnect>;
  readonly #handlers = new Map<number, VsockHandler>();
  #device: VirtioVsock | undefined;

  /** Listens where the configuration says; raises ERR_ESTALO_VSOCK_SOCKET. */
  constructor(config: CheckedVsock, report: MiddlewareReporter = () => {}) {
    this.#config = config;
    // Each holds one of the device's connections.
    this.middleware = new MiddlewareChain("vsock", config.connectionsMax, report);
    const { udsPath, connectionsMax } = config;
    if (udsPath !== undefined) {
      this.#sockets = new VsockSockets(udsPath, connectionsMax, (port, end) =>
        this.#device?.connect(port, end),
      );
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

  /** A stream to a port of the guest's, when it has accepted; rejects with ERR_ESTALO_VSOCK. */
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

  /** As `open`, given up when the signal aborts. */
  async connectTo(port: number, signal: AbortSignal | undefined): Promise<VsockStream> {
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
  }

  #offer(connection: VsockConnection): void {
    if (this.middleware.isUsed) void this.#ask(connection);
    else this.#connect(connection);
  }

  /** Lets functions look at a connection; one that they do not pass on is refused. */
  async #ask(connection: VsockConnection): Promise<void> {
    const { hostPort, guestPort } = connection;
    let isOffered = false;
    await this.middleware.send({ port: hostPort, guestPort }, () => {
      isOffered = true;
      if (!connection.isClosed) this.#connect(connection);
    });
    if (!isOffered) connection.destroy();
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
