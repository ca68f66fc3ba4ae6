/**
 * From a front's kind to its class and to the size of its shared words: what each vCPU thread needs
 * to build its own instances over state that other threads hold too.
 *
 * Shared words start as zeros; what a device needs beyond that its back's constructor writes,
 * before any vCPU runs.
 */
import { AcpiPowerFront } from "./acpi-power.js";
import { type DeviceFront, FIRST_STATE_WORD, type FrontContext, type FrontKind } from "./device.js";
import { I8042Front } from "./i8042.js";
import { I8042_WORDS } from "./i8042.state.js";
import { MailboxFront } from "./mailbox.js";
import { MAILBOX_WORDS } from "./mailbox.state.js";
import { PvpanicFront } from "./pvpanic.js";
import { ReportFront } from "./report.js";
import { Serial16550Front } from "./serial-16550.js";
import { SERIAL_WORDS } from "./serial-16550.state.js";
import { MmioTransportFront } from "./virtio/mmio-transport.js";
import { MMIO_TRANSPORT_WORDS } from "./virtio/mmio-transport.state.js";

/** Number of Int32 words of shared state for each kind, the lock included. */
export const STATE_WORDS: Readonly<Record<FrontKind, number>> = {
  "serial-16550": SERIAL_WORDS,
  i8042: I8042_WORDS,
  report: FIRST_STATE_WORD,
  pvpanic: FIRST_STATE_WORD,
  "acpi-power": FIRST_STATE_WORD,
  "virtio-mmio": MMIO_TRANSPORT_WORDS,
  mailbox: MAILBOX_WORDS,
};

/** A new front of this kind over `context.state`, which has `STATE_WORDS[kind]` words. */
export function createFront(kind: FrontKind, context: FrontContext): DeviceFront {
  switch (kind) {
    case "serial-16550":
      return new Serial16550Front(context);
    case "i8042":
      return new I8042Front(context);
    case "report":
      return new ReportFront(context);
    case "pvpanic":
      return new PvpanicFront(context);
    case "acpi-power":
      return new AcpiPowerFront(context);
    case "virtio-mmio":
      return new MmioTransportFront(context);
    case "mailbox":
      return new MailboxFront(context);
  }
}
