/**
 * The report page: three write-only registers through which a guest says that it has booted, how
 * its command ended, and that it wants to be switched off. All reads give 0; it keeps no state.
 */
import type { DeviceFront, FrontContext } from "./device.js";
import { POWER_OFF, REPORT_BOOTED, REPORT_EXIT_STATUS } from "./events.js";
import {
  BOOTED_BYTE,
  BOOTED_OFFSET,
  EXIT_STATUS_OFFSET,
  POWER_OFF_OFFSET,
  POWER_OFF_VALUE,
} from "./report.regs.js";

/** Front of the report page; posts REPORT_BOOTED, REPORT_EXIT_STATUS and POWER_OFF. */
export class ReportFront implements DeviceFront {
  readonly #context: FrontContext;

  constructor(context: FrontContext) {
    this.#context = context;
  }

  read(): number {
    return 0;
  }

  write(offset: number, sizeBytes: number, value: number): void {
    if (offset === BOOTED_OFFSET && sizeBytes === 1) {
      if (value === BOOTED_BYTE) this.#context.post(REPORT_BOOTED, 0);
    } else if (offset === EXIT_STATUS_OFFSET && sizeBytes === 4) {
      this.#context.post(REPORT_EXIT_STATUS, value);
    } else if (offset === POWER_OFF_OFFSET && sizeBytes === 4) {
      if (value === POWER_OFF_VALUE) this.#context.post(POWER_OFF, 0);
    }
  }
}
