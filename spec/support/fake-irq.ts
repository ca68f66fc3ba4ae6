/** An interrupt line that counts its pulses. */
import type { IrqLine } from "../../src/devices/device.js";

export class FakeIrq implements IrqLine {
  count = 0;

  raise(): void {
    this.count++;
  }

  /** Pulses since the last call. */
  take(): number {
    const { count } = this;
    this.count = 0;
    return count;
  }
}
