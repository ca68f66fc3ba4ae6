/**
 * Operations on devices that this build does not have: checked as Firecracker checks them, then refused. A
 * device that comes takes its rows out of this table.
 */
import type { TSchema } from "typebox";
import * as schemas from "./device-schemas.js";
import { Fault } from "./faults.js";
import { NO_CONTENT, type Operation } from "./operation.js";

interface Row {
  readonly operationId: string;
  readonly method: Operation["method"];
  readonly path: string;
  readonly device: string;
  readonly when: Operation["when"];
  readonly body?: TSchema;
}

// biome-ignore format: one row for each operation
const ROWS: readonly Row[] = [
  { operationId: "createSnapshot", method: "PUT", path: "/snapshot/create", device: "snapshots", when: "after boot", body: schemas.SnapshotCreate },
  { operationId: "loadSnapshot", method: "PUT", path: "/snapshot/load", device: "snapshots", when: "before boot", body: schemas.SnapshotLoad },
  { operationId: "deleteGuestDriveByID", method: "DELETE", path: "/drives/{drive_id}", device: "PCI hotplug", when: "after boot" },
  { operationId: "deleteGuestPmemByID", method: "DELETE", path: "/pmem/{id}", device: "PCI hotplug", when: "after boot" },
  { operationId: "deleteGuestNetworkInterfaceByID", method: "DELETE", path: "/network-interfaces/{iface_id}", device: "PCI hotplug", when: "after boot" },
];

function refusal({ device, ...row }: Row): Operation {
  return {
    ...row,
    tag: "Missing",
    summary: `Refused: this build has no ${device} yet.`,
    replies: NO_CONTENT,
    run(): never {
      throw new Fault(`This build has no ${device} yet.`);
    },
  };
}

export const MISSING_OPERATIONS: readonly Operation[] = ROWS.map(refusal);
