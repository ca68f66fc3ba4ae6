/**
 * The devices that every microVM has, at the places where a PC or Firecracker has them: what the board is
 * told of a device before it exists.
 */
import * as layout from "../boot/layout.js";
import type { FrontKind } from "../devices/device.js";
import type { MailboxBack, MailboxWiring } from "../devices/mailbox-back.js";
import type { VirtioBack, VirtioHost } from "../devices/virtio/device.js";
import type { Gsi } from "../units.js";

/** Makes the back of a user's device on a bus. */
export type CreateMailbox = (state: Int32Array, wiring: MailboxWiring) => MailboxBack;

/** A device before it exists: its place, and how its back is made. */
export interface DescribedDevice {
  readonly name: string;
  readonly kind: FrontKind;
  readonly space: "pio" | "mmio";
  readonly start: number;
  readonly sizeBytes: number;
  readonly gsi: Gsi | undefined;
  /** Of a virtio device. */
  readonly create: ((host: VirtioHost) => VirtioBack) | undefined;
  /** Of a user's device on a bus. */
  readonly createMailbox?: CreateMailbox;
}

/** In the order of their indices on the board. */
export const LEGACY_DEVICES: readonly DescribedDevice[] = [
  {
    name: "serial",
    kind: "serial-16550",
    space: "pio",
    start: layout.SERIAL_PORT,
    sizeBytes: layout.SERIAL_PORT_COUNT,
    gsi: layout.SERIAL_GSI,
    create: undefined,
  },
  {
    name: "i8042",
    kind: "i8042",
    space: "pio",
    start: layout.I8042_DATA_PORT,
    sizeBytes: layout.I8042_PORT_COUNT,
    gsi: layout.I8042_GSI,
    create: undefined,
  },
  {
    name: "report page",
    kind: "report",
    space: "mmio",
    start: layout.REPORT_PAGE_GPA,
    sizeBytes: layout.REPORT_PAGE_BYTES,
    gsi: undefined,
    create: undefined,
  },
  {
    name: "pvpanic",
    kind: "pvpanic",
    space: "pio",
    start: layout.PVPANIC_PORT,
    sizeBytes: 1,
    gsi: undefined,
    create: undefined,
  },
  {
    name: "acpi power",
    kind: "acpi-power",
    space: "pio",
    start: layout.ACPI_SLEEP_CONTROL_PORT,
    sizeBytes: 2,
    gsi: undefined,
    create: undefined,
  },
];
/** Indices of those with a back. */
export const SERIAL = 0;
export const I8042 = 1;
