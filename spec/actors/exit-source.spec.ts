import { describe, expect, it } from "vitest";
import * as k from "../../src/native/layouts.js";
import { PlayedVcpus } from "../support/played-exits.js";

/** What the source has after a poll, by these columns. */
function kinds(vcpus: PlayedVcpus) {
  const count = vcpus.source.poll();
  const { columns } = vcpus.source.decoder;
  return Array.from({ length: count }, (_, i) => [columns.kind[i], columns.count[i]]);
}
const NOTIFY = 11;
const PIO = 1;

describe("ExitSource", () => {
  it("tells the vCPUs to take times while it is open, and RIP while somebody wants it", () => {
    const vcpus = new PlayedVcpus(2);
    const { source } = vcpus;
    expect(vcpus.watch(1)).toBe(0);
    source.open();
    expect(vcpus.watch(1)).toBe(k.WATCH_TIME);
    source.holdRip();
    source.holdRip();
    expect(vcpus.watch(0)).toBe(k.WATCH_TIME | k.WATCH_RIP);
    source.releaseRip();
    expect(vcpus.watch(0)).toBe(k.WATCH_TIME | k.WATCH_RIP);
    source.releaseRip();
    expect(vcpus.watch(0)).toBe(k.WATCH_TIME);
    source.close();
    expect(vcpus.watch(0)).toBe(0);
    source.keepTimes();
    expect(vcpus.watch(0)).toBe(k.WATCH_TIME);
    source.open();
    source.close();
    expect(vcpus.watch(0)).toBe(k.WATCH_TIME);
  });

  it("begins when it is opened: neither earlier exits nor earlier doorbells", () => {
    const vcpus = new PlayedVcpus();
    vcpus.exits(0, 5);
    vcpus.doorbell.rings = 5;
    vcpus.source.open();
    expect(kinds(vcpus)).toEqual([]);
    vcpus.exit(0);
    expect(kinds(vcpus)).toEqual([[PIO, 1]]);
  });

  it("tells a doorbell with how often it rang since, when it is heard and when it is polled", () => {
    const vcpus = new PlayedVcpus();
    vcpus.source.open();
    vcpus.doorbell.rings = 3;
    vcpus.source.onDoorbell(vcpus.doorbell);
    vcpus.doorbell.rings = 2;
    expect(kinds(vcpus)).toEqual([
      [NOTIFY, 3],
      [NOTIFY, 2],
    ]);
    vcpus.source.onDoorbell(vcpus.doorbell);
    expect(kinds(vcpus)).toEqual([]);
  });

  it("hears no doorbell while it is closed", () => {
    const vcpus = new PlayedVcpus();
    vcpus.doorbell.rings = 3;
    vcpus.source.onDoorbell(vcpus.doorbell);
    expect(vcpus.doorbell.rings).toBe(3);
  });

  it("counts what was overwritten before a poll", () => {
    const vcpus = new PlayedVcpus(2);
    vcpus.source.open();
    vcpus.exits(0, k.TRACE_RECORDS + 10);
    vcpus.exits(1, 5);
    expect(kinds(vcpus)).toHaveLength(k.TRACE_RECORDS - 1 + 5);
    expect(vcpus.source.lost).toBe(11);
    expect(vcpus.source.fullest).toBe(k.TRACE_RECORDS);
  });

  it("reads back what was before the last poll, of each vCPU the newest", () => {
    const vcpus = new PlayedVcpus(2);
    vcpus.exits(0, 5);
    vcpus.exits(1, 2);
    vcpus.source.open();
    // Comes after: it is for the next poll.
    vcpus.exit(0);
    const { decoder } = vcpus.source;
    const count = vcpus.source.readBack(decoder, 3);
    const told = Array.from({ length: count }, (_, i) => [
      decoder.columns.vcpu[i],
      decoder.columns.sequence[i],
    ]);
    expect(told.sort()).toEqual([
      [0, 2],
      [0, 3],
      [0, 4],
      [1, 0],
      [1, 1],
    ]);
    expect(kinds(vcpus)).toHaveLength(1);
  });
});
