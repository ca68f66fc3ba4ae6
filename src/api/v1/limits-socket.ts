/**
 * /v1/microvms/{id}/limits: what a microVM's rate limiters do, as it happens, to one client. Lossy: a client that
 * does not read gets nothing until it has, and is told how much that was.
 */
import { isEstaloError } from "../../errors.js";
import type { SocketPeer, SocketSession } from "../http.js";
import { serialiserOf } from "../serialise.js";
import { CLOSE_NOT_FOUND, CLOSE_WRONG_STATE } from "./close-codes.js";
import type { DoorFleet } from "./fleet.js";
import { LimitMessage, LimitsHello } from "./limit-schemas.js";
import { closed, LossySession } from "./lossy-session.js";

const helloJson = serialiserOf(LimitsHello);
const messageJson = serialiserOf(LimitMessage);

/** What opens the session of one client; a microVM that is not there, or does not run, closes the socket. */
export function openLimits(
  fleet: DoorFleet,
  idOrName: string,
): (peer: SocketPeer) => SocketSession {
  try {
    const { id, state } = fleet.get(idOrName);
    const events$ = fleet.supervisor(idOrName)?.devices.rateLimits$;
    if (events$ === undefined) {
      return closed(CLOSE_WRONG_STATE, `the microVM is ${state}: it has no limits`);
    }
    return (peer) =>
      new LossySession(
        peer,
        helloJson({ type: "hello", version: 1, microvm: id }),
        ({ isReady, send, end }) => {
          let missed = 0;
          const subscribed = events$.subscribe({
            next: ({ dropped = 0, ...event }) => {
              if (!isReady()) missed += 1;
              else send(messageJson({ ...event, atMs: Date.now(), dropped: missed + dropped }));
            },
            complete: end,
          });
          return () => subscribed.unsubscribe();
        },
      );
  } catch (error) {
    if (!isEstaloError(error) || error.code !== "ERR_ESTALO_NOT_FOUND") throw error;
    return closed(CLOSE_NOT_FOUND, "there is no such microVM");
  }
}
