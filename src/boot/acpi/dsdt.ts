/**
 * The DSDT's contents: every device that cannot be found by probing.
 *
 *     \_S5   soft off through the sleep registers
 *     \_SB   V000 … virtio-mmio devices, COM1, PS2, PEVT pvpanic,
 *            VGEN VM generation id, VCLK VMClock,
 *            GED which turns the interrupts of both into notifications
 *
 * Specification: ACPI 6.5 §§ 6.1 (identification), 7.4.2 (_Sx), 5.6.9 (generic event device).
 */
import type { Gsi } from "../../units.js";
import type { VirtioMmioWindow } from "../command-line.js";
import * as layout from "../layout.js";
import * as aml from "./aml.js";

/** What the DSDT lists besides the fixed devices. */
export interface DsdtDevices {
  /** In attach order. */
  readonly virtioDevices: readonly VirtioMmioWindow[];
  /** Interrupts of the VM generation id and of VMClock; no such devices when absent. */
  readonly generation?: GenerationGsis;
}

/** The interrupts that tell a guest that it is another one than before. */
export interface GenerationGsis {
  readonly vmGenId: Gsi;
  readonly vmClock: Gsi;
}

/** The AML after the table's header. */
export function dsdtBody(devices: DsdtDevices): Buffer {
  const sleepType = aml.integer(layout.ACPI_S5_SLEEP_TYPE);
  const zero = aml.integer(0);
  return Buffer.concat([
    aml.name("\\_S5", aml.packageOf(sleepType, sleepType, zero, zero)),
    aml.scope(
      "\\_SB",
      ...devices.virtioDevices.map(virtioDevice),
      serialDevice(),
      keyboardDevice(),
      pvpanicDevice(),
      ...(devices.generation === undefined
        ? []
        : [vmGenIdDevice(), vmClockDevice(), genericEventDevice(devices.generation)]),
    ),
  ]);
}

function virtioDevice({ base, gsi }: VirtioMmioWindow, index: number): aml.Aml {
  return aml.device(
    `V${String(index).padStart(3, "0")}`,
    aml.name("_HID", aml.string("LNRO0005")),
    aml.name("_UID", aml.integer(index)),
    // Coherent: the device's accesses go through the same caches as the processors'.
    aml.name("_CCA", aml.integer(1)),
    aml.name(
      "_CRS",
      aml.resources(aml.memory32Fixed(base, layout.VIRTIO_MMIO_WINDOW_BYTES), aml.interrupt(gsi)),
    ),
  );
}

function serialDevice(): aml.Aml {
  return aml.device(
    "COM1",
    aml.name("_HID", aml.eisaId("PNP0501")),
    aml.name("_UID", aml.integer(0)),
    aml.name("_DDN", aml.string("COM1")),
    aml.name(
      "_CRS",
      aml.resources(
        aml.ioPorts(layout.SERIAL_PORT, layout.SERIAL_PORT_COUNT),
        aml.interrupt(layout.SERIAL_GSI),
      ),
    ),
  );
}

function keyboardDevice(): aml.Aml {
  return aml.device(
    "PS2",
    aml.name("_HID", aml.eisaId("PNP0303")),
    aml.name(
      "_CRS",
      aml.resources(
        aml.ioPorts(layout.I8042_DATA_PORT, 1),
        aml.ioPorts(layout.I8042_COMMAND_PORT, 1),
        aml.interrupt(layout.I8042_GSI),
      ),
    ),
  );
}

function pvpanicDevice(): aml.Aml {
  return aml.device(
    "PEVT",
    aml.name("_HID", aml.string("QEMU0001")),
    aml.name("_CRS", aml.resources(aml.ioPorts(layout.PVPANIC_PORT, 1))),
  );
}

/** Both compatible ids in use: the original one, longer than ACPI allows, and its short form. */
function vmGenIdDevice(): aml.Aml {
  return aml.device(
    "VGEN",
    aml.name("_HID", aml.string("ESTL0001")),
    aml.name("_CID", aml.packageOf(aml.string("VM_Gen_Counter"), aml.string("VMGENCTR"))),
    aml.name("_DDN", aml.string("VM_Gen_Counter")),
    // The address as low and high 32 bits.
    aml.name("ADDR", aml.packageOf(aml.integer(layout.VMGENID_GPA), aml.integer(0))),
  );
}

/** Firecracker's id for it, and the one that the specification has got since. */
function vmClockDevice(): aml.Aml {
  return aml.device(
    "VCLK",
    aml.name("_HID", aml.string("AMZNC10C")),
    aml.name("_CID", aml.string("VMCLOCK")),
    aml.name("_DDN", aml.string("VMCLOCK")),
    aml.name("_CRS", aml.resources(aml.memory32Fixed(layout.VMCLOCK_GPA, layout.VMCLOCK_BYTES))),
  );
}

function genericEventDevice({ vmGenId, vmClock }: GenerationGsis): aml.Aml {
  return aml.device(
    "GED",
    aml.name("_HID", aml.string("ACPI0013")),
    aml.name("_UID", aml.integer(0)),
    aml.name("_CRS", aml.resources(aml.interrupt(vmGenId), aml.interrupt(vmClock))),
    aml.method(
      "_EVT",
      1,
      aml.ifArg0Equals(vmGenId, aml.notify("\\_SB.VGEN")),
      aml.ifArg0Equals(vmClock, aml.notify("\\_SB.VCLK")),
    ),
  );
}
