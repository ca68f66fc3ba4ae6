/**
 * pvpanic: the guest's kernel reports that it panicked. One byte register, no state.
 * Specification: QEMU documentation, "PVPANIC DEVICE".
 */
import type { DeviceFront, FrontContext } from "./device.js";
import { PANICKED } from "./events.js";
import { CRASH_LOADED_MASK, EVENTS_OFFSET, PANICKED_MASK } from "./pvpanic.regs.js";

const SUPPORTED_MASK = PANICKED_MASK | CRASH_LOADED_MASK;

/** Front of pvpanic; posts PANICKED with the supported bits that were written. */
export class PvpanicFront implements DeviceFront {
  readonly #context: FrontContext;

  constructor(context: FrontContext) {
    this.#context = context;
  }

  read(offset: number): number {
    return offset === EVENTS_OFFSET ? SUPPORTED_MASK : 0;
  }

  write(offset: number, sizeBytes: number, value: number): void {
    const events = value & SUPPORTED_MASK;
    if (offset === EVENTS_OFFSET && sizeBytes === 1 && events !== 0) {
      this.#context.post(PANICKED, events);
    }
  }
}
