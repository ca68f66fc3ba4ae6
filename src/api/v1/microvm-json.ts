/**
 * A record of the fleet, its events and its metrics as door 2 shows them: what is not there is null.
 */
import { readFileSync } from "node:fs";
import type { Static } from "typebox";
import type { FleetEvent, FleetRecord } from "../../actors/fleet-messages.js";
import type { MicroVmExit } from "../../actors/messages.js";
import { NO_METRICS, type RunningMetrics } from "../../actors/running-microvm.js";
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
    exit: exit === undefined ? null : exitJson(exit),
    lostReason: record.lostReason ?? null,
    restartCount: record.restartCount,
    restartAtMs: record.restartAtMs ?? null,
  };
}

/** `FleetEvent` of the schemas. */
export function eventJson(event: FleetEvent) {
  return event.type === "exited" ? { ...event, exit: exitJson(event.exit) } : event;
}

function exitJson(exit: MicroVmExit) {
  return { ...exit, guestStatus: exit.guestStatus ?? null, error: exit.error ?? null };
}

/**
 * The counters of a microVM: of this run or of the last one; empty before the first. `threads`: folders in
 * /proc of its vCPUs' threads, empty where there is none.
 */
export function metricsJson(
  { id, state }: FleetRecord,
  metrics: RunningMetrics | undefined,
  threads: readonly string[] = [],
) {
  const { drives, networkInterfaces, pmem, serial, ...others } = metrics ?? NO_METRICS;
  const {
    entropy = null,
    vsock = null,
    balloon = null,
    memoryHotplug = null,
    mmds = null,
  } = others;
  const vcpus = others.vcpus.map((counters, vcpu) => {
    const cpuMs = threadCpuMs(threads[vcpu] ?? "");
    return cpuMs === undefined ? counters : { ...counters, cpuMs };
  });
  return {
    ...{ id, state, atMs: Date.now(), vcpus, drives, networkInterfaces, pmem },
    ...{ entropy, vsock, balloon, memoryHotplug, mmds, serial },
  };
}

/** Processor time of a thread; undefined when there is none, or the kernel does not tell. */
function threadCpuMs(thread: string): number | undefined {
  if (thread === "") return undefined;
  try {
    // Nanoseconds on a processor, nanoseconds waiting for one, time slices (Linux, sched-stats.rst).
    const text = readFileSync(`${thread}/schedstat`, "latin1");
    return Number(text.split(" ", 1)[0]) / 1e6;
  } catch {
    return undefined;
  }
}
