/** An interrupt line that counts its pulses. */
import type { IrqLine } from "../devices/device.js";

/** Pulses are counted. */
export class FakeIrq implements IrqLine {
  count = 0;
  /** Hears of each pulse, after it was counted. */
  onRaise: () => void = () => {};

  raise(): void {
    this.count++;
    this.onRaise();
  }

  /** Pulses since the last call. */
  take(): number {
    const { count } = this;
    this.count = 0;
    return count;
  }
}
