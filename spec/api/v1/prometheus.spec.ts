/** The page of metrics: its format, its names, its bounds. */
import { describe, expect, it } from "vitest";
import { DEVICES_MAX, MICROVMS_MAX, prometheusText } from "../../../src/api/v1/prometheus.js";
import { ProcessProbe, totalsOf } from "../../../src/api/v1/server-metrics.js";
import { createBlockMetrics } from "../../../src/devices/virtio/block.state.js";
import { PlayedFleet } from "../../support/played-fleet.js";

const probe = new ProcessProbe();
const server = {
  version: "1.2.3",
  uptimeMs: 1500,
  eventReaders: 2,
  totals: totalsOf([]),
  loopDelaySeconds: new Map([[0.99, 0.25]]),
  process: probe.process,
};

/** Samples by name and labels; throws for a line that the format does not have. */
function parse(text: string): Map<string, number> {
  const samples = new Map<string, number>();
  let family = "";
  for (const line of text.trimEnd().split("\n")) {
    const type = /^# TYPE ([a-z_]+) (counter|gauge)$/.exec(line);
    if (type !== null) family = type[1];
    if (line.startsWith("# ")) continue;
    const sample = /^([a-z_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\[\\n"])*",?)+\})? (\d\S*)$/.exec(line);
    if (sample === null) throw new Error(`no sample: ${line}`);
    // All of a family together, below its type.
    expect(sample[1]).toBe(family);
    expect(samples.has(`${sample[1]}${sample[2] ?? ""}`)).toBe(false);
    samples.set(`${sample[1]}${sample[2] ?? ""}`, Number(sample[3]));
  }
  return samples;
}

describe("prometheusText", () => {
  it("tells of the server and of microVMs by state", async () => {
    const fleet = new PlayedFleet();
    await fleet.create({ name: "a" });
    await fleet.create({ name: "b", start: false });
    const samples = parse(await prometheusText(fleet, server));
    expect(samples.get('estalo_microvms{state="running"}')).toBe(1);
    expect(samples.get('estalo_microvms{state="configured"}')).toBe(1);
    expect(samples.get('estalo_microvms{state="lost"}')).toBe(0);
    expect(samples.get(`estalo_info{version="1.2.3",node="${process.version}"}`)).toBe(1);
    expect(samples.get("estalo_uptime_seconds")).toBe(1.5);
    expect(samples.get("estalo_fleet_created_total")).toBe(2);
    expect(samples.get("estalo_events_total")).toBe(fleet.events.newest);
    expect(samples.get('estalo_api_auth_failures_total{reason="host"}')).toBe(0);
    expect(samples.get('nodejs_eventloop_lag_seconds{quantile="0.99"}')).toBe(0.25);
    expect(samples.get("process_resident_memory_bytes")).toBeGreaterThan(2 ** 20);
    expect(samples.get("estalo_microvms_without_series")).toBe(0);
  });

  it("tells of each microVM that exists", async () => {
    const fleet = new PlayedFleet();
    await fleet.create({ name: "a", config: { id: "one" } });
    const samples = parse(await prometheusText(fleet, server));
    const own = (name: string, labels: string) =>
      samples.get(`estalo_microvm_${name}_total{id="one",name="a"${labels}}`);
    expect(own("exits", ',kind="mmio-write"')).toBe(4);
    expect(own("serial_bytes", ',direction="from-guest"')).toBe(7);
    expect(own("serial_dropped_bytes", "")).toBe(9);
    expect(own("drive_bytes", ',drive="data",operation="read"')).toBe(512);
    expect(own("network_bytes", ',interface="eth0",direction="from-guest"')).toBe(99);
    await fleet.kill("one");
    expect(prometheusText(fleet, server)).not.toContain('id="one"');
  });

  it("escapes what stands in labels", async () => {
    const fleet = new PlayedFleet();
    await fleet.create({ config: { id: "one" } });
    fleet.put("one", { name: 'a"\\\n' });
    const samples = parse(await prometheusText(fleet, server));
    const label = String.raw`name="a\"\\\n"`;
    expect([...samples.keys()].some((key) => key.includes(label))).toBe(true);
  });

  it("is bounded in microVMs and drives, and says what it left out", async () => {
    const fleet = new PlayedFleet();
    for (let at = 0; at < MICROVMS_MAX + 3; at++) await fleet.create({});
    const drives = Array.from({ length: 40 }, (_, index) => [`d${index}`, createBlockMetrics()]);
    Object.assign(fleet.machine("vm-1").metrics, { drives: Object.fromEntries(drives) });
    const samples = parse(await prometheusText(fleet, server));
    const ids = new Set([...samples.keys()].map((key) => /\{id="([^"]*)"/.exec(key)?.[1]));
    ids.delete(undefined);
    expect(ids.size).toBe(MICROVMS_MAX);
    expect(samples.get("estalo_microvms_without_series")).toBe(3);
    const ofFirst = [...samples.keys()].flatMap(
      (key) => /\{id="vm-1",.*drive="(\w+)"/.exec(key)?.[1] ?? [],
    );
    expect(new Set(ofFirst).size).toBe(DEVICES_MAX);
  });
});
