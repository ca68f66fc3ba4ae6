/**
 * /metrics: the Prometheus text format 0.0.4. docs/api.md lists every name.
 *
 * Bounded: at most MICROVMS_MAX microVMs that exist, oldest first, with DEVICES_MAX drives and as many network interfaces each; how many were
 * left out is a gauge of its own. Counters of a microVM start anew with each of its runs, and those of its
 * vCPUs wrap at 2³²; both look like a restart to rate().
 */
import type { FleetState } from "../../actors/fleet-messages.js";
import type { RunningMetrics } from "../../actors/running-microvm.js";
import type { DoorFleet } from "./fleet.js";
import { FLEET_STATES } from "./schemas.js";

/** MicroVMs that have series of their own. */
export const MICROVMS_MAX = 500;
/** Drives of one microVM that have, and network interfaces. */
export const DEVICES_MAX = 16;

/** States in which a microVM exists. */
const LIVE_STATES: readonly FleetState[] = ["starting", "running", "paused", "stopping"];

/** What the server itself counts. */
export interface ServerMetrics {
  readonly version: string;
  readonly uptimeMs: number;
  readonly eventReaders: number;
  /** Totals by name, without the prefix `estalo_` and the suffix `_total`: "api_requests", for example. */
  readonly totals: ReadonlyMap<string, Total>;
  /** Seconds that the event loop was late, by quantile (0 to 1). */
  readonly loopDelaySeconds: ReadonlyMap<number, number>;
  readonly process: ProcessMetrics;
}

/** A counter of the server, whole or by the values of one label. */
export interface Total {
  readonly help: string;
  readonly value: number | { readonly label: string; readonly by: ReadonlyMap<string, number> };
}

export interface ProcessMetrics {
  readonly residentBytes: number;
  readonly heapUsedBytes: number;
  readonly userCpuSeconds: number;
  readonly systemCpuSeconds: number;
  readonly openDescriptors: number;
}

type Labels = Readonly<Record<string, string>>;

/** Families in the order they were first named, each with its samples together, as the format wants. */
class Exposition {
  readonly #families = new Map<string, string[]>();

  add(kind: "counter" | "gauge", name: string, help: string, value: number, labels?: Labels): void {
    let lines = this.#families.get(name);
    if (lines === undefined) {
      lines = [`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`];
      this.#families.set(name, lines);
    }
    lines.push(`${name}${labelText(labels)} ${value}`);
  }

  toString(): string {
    return `${[...this.#families.values()].flat().join("\n")}\n`;
  }
}

