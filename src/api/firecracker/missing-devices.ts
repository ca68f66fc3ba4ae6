/**
 * Operations on devices that this build does not have: checked as Firecracker checks them, then refused. A
 * device that comes takes its rows out of this table.
 */
import type { TSchema } from "typebox";
import * as schemas from "./device-schemas.js";
import { Fault, ID_MISMATCH } from "./faults.js";
import { NO_CONTENT, type Operation } from "./operation.js";

/** What is missing, by the words of its refusal and its section in a configuration file. */
export const MISSING_SECTIONS: Readonly<Record<string, string>> = {
  pmem: "persistent memory device",
  "memory-hotplug": "memory hotplug",
};

/** What a request for a missing device is told. */
export function missingFault(device: string): Fault {
  return new Fault(`This build has no ${device} yet.`);
}

interface Row {
  readonly operationId: string;
  readonly method: Operation["method"];
  readonly path: string;
  readonly device: string;
  readonly when: Operation["when"];
  readonly body?: TSchema;
  /** Of a 200 reply. */
  readonly reply?: TSchema;
  readonly counter?: string;
  readonly id?: NonNullable<Operation["id"]>;
  readonly isBodyOptional?: boolean;
}

const PMEM_ID = { field: "id", mismatch: () => ID_MISMATCH } as const;
const PMEM = { path: "/pmem/{id}", device: "persistent memory device", id: PMEM_ID };
const MEMORY = {
  path: "/hotplug/memory",
  device: "memory hotplug",
  counter: "hotplug_memory",
} as const;

// biome-ignore format: one row for each operation
const ROWS: readonly Row[] = [
  { ...PMEM, operationId: "putGuestPmemByID", method: "PUT", when: "before boot", body: schemas.Pmem, counter: "pmem" },
  { ...PMEM, operationId: "patchGuestPmemByID", method: "PATCH", when: "after boot", body: schemas.PmemUpdate, counter: "pmem" },
  { ...MEMORY, operationId: "putMemoryHotplug", method: "PUT", when: "before boot", body: schemas.MemoryHotplug },
  { ...MEMORY, operationId: "patchMemoryHotplug", method: "PATCH", when: "after boot", body: schemas.MemoryHotplugUpdate },
  { ...MEMORY, operationId: "getMemoryHotplug", method: "GET", when: "after boot", reply: schemas.MemoryHotplugStatus },
  { operationId: "createSnapshot", method: "PUT", path: "/snapshot/create", device: "snapshots", when: "after boot", body: schemas.SnapshotCreate },
  { operationId: "loadSnapshot", method: "PUT", path: "/snapshot/load", device: "snapshots", when: "before boot", body: schemas.SnapshotLoad },
  { operationId: "deleteGuestDriveByID", method: "DELETE", path: "/drives/{drive_id}", device: "PCI hotplug", when: "after boot" },
  { operationId: "deleteGuestPmemByID", method: "DELETE", path: "/pmem/{id}", device: "PCI hotplug", when: "after boot" },
  { operationId: "deleteGuestNetworkInterfaceByID", method: "DELETE", path: "/network-interfaces/{iface_id}", device: "PCI hotplug", when: "after boot" },
];

function refusal({ device, reply, ...row }: Row): Operation {
  return {
    ...row,
    tag: "Missing",
    summary: `Refused: this build has no ${device} yet.`,
    replies:
      reply === undefined
        ? NO_CONTENT
        : { 200: { description: "As it is.", schema: reply }, 400: NO_CONTENT[400] },
    run(): never {
      throw missingFault(device);
    },
  };
}

export const MISSING_OPERATIONS: readonly Operation[] = ROWS.map(refusal);
