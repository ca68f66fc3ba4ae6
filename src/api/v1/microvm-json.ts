/**
 * A record of the fleet and its metrics as door 2 shows them: what is not there is null.
 */
import type { Static } from "typebox";
import type { FleetRecord } from "../../actors/fleet-messages.js";
import type { MachineMetrics } from "./fleet.js";
import type { DeepReadonly } from "./schema-types.js";
import type { Microvm } from "./schemas.js";

/** `Microvm` of the schemas. */
export type MicrovmJson = DeepReadonly<Static<typeof Microvm>>;

/** The record with null for undefined. */
export function microvmJson(record: FleetRecord): MicrovmJson {
  const { exit } = record;
  return {
    id: record.id,
    name: record.name,
    labels: record.labels,
    config: record.config,
    restart: record.restart,
    autoRemove: record.autoRemove,
    state: record.state,
    createdAtMs: record.createdAtMs,
    startedAtMs: record.startedAtMs ?? null,
    endedAtMs: record.endedAtMs ?? null,
    exit:
      exit === undefined
        ? null
        : { ...exit, guestStatus: exit.guestStatus ?? null, error: exit.error ?? null },
    lostReason: record.lostReason ?? null,
    restartCount: record.restartCount,
    restartAtMs: record.restartAtMs ?? null,
  };
}

/** The counters of a microVM: of this run or of the last one; empty before the first. */
export function metricsJson({ id, state }: FleetRecord, metrics: MachineMetrics | undefined) {
  const { vcpus, drives, networkInterfaces, entropy = null, serial } = metrics ?? NOTHING;
  return { id, state, atMs: Date.now(), vcpus, drives, networkInterfaces, entropy, serial };
}

const NOTHING: MachineMetrics = {
  vcpus: [],
  drives: {},
  networkInterfaces: {},
  entropy: undefined,
  serial: { transmittedBytes: 0, receivedBytes: 0, droppedBytes: 0 },
};
