/**
 * ACPI's way to switch off: the sleep control and status registers of the hardware-reduced profile.
 * Only S5 exists. Keeps no state. Specification: ACPI 6.5 § 4.8.3.7.
 */
import {
  SLEEP_CONTROL_OFFSET,
  SLP_EN_MASK,
  SLP_TYP_MASK,
  SLP_TYP_S5,
  SLP_TYP_SHIFT,
} from "./acpi-power.regs.js";
import type { DeviceFront, FrontContext } from "./device.js";
import { POWER_OFF } from "./events.js";

/** Front of the sleep registers; posts POWER_OFF. */
export class AcpiPowerFront implements DeviceFront {
  readonly #context: FrontContext;

  constructor(context: FrontContext) {
    this.#context = context;
  }

  read(): number {
    return 0;
  }

  write(offset: number, sizeBytes: number, value: number): void {
    if (offset !== SLEEP_CONTROL_OFFSET || sizeBytes !== 1 || (value & SLP_EN_MASK) === 0) return;
    if ((value & SLP_TYP_MASK) >> SLP_TYP_SHIFT === SLP_TYP_S5) this.#context.post(POWER_OFF, 0);
  }
}
