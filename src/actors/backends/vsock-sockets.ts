/**
 * Unix sockets as the host's side of vsock, with Firecracker's protocol (docs/vsock.md of Firecracker 1.17).
 *
 *     program ─ connect udsPath, "CONNECT 52\n" ─▶ … ◀─ "OK 1073741824\n" ─ then bytes ─▶ the guest's port 52
 *     the guest connects to port 7 of context 2 ─▶ connects to udsPath + "_7"
 */
import { randomBytes } from "node:crypto";
import { linkSync, lstatSync, rmSync, type Stats } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { VsockConnection, VsockEnd } from "../../devices/virtio/vsock-connection.js";
import { type EstaloError, hostError } from "../../errors.js";
import { KeptBytes } from "../kept-bytes.js";

/** The greeting with its newline, as Firecracker reads it. */
const GREETING_BYTES_MAX = 32;
/** A program that connects says what it wants within this, ms. */
const GREETING_TIMEOUT_MS = 30_000;
const NEWLINE = 10;
/** Words between ASCII blanks, of which the first two count; the port as Rust reads a number. */
const GREETING = /^[\t\f\r ]*CONNECT[\t\f\r ]+\+?([0-9]+)(?:[\t\f\r ]|$)/i;
const PORT_MAX = 0xffff_ffff;

/** The guest, for programs that connect to it. */
export interface VsockGuest {
  /** Calls one of both, now or later: whether a program may connect to this port of the guest's. */
  permit(port: number, go: () => void, refuse: () => void): void;
  /** Connects to a port of the guest's; `undefined`: it cannot be now. */
  connect(port: number, end: VsockEnd): VsockConnection | undefined;
}

/** Counters of what programs did. */
export interface VsockSocketMetrics {
  conn_event_fails: number;
  muxer_event_fails: number;
}

/** Everything that a socket and a connection tell each other. */
function join(socket: Socket, connection: () => VsockConnection | undefined): VsockEnd {
  socket.on("data", (bytes) => {
    // A plain view of what the socket has read, which is nobody else's.
    const { buffer, byteOffset, length } = bytes as Uint8Array;
    const view = new Uint8Array(buffer, byteOffset, length);
    if (connection()?.write(view) === false) socket.pause();
  });
  socket.on("end", () => connection()?.end());
  socket.on("error", () => connection()?.destroy());
  // What the guest still sends to a program that is gone is nobody's.
  socket.on("close", () => connection()?.close());
  /** Behind what the program has not read: a guest makes its packets as small as it likes. */
  const unwritten = new KeptBytes();
  const write = (bytes: Uint8Array) => {
    socket.write(bytes, (error) => {
      if (error !== null && error !== undefined) return;
      connection()?.consumed(bytes.length);
      if (socket.writableLength === 0) flush();
    });
  };
  const flush = () => {
    if (unwritten.length > 0) write(unwritten.take());
  };
  return {
    onData: (bytes) => {
      if (unwritten.length > 0 || socket.writableLength > 0) unwritten.append(bytes);
      else write(bytes);
    },
    onEnd: () => {
      flush();
      socket.end();
    },
    onDrain: () => socket.resume(),
    onClose: (reason) => {
      flush();
      // What was written still goes out. Its end is not waited for: a paused socket never says it, and a program
      // that writes hears in this way only that nobody reads.
      if (reason === "ended") socket.destroySoon();
      else socket.destroy();
    },
  };
}

/** See the file's header. Thread: the device host's. */
export class VsockSockets {
  readonly metrics: VsockSocketMetrics = { conn_event_fails: 0, muxer_event_fails: 0 };

  readonly #path: string;
  readonly #guest: VsockGuest;
  readonly #server: Server;
  readonly #bound: Stats;
  readonly #sockets = new Set<Socket>();
  readonly #socketsMax: number;

