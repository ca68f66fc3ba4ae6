/**
 * TLS before a server: Node ends it and hands the plain stream to a Unix socket in a private folder.
 *
 * uWebSockets.js could do TLS itself, but lets clients without a certificate in when it is told an authority
 * for theirs (3.0.6; tried), and offers no way to look at the certificate afterwards.
 */
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream";
import { createServer, type SecureContextOptions, type Server, type TLSSocket } from "node:tls";
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
  readonly maxConnections: number;
}

const HANDSHAKE_TIMEOUT_MS = 10_000;

/** A TLS server whose connections end in a Unix socket. */
export class TlsFront {
  /** Where the server behind it is to listen. */
  readonly innerPath: string;
  readonly #folder = mkdtempSync(join(tmpdir(), "estalo-tls-"));
  readonly #files: TlsFiles;
  readonly #server: Server;
  readonly #clients = new Set<TLSSocket | Socket>();

  private constructor(files: TlsFiles, server: Server) {
    this.#files = files;
    this.#server = server;
    this.innerPath = join(this.#folder, "http");
  }

  /** @throws ERR_ESTALO_LISTEN for files it cannot use, and an address it cannot have */
  static async listen(options: TlsFrontOptions): Promise<TlsFront> {
    const { files } = options;
    const server = withFiles(files, (context) =>
      createServer({ ...context, ...clientRules(files) }),
    );
    const front = new TlsFront(files, server);
    server.maxConnections = options.maxConnections;
    // A handshake that fails ends that connection only.
    server.on("tlsClientError", (_error, socket) => socket.destroy());
    server.on("connection", (socket: Socket) => front.#keep(socket));
    server.on("secureConnection", (client) => front.#join(client));
    await new Promise<void>((resolve, reject) => {
      const refuse = (error: Error) => {
        front.close();
        reject(
          hostError("listen on", `${options.host}:${options.port}`, error, "ERR_ESTALO_LISTEN"),
        );
      };
      server.once("error", refuse);
      server.listen({ host: options.host, port: options.port }, () => {
        server.off("error", refuse);
        // What accept(2) says later (no descriptor, no memory, a peer's network) is of one connection.
        server.on("error", () => {});
        resolve();
      });
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

  /** Reads the files again, for handshakes from now on; with ERR_ESTALO_LISTEN the old ones stay. */
  reload(): void {
    withFiles(this.#files, (context) => this.#server.setSecureContext(context));
  }

  /** Ends every connection. */
  close(): void {
    this.#server.close();
    for (const socket of this.#clients) socket.destroy();
    try {
      rmSync(this.#folder, { recursive: true, force: true });
    } catch {
      // The folder for temporary files takes no writes any more.
    }
  }

  #keep(socket: Socket): void {
    this.#clients.add(socket);
    socket.once("close", () => this.#clients.delete(socket));
  }

  #join(client: TLSSocket): void {
    const inner = connect(this.innerPath);
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

/** What the files hold, given to what uses it. */
function withFiles<Result>(
  files: TlsFiles,
  use: (context: SecureContextOptions) => Result,
): Result {
  const { certFile, keyFile, clientCaFile } = files;
  const [cert, key] = [read(certFile), read(keyFile)];
  const ca = clientCaFile === undefined ? {} : { ca: read(clientCaFile) };
  try {
    // Node takes an authority that is no certificate, and nobody could get in.
    if ("ca" in ca) new X509Certificate(ca.ca as Buffer);
    return use({ cert, key, ...ca, minVersion: "TLSv1.2" });
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

function clientRules({ clientCaFile }: TlsFiles) {
  const rules = { handshakeTimeout: HANDSHAKE_TIMEOUT_MS };
  if (clientCaFile === undefined) return rules;
  return { ...rules, requestCert: true, rejectUnauthorized: true };
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw hostError("read", path, error, "ERR_ESTALO_LISTEN");
  }
}
