/**
 * /v1/microvms/{id}/limits: what a microVM's rate limiters do, as it happens, to one client. Lossy: a client that
 * does not read gets nothing until it has, and is told how much that was.
 */
import type { Observable } from "rxjs";
import type { DeviceRateLimitEvent } from "../../actors/rate-limits.js";
import { serialiserOf } from "../serialise.js";
import type { DoorFleet } from "./fleet.js";
import { LimitMessage, LimitsHello } from "./limit-schemas.js";
import { LossySession, type OpenSession, openLive, type Subscribe } from "./lossy-session.js";

const helloJson = serialiserOf(LimitsHello);
const messageJson = serialiserOf(LimitMessage);

/** What opens the session of one client; a microVM that is not there, or does not run, closes the socket. */
export function openLimits(fleet: DoorFleet, idOrName: string): OpenSession {
  return openLive(fleet, idOrName, "limits", (id, { devices: { rateLimits$ } }) => {
    const hello = helloJson({ type: "hello", version: 1, microvm: id });
    return (peer) => new LossySession(peer, hello, subscriptionTo(rateLimits$));
  });
}

function subscriptionTo(events$: Observable<DeviceRateLimitEvent>): Subscribe {
  return ({ isReady, send, end }) => {
    let missed = 0;
    const subscribed = events$.subscribe({
      next: ({ dropped = 0, ...event }) => {
        if (!isReady()) missed += 1;
        else send(messageJson({ ...event, atMs: Date.now(), dropped: missed + dropped }));
      },
      complete: end,
    });
    return () => subscribed.unsubscribe();
  };
}