  /**
   * Listens; raises ERR_ESTALO_VSOCK_SOCKET when the path is taken or cannot be had.
   *
   * @param connectionsMax - programs that may be connected at once
   */
  constructor(path: string, connectionsMax: number, guest: VsockGuest) {
    this.#path = path;
    this.#guest = guest;
    // The guest's have no more than the programs': those that are over, too, whose programs do not read.
    this.#socketsMax = 2 * connectionsMax;
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: false }, (socket) =>
      this.#greet(socket),
    );
    this.#server.maxConnections = connectionsMax;
    // A socket that cannot be accepted is its program's matter; what is wrong with the path shows below.
    this.#server.on("error", () => {
      this.metrics.muxer_event_fails++;
    });
    this.#bound = this.#bind();
  }

  /** The guest asks for a port of the host's: whoever listens at its path gets the connection. */
  offer(connection: VsockConnection): void {
    if (this.#sockets.size >= this.#socketsMax) {
      this.metrics.conn_event_fails++;
      connection.destroy();
      return;
    }
    const socket = connect({ path: `${this.#path}_${connection.hostPort}`, allowHalfOpen: true });
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    const refuse = () => {
      this.metrics.conn_event_fails++;
      connection.destroy();
    };
    socket.once("error", refuse);
    socket.once("connect", () => {
      socket.off("error", refuse);
      if (connection.isClosed) socket.destroy();
      else connection.accept(join(socket, () => connection));
    });
  }

  /** Ends every socket and takes the path away, if it is still ours. Idempotent. */
  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    const now = lstatSync(this.#path, { throwIfNoEntry: false });
    if (now?.ino === this.#bound.ino && now.dev === this.#bound.dev)
      rmSync(this.#path, { force: true });
  }

  /**
   * Bound when it returns: who hears that the microVM runs finds the socket there. Under another name first,
   * since Node removes whatever has the bound name when it closes, and since a link never replaces a file.
   */
  #bind(): Stats {
    const path = this.#path;
    const bound = `${path}.${randomBytes(3).toString("hex")}`;
    this.#server.listen(bound);
    try {
      linkSync(bound, path);
      return lstatSync(path);
    } catch (error) {
      this.#server.close();
      throw socketError(path, error);
    } finally {
      rmSync(bound, { force: true });
    }
  }

  /** Reads what the program wants; what it sends after that is for the guest. */
  #greet(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    const fail = () => {
      this.metrics.conn_event_fails++;
      socket.destroy();
    };
    let line: Uint8Array = new Uint8Array(0);
    const onData = (bytes: Uint8Array) => {
      line = Buffer.concat([line, bytes]);
      const end = line.indexOf(NEWLINE);
      if (end < 0 && line.length < GREETING_BYTES_MAX) return;
      stop();
      const text =
        end < 0 || end >= GREETING_BYTES_MAX ? "" : Buffer.from(line).toString("latin1", 0, end);
      const port = Number(GREETING.exec(text)?.[1] ?? Number.NaN);
      if (port <= PORT_MAX) this.#connect(socket, port, line.subarray(end + 1));
      else fail();
    };
    const stop = () => {
      clearTimeout(timer);
      socket.pause();
      socket.off("data", onData);
      socket.off("error", fail);
      socket.off("end", fail);
      socket.off("close", stop);
    };
    const timer = setTimeout(fail, GREETING_TIMEOUT_MS).unref();
    socket.on("data", onData);
    socket.on("error", fail);
    socket.on("end", fail);
    socket.on("close", stop);
  }

  #connect(socket: Socket, port: number, rest: Uint8Array): void {
    let connection: VsockConnection | undefined;
    const end: VsockEnd = {
      ...join(socket, () => connection),
      onOpen: () => {
        socket.write(`OK ${connection?.hostPort}\n`);
        socket.resume();
      },
    };
    // Nothing is read before the guest has accepted.
    socket.pause();
    const refuse = () => {
      this.metrics.conn_event_fails++;
      socket.destroy();
    };
    const go = () => {
      if (socket.destroyed) return;
      connection = this.#guest.connect(port, end);
      // At once: a program that ends its side is heard before the guest has accepted.
      if (connection === undefined) {
        refuse();
        return;
      }
      connection.write(Uint8Array.from(rest));
      // Heard while functions decided.
      if (socket.readableEnded) connection.end();
    };
    this.#guest.permit(port, go, refuse);
  }
}

function socketError(path: string, error: unknown): EstaloError {
  const hint = "its folder must exist and be writable, and nothing may have its name";
  return hostError("listen on", path, error, "ERR_ESTALO_VSOCK_SOCKET", hint);
}