function labelText(labels: Labels | undefined): string {
  if (labels === undefined) return "";
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return `{${pairs.join(",")}}`;
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** The whole page. */
export async function prometheusText(fleet: DoorFleet, server: ServerMetrics): Promise<string> {
  const page = new Exposition();
  addServer(page, fleet, server);
  addProcess(page, server);
  const { items } = fleet.list({ states: LIVE_STATES, limit: MICROVMS_MAX });
  const counts = fleet.counts();
  const live = LIVE_STATES.reduce((sum, state) => sum + counts[state], 0);
  page.add(
    "gauge",
    "estalo_microvms_without_series",
    `MicroVMs that exist beyond the ${MICROVMS_MAX} with series of their own.`,
    Math.max(0, live - items.length),
  );
  const machines = items.map(({ id, name }) => ({ id, name, machine: fleet.supervisor(id) }));
  await Promise.all(machines.map(({ machine }) => machine?.refreshMetrics?.()));
  for (const { id, name, machine } of machines) {
    if (machine !== undefined) addMicrovm(page, { id, name }, machine.metrics);
  }
  return page.toString();
}

function addServer(page: Exposition, fleet: DoorFleet, server: ServerMetrics): void {
  page.add("gauge", "estalo_info", "Version of Estalo and of Node.js; always 1.", 1, {
    version: server.version,
    node: process.version,
  });
  const uptime = server.uptimeMs / 1000;
  page.add("gauge", "estalo_uptime_seconds", "Since the server started.", uptime);
  const counts = fleet.counts();
  for (const state of FLEET_STATES) {
    page.add("gauge", "estalo_microvms", "MicroVMs by state.", counts[state], { state });
  }
  const { newest } = fleet.events;
  page.add("counter", "estalo_events_total", "Events of the fleet, ever.", newest);
  page.add("gauge", "estalo_event_readers", "Open /v1/events sockets.", server.eventReaders);
  for (const [name, value] of Object.entries(fleet.counters)) {
    const family = `estalo_fleet_${snakeCase(name)}_total`;
    page.add("counter", family, `The fleet's ${name}; docs/api.md.`, value);
  }
  for (const [name, { help, value }] of server.totals) {
    const family = `estalo_${name}_total`;
    if (typeof value === "number") page.add("counter", family, help, value);
    else
      for (const [label, count] of value.by) {
        page.add("counter", family, help, count, { [value.label]: label });
      }
  }
}

function addProcess(page: Exposition, { process: own, loopDelaySeconds }: ServerMetrics): void {
  const gauge = (name: string, help: string, value: number) => page.add("gauge", name, help, value);
  gauge("process_resident_memory_bytes", "Resident memory.", own.residentBytes);
  gauge("process_open_fds", "Open file descriptors.", own.openDescriptors);
  gauge("nodejs_heap_size_used_bytes", "JavaScript heap in use.", own.heapUsedBytes);
  const cpu = { user: own.userCpuSeconds, system: own.systemCpuSeconds };
  for (const [mode, seconds] of Object.entries(cpu)) {
    const name = "estalo_process_cpu_seconds_total";
    page.add("counter", name, "CPU time of the process, guests included.", seconds, { mode });
  }
  for (const [quantile, seconds] of loopDelaySeconds) {
    const name = "nodejs_eventloop_lag_seconds";
    const labels = { quantile: String(quantile) };
    page.add("gauge", name, "Lateness of the event loop since the last scrape.", seconds, labels);
  }
}

type MicrovmIdentity = { readonly id: string; readonly name: string };

function addMicrovm(page: Exposition, microvm: MicrovmIdentity, metrics: RunningMetrics): void {
  const { vcpus, drives, networkInterfaces, serial } = metrics;
  const count = (name: string, help: string, value: number, labels: Labels = {}) =>
    page.add("counter", `estalo_microvm_${name}_total`, help, value, { ...microvm, ...labels });
  const exits = {
    "io-in": sum(vcpus.map((vcpu) => vcpu.exitIoIn)),
    "io-out": sum(vcpus.map((vcpu) => vcpu.exitIoOut)),
    "mmio-read": sum(vcpus.map((vcpu) => vcpu.exitMmioRead)),
    "mmio-write": sum(vcpus.map((vcpu) => vcpu.exitMmioWrite)),
    other: sum(vcpus.map((vcpu) => vcpu.exitOther)),
  };
  for (const [kind, value] of Object.entries(exits)) {
    count("exits", "Exits of all its vCPUs by kind.", value, { kind });
  }
  const { transmittedBytes, receivedBytes } = serial;
  const direction = "Bytes on its serial line.";
  count("serial_bytes", direction, transmittedBytes, { direction: "from-guest" });
  count("serial_bytes", direction, receivedBytes, { direction: "to-guest" });
  const dropped = "Bytes from the guest beyond the serial line's rate limit.";
  count("serial_dropped_bytes", dropped, serial.droppedBytes);
  for (const [drive, own] of Object.entries(drives).slice(0, DEVICES_MAX)) {
    const bytes = "Bytes of a drive's requests.";
    count("drive_bytes", bytes, own.read_bytes, { drive, operation: "read" });
    count("drive_bytes", bytes, own.write_bytes, { drive, operation: "write" });
    const requests = "Requests of a drive.";
    count("drive_requests", requests, own.read_count, { drive, operation: "read" });
    count("drive_requests", requests, own.write_count, { drive, operation: "write" });
    count("drive_requests", requests, own.flush_count, { drive, operation: "flush" });
    const failures = "Requests of a drive that failed.";
    count("drive_failures", failures, own.execute_fails, { drive, cause: "host" });
    count("drive_failures", failures, own.invalid_reqs_count, { drive, cause: "guest" });
  }
  for (const [name, own] of Object.entries(networkInterfaces).slice(0, DEVICES_MAX)) {
    const both = (metric: string, help: string, received: number, sent: number) => {
      count(metric, help, received, { interface: name, direction: "to-guest" });
      count(metric, help, sent, { interface: name, direction: "from-guest" });
    };
    both("network_bytes", "Bytes of frames.", own.rx_bytes_count, own.tx_bytes_count);
    both("network_frames", "Frames.", own.rx_packets_count, own.tx_packets_count);
    both("network_failures", "Frames that failed.", own.rx_fails, own.tx_fails);
  }
  addMemoryAndSockets(metrics, count);
}

function addMemoryAndSockets(
  { vsock, balloon, memoryHotplug, mmds }: RunningMetrics,
  count: (name: string, help: string, value: number, labels?: Labels) => void,
): void {
  if (vsock !== undefined) {
    const bytes = "Bytes of streams between host and guest.";
    count("vsock_bytes", bytes, vsock.rx_bytes_count, { direction: "to-guest" });
    count("vsock_bytes", bytes, vsock.tx_bytes_count, { direction: "from-guest" });
    count("vsock_connections", "Connections, ever.", vsock.conns_added);
  }
  if (balloon !== undefined) {
    const freed = "Bytes of free pages that the guest gave back.";
    count("balloon_freed_bytes", freed, balloon.free_page_report_freed, { by: "reporting" });
    count("balloon_freed_bytes", freed, balloon.free_page_hint_freed, { by: "hinting" });
  }
  if (memoryHotplug !== undefined) {
    const plugged = "Bytes of memory that were plugged and unplugged.";
    count("memory_hotplug_bytes", plugged, memoryHotplug.plug_bytes, { operation: "plug" });
    count("memory_hotplug_bytes", plugged, memoryHotplug.unplug_bytes, { operation: "unplug" });
  }
  if (mmds !== undefined) {
    count("mmds_connections", "Connections to the metadata service.", mmds.connections_created);
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
