/**
 * What the rate limiters of a microVM in a cell do: a stream of the connection, whose frames are events as JSON.
 */
import { Observable } from "rxjs";
import type { DeviceRateLimitEvent } from "../actors/rate-limits.js";
import { checkNothing, checkRateLimitEvent } from "./cell-checks.js";
import type { CellLink } from "./cell-link.js";
import { parseJson } from "./frames.js";

/** From each subscription on; completes when the microVM has ended. What is no event drops the cell. */
export function watchRateLimits(link: CellLink, vm: number): Observable<DeviceRateLimitEvent> {
  return new Observable((subscriber) => {
    const { id, stream } = link.channel.open({
      onBytes: (bytes) => {
        const event = checkRateLimitEvent(parseJson(bytes));
        stream.taken(bytes.length);
        subscriber.next(event);
      },
      onEnd: () => subscriber.complete(),
    });
    const watching = stream.isOpen
      ? link.call(vm, "rateLimits", { stream: id }, checkNothing)
      : Promise.reject();
    watching.catch(() => subscriber.complete());
    return () => stream.close();
  });
}
