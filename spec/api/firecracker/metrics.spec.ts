import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiCounters } from "../../../src/api/firecracker/api-counters.js";
import { MachineMetrics } from "../../../src/api/firecracker/machine-metrics.js";
import { MetricsWriter } from "../../../src/api/firecracker/metrics.js";
import {
  addApiCounters,
  type MetricsGroups,
  zeroGroups,
} from "../../../src/api/firecracker/metrics-fields.js";
import { createMmdsMetrics } from "../../../src/devices/mmds/mmds.state.js";
import { createBlockMetrics } from "../../../src/devices/virtio/block.state.js";
import { createMemMetrics } from "../../../src/devices/virtio/mem.state.js";
import { Scratch } from "../../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

let files = 0;
function fresh() {
  const totals: MetricsGroups = { uart: { write_count: 0 }, latencies_us: { pause_vm: 7 } };
  const writer = new MetricsWriter("my-vm", () => structuredClone(totals));
  const path = join(scratch.path, `metrics-${files++}`);
  const lines = () =>
    readFileSync(path, "utf8")
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  return { totals, writer, path, lines };
}

describe("MetricsWriter", () => {
  it("writes at the start, every minute, when asked to, and at the end: what was added", () => {
    const { totals, writer, path, lines } = fresh();
    writer.configure({ metrics_path: path });
    writer.start();
    totals.uart.write_count = 5;
    vi.advanceTimersByTime(60_000);
    totals.uart.write_count = 8;
    writer.flush();
    writer.close();
    vi.advanceTimersByTime(120_000);
    expect(lines().map(({ uart }) => uart.write_count)).toEqual([0, 5, 3, 0]);
    expect(lines().map(({ latencies_us }) => latencies_us.pause_vm)).toEqual([7, 7, 7, 7]);
    expect(Object.keys(lines()[0])).toEqual(["utc_timestamp_ms", "uart", "latencies_us"]);
  });

  it("adds id and properties when asked to", () => {
    const { writer, path, lines } = fresh();
    writer.configure({ metrics_path: path, emit_id: true, properties: { rack: "7" } });
    writer.flush();
    writer.close();
    expect(lines()[0]).toMatchObject({ id: "my-vm", properties: { rack: "7" } });
  });

  it("is configured once", () => {
    const { writer, path } = fresh();
    writer.configure({ metrics_path: path });
    expect(() => writer.configure({ metrics_path: path })).toThrow(
      "Reinitialization of metrics not allowed.",
    );
    writer.close();
  });

  it("may be configured again after a path that was no use", () => {
    const { writer, path, lines } = fresh();
    expect(() => writer.configure({ metrics_path: "/nowhere/metrics" })).toThrow();
    writer.configure({ metrics_path: path });
    writer.close();
    expect(lines()).toHaveLength(1);
  });

  it("adds what a lost line had to the next one, and counts the loss", () => {
    const { totals, writer, lines, path } = fresh();
    writer.configure({ metrics_path: "/dev/full" });
    totals.uart.write_count = 4;
    writer.flush();
    expect(writer.counters.missed_metrics_count).toBe(1);
    const other = new MetricsWriter("x", () => totals);
    other.configure({ metrics_path: path });
    other.flush();
    other.close();
    expect(lines()[0].uart.write_count).toBe(4);
    writer.close();
  });

  it("does nothing without a path", () => {
    const { writer } = fresh();
    writer.start();
    writer.flush();
    writer.close();
    expect(writer.counters.missed_metrics_count).toBe(0);
  });
});

const AGGREGATE = { min_us: 0, max_us: 0, sum_us: 0 };

describe("zeroGroups", () => {
  it("has Firecracker's groups, and numbers in all of them", () => {
    const groups = zeroGroups();
    addApiCounters(groups, new ApiCounters());
    expect(Object.keys(groups).sort()).toEqual(
      `api_server balloon block deprecated_api entropy get_api_requests i8042 interrupts latencies_us
       logger memory_hotplug mmds net patch_api_requests pmem put_api_requests seccomp signals uart
       vcpu vmm vsock`.split(/\s+/),
    );
    for (const [name, group] of Object.entries(groups)) {
      expect([name, Object.keys(group).length]).not.toEqual([name, 0]);
      for (const value of Object.values(group)) expect([0, AGGREGATE]).toContainEqual(value);
    }
    expect(Object.keys(groups.put_api_requests)).toHaveLength(26);
    expect(Object.keys(groups.memory_hotplug)).toHaveLength(18);
    expect(Object.keys(groups.net)).toHaveLength(26);
    expect(Object.keys(groups.block)).toHaveLength(20);
  });
});

