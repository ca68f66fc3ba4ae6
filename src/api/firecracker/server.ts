/**
 * Door 1 on a Unix socket: the server with Firecracker's limits, heads and refusals.
 */
import { ApiServer } from "../server.js";
import { bodyTooLarge, type FirecrackerDoor, parserFault, tooManyConnections } from "./door.js";

/** Firecracker's: more are told so and closed. */
const CONNECTIONS_MAX = 10;

/** Options of {@link serveFirecracker}. */
export interface FirecrackerServerOptions {
  /** Nothing may be there yet. */
  readonly socketPath: string;
  /** Largest body. */
  readonly maxPayloadBytes: number;
  /** Called after each reply. */
  readonly onReplied?: () => void;
}

/** Serves the door; raises ERR_ESTALO_LISTEN. */
export function serveFirecracker(
  door: FirecrackerDoor,
  { socketPath, maxPayloadBytes, onReplied }: FirecrackerServerOptions,
): Promise<ApiServer> {
  return ApiServer.listen({
    address: { path: socketPath },
    handler: async (request) => {
      const reply = await door.handle(request);
      if (onReplied !== undefined) setImmediate(onReplied);
      return reply;
    },
    limits: { bodyBytes: maxPayloadBytes, connections: CONNECTIONS_MAX },
    headers: { Server: "Firecracker API", Connection: "keep-alive" },
    reasonPhrases: false,
    replies: {
      tooManyConnections,
      bodyTooLarge,
      badRequest: parserFault,
      failed: ({ message }) => ({
        status: 500,
        body: JSON.stringify({ fault_message: message }),
      }),
    },
  });
}
