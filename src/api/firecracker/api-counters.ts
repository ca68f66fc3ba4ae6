/**
 * Counters of door 1 itself, under the names of Firecracker's metrics (1.16, src/vmm/src/logger/metrics.rs).
 */

const PUT = [
  "actions",
  "boot_source",
  "drive",
  "logger",
  "machine_cfg",
  "cpu_cfg",
  "metrics",
  "network",
  "mmds",
  "vsock",
  "pmem",
  "serial",
  "hotplug_memory",
];
const PATCH = ["drive", "network", "machine_cfg", "mmds", "hotplug_memory", "pmem"];
const GET = ["instance_info", "machine_cfg", "mmds", "vmm_version", "hotplug_memory"];

const zeros = (names: readonly string[], kinds: readonly string[]): Record<string, number> =>
  Object.fromEntries(names.flatMap((name) => kinds.map((kind) => [`${name}_${kind}`, 0])));

/** See the file's header; all but the latencies only grow. */
export class ApiCounters {
  readonly get_api_requests = zeros(GET, ["count"]);
  readonly put_api_requests = zeros(PUT, ["count", "fails"]);
  readonly patch_api_requests = zeros(PATCH, ["count", "fails"]);
  readonly deprecated_api = { deprecated_http_api_calls: 0 };
  /** The last ones, in microseconds. */
  readonly latencies_us = { pause_vm: 0, resume_vm: 0, vmm_pause_vm: 0, vmm_resume_vm: 0 };

  count(method: string, name: string | undefined, kind: "count" | "fails"): void {
    if (name === undefined) return;
    const group = this.#group(method);
    const key = `${name}_${kind}`;
    if (group !== undefined && Object.hasOwn(group, key)) group[key] += 1;
  }

  #group(method: string): Record<string, number> | undefined {
    if (method === "GET") return this.get_api_requests;
    if (method === "PUT") return this.put_api_requests;
    return method === "PATCH" ? this.patch_api_requests : undefined;
  }
}
