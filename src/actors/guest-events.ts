/**
 * Which events of a microVM are told. Its guest causes some of them, as often as it likes: it writes to the report
 * page, or resets a device and breaks its queue again. Each would be stored, take the place of somebody else's event
 * in a journal of so many, and be sent to whoever listens.
 */
import type { MicroVmEvent } from "./messages.js";

/** How often each is told in one run; those that are not here come from the owner's calls. */
const TIMES_MAX: Partial<Record<MicroVmEvent["type"], number>> = {
  booted: 1,
  "command-exited": 1,
  panicked: 1,
  "device-needs-reset": 100,
  "device-failed": 1000,
};

/** See the file's header. One for each run. */
export class GuestEvents {
  readonly #times = new Map<string, number>();

  /** Counts one more of this type; false: it is not to be told. */
  admits({ type }: { readonly type: MicroVmEvent["type"] }): boolean {
    const limit = TIMES_MAX[type];
    if (limit === undefined) return true;
    const times = this.#times.get(type) ?? 0;
    if (times === limit) return false;
    this.#times.set(type, times + 1);
    return true;
  }
}
