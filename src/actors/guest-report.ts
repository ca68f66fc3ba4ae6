/**
 * What the guest says of itself on the report page: once each. A guest can write there as often as it likes, and
 * each event is stored, numbered and sent to whoever listens.
 */
import { REPORT_BOOTED, REPORT_EXIT_STATUS } from "../devices/events.js";

const STATUS_MAX = 255;

/** See the file's header. One for each run. */
export class GuestReport {
  #isBooted = false;
  #status: number | undefined;

  /** How its command ended, 0 to 255; the first report stands. */
  get status(): number | undefined {
    return this.#status;
  }

  /** What a signal of the report page tells that is new. */
  take(
    event: number,
    value: number,
  ): { type: "booted" } | { type: "command-exited"; status: number } | undefined {
    if (event === REPORT_BOOTED && !this.#isBooted) {
      this.#isBooted = true;
      return { type: "booted" };
    }
    if (event === REPORT_EXIT_STATUS && this.#status === undefined) {
      this.#status = Math.min(value, STATUS_MAX);
      return { type: "command-exited", status: this.#status };
    }
    return undefined;
  }
}