describe("MachineMetrics", () => {
  const vcpu = { exitIoIn: 1, exitIoOut: 2, exitMmioRead: 3, exitMmioWrite: 4 };
  const counters = (change: object = {}) => ({
    vcpus: [{ ...vcpu, exitOther: 0, kicks: 0 }],
    drives: {},
    networkInterfaces: {},
    vsock: undefined,
    balloon: undefined,
    entropy: undefined,
    serial: { transmittedBytes: 0, receivedBytes: 0, droppedBytes: 0 },
    uart: {
      read_count: 0,
      write_count: 0,
      missed_read_count: 0,
      missed_write_count: 0,
      error_count: 0,
      flush_count: 0,
      rate_limiter_dropped_bytes: 0,
    },
    i8042: {
      read_count: 0,
      write_count: 0,
      missed_read_count: 0,
      missed_write_count: 0,
      reset_count: 0,
    },
    interrupts: { triggers: 6, config_updates: 1 },
    pmem: {},
    ...change,
  });
  const collect = (metrics: MachineMetrics, change: object = {}) => {
    const groups = zeroGroups();
    metrics.addTo(groups, counters(change) as Parameters<MachineMetrics["addTo"]>[1]);
    return groups;
  };

  it("adds the vCPUs up, and keeps what their counters lose by wrapping", () => {
    const metrics = new MachineMetrics();
    const most = { ...vcpu, exitIoIn: 2 ** 32 - 1, exitOther: 0, kicks: 0 };
    const two = collect(metrics, { vcpus: [most, { ...most, exitIoIn: 5 }] });
    expect(two.vcpu).toMatchObject({ exit_io_in: 2 ** 32 + 4, exit_io_out: 4 });
    const later = collect(metrics, {
      vcpus: [
        { ...most, exitIoIn: 3 },
        { ...most, exitIoIn: 5 },
      ],
    });
    expect(later.vcpu.exit_io_in).toBe(2 ** 32 + 8);
  });

  it("tells what the metadata service counts", () => {
    const mmds = { ...createMmdsMetrics(), rx_count: 3, tx_bytes: 99 };
    const groups = collect(new MachineMetrics(), { mmds });
    expect(groups.mmds).toEqual({ ...zeroGroups().mmds, rx_count: 3, tx_bytes: 99 });
  });

  it("has a group for each drive, and one for all", () => {
    const drive = (read: number, min_us: number) => ({
      ...createBlockMetrics(),
      read_count: read,
      read_agg: { min_us, max_us: min_us * 2, sum_us: 10.4 },
    });
    const groups = collect(new MachineMetrics(), { drives: { a: drive(2, 5), b: drive(3, 4) } });
    expect(groups.block).toMatchObject({
      read_count: 5,
      read_agg: { min_us: 4, max_us: 10, sum_us: 20 },
    });
    expect(groups.block_a).toMatchObject({ read_count: 2, activate_fails: 0 });
    expect(Object.keys(groups.block_b).sort()).toEqual(Object.keys(groups.block).sort());
    expect(groups.interrupts).toEqual({ triggers: 6, config_updates: 1 });
  });

  it("has a group for each persistent memory, and tells of memory hotplug", () => {
    const pmem = { event_fails: 1, queue_event_count: 2 };
    const memoryHotplug = { ...createMemMetrics(), plug_bytes: 4096 };
    const groups = collect(new MachineMetrics(), { pmem: { a: pmem, b: pmem }, memoryHotplug });
    expect(groups.pmem).toMatchObject({ event_fails: 2, queue_event_count: 4 });
    expect(groups.pmem_a).toMatchObject({ ...pmem, cfg_fails: 0 });
    expect(groups.memory_hotplug).toMatchObject({ plug_bytes: 4096, plug_fails: 0 });
  });
});
