/**
 * TLS before a server: Node ends it and hands the plain stream to a Unix socket in a private folder.
 *
 * uWebSockets.js could do TLS itself, but lets clients without a certificate in when it is told an authority
 * for theirs (3.0.6; tried), and offers no way to look at the certificate afterwards.
 */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, type Socket } from "node:net";
import { pipeline } from "node:stream";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { EstaloError, hostError } from "../errors.js";

/** Files in PEM form. */
export interface TlsFiles {
  /** The server's certificate, and those between it and its authority. */
  readonly certFile: string;
  readonly keyFile: string;
  /** With it, only clients with a certificate of this authority get in. */
  readonly clientCaFile?: string;
}

/** What a front listens on and hands to. */
export interface TlsFrontOptions {
  readonly host: string;
  readonly port: number;
  readonly files: TlsFiles;
  readonly innerPath: string;
  readonly maxConnections: number;
}

const HANDSHAKE_TIMEOUT_MS = 10_000;

/** A TLS server whose connections end in a Unix socket. */
export class TlsFront {
  readonly #server: Server;
  readonly #clients = new Set<TLSSocket | Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  /** @throws ERR_ESTALO_LISTEN for files it cannot use, and an address it cannot have */
  static async listen(options: TlsFrontOptions): Promise<TlsFront> {
    const { files } = options;
    const clientCa = files.clientCaFile === undefined ? undefined : read(files.clientCaFile);
    const server = secureServer(files, clientCa);
    const front = new TlsFront(server);
    server.maxConnections = options.maxConnections;
    // A handshake that fails ends that connection only.
    server.on("tlsClientError", (_error, socket) => socket.destroy());
    server.on("connection", (socket: Socket) => front.#keep(socket));
    server.on("secureConnection", (client) => front.#join(client, options.innerPath));
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error) =>
        reject(
          hostError("listen on", `${options.host}:${options.port}`, error, "ERR_ESTALO_LISTEN"),
        ),
      );
      server.listen({ host: options.host, port: options.port }, resolve);
    });
    return front;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** No new connections; those that are there go on. */
  stopListening(): void {
    this.#server.close();
  }

  /** Ends every connection. */
  close(): void {
    this.#server.close();
    for (const socket of this.#clients) socket.destroy();
  }

  #keep(socket: Socket): void {
    this.#clients.add(socket);
    socket.once("close", () => this.#clients.delete(socket));
  }

  #join(client: TLSSocket, innerPath: string): void {
    const inner = connect(innerPath);
    this.#keep(inner);
    // Either side's end or failure is the other's; nobody is there to be told of it.
    const end = () => {
      client.destroy();
      inner.destroy();
    };
    pipeline(client, inner, () => inner.destroy());
    pipeline(inner, client, end);
  }
}

function secureServer(files: TlsFiles, clientCa: Buffer | undefined): Server {
  const cert = read(files.certFile);
  const key = read(files.keyFile);
  try {
    // Node takes an authority that is no certificate, and nobody could get in.
    if (clientCa !== undefined) new X509Certificate(clientCa);
    return createServer({
      cert,
      key,
      minVersion: "TLSv1.2",
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      ...(clientCa === undefined
        ? {}
        : { ca: clientCa, requestCert: true, rejectUnauthorized: true }),
    });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new EstaloError(
      "ERR_ESTALO_LISTEN",
      `TLS with ${Object.values(files).join(", ")}: ${text}`,
      {
        hint: "give a certificate and its private key, and certificates of authorities, as PEM files",
      },
    );
  }
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw hostError("read", path, error, "ERR_ESTALO_LISTEN");
  }
}
