import { describe, expect, it } from "vitest";
import {
  ACCESS_WRITE,
  EXIT_BYTES,
  EXIT_BYTES_WITH_RIP,
  EXIT_KINDS,
  ExitBatch,
  exitColumnsBytes,
  exitKindCode,
  exitKindOf,
  NONE,
} from "../../src/actors/exit-batch.js";
import * as k from "../../src/native/layouts.js";

const COUNTERS = { lost: 3, dropped: 4 };

describe("kinds", () => {
  it("have every reason that KVM gives us, and other for what is new", () => {
    const reasons = {
      [k.KVM_EXIT_IO]: "pio",
      [k.KVM_EXIT_MMIO]: "mmio",
      [k.KVM_EXIT_HLT]: "hlt",
      [k.KVM_EXIT_IRQ_WINDOW_OPEN]: "irq-window",
      [k.KVM_EXIT_SHUTDOWN]: "shutdown",
      [k.KVM_EXIT_HYPERCALL]: "hypercall",
      [k.KVM_EXIT_INTERNAL_ERROR]: "internal-error",
      [k.KVM_EXIT_FAIL_ENTRY]: "fail-entry",
      [k.KVM_EXIT_INTR]: "interrupted",
      [k.KVM_EXIT_SYSTEM_EVENT]: "system-event",
      [k.EXIT_NOTIFY]: "notify",
      99: "other",
    };
    for (const [reason, kind] of Object.entries(reasons)) {
      expect(exitKindOf(Number(reason))).toBe(kind);
    }
    expect(Object.values(reasons).sort()).toEqual([...EXIT_KINDS].sort());
  });

  it("have codes that stay: frames carry them", () => {
    expect(EXIT_KINDS.map(exitKindCode)).toEqual(EXIT_KINDS.map((_, i) => i));
    expect(EXIT_KINDS.slice(0, 3)).toEqual(["other", "pio", "mmio"]);
    expect(exitKindCode("notify")).toBe(11);
  });
});

describe("ExitBatch", () => {
  it.each([
    [false, EXIT_BYTES],
    [true, EXIT_BYTES_WITH_RIP],
  ])("with RIP %s has its columns side by side in one buffer", (hasRip, bytes) => {
    const batch = new ExitBatch({ length: 7, hasRip }, [], COUNTERS);
    expect(batch.buffer.byteLength).toBe(7 * bytes);
    expect(exitColumnsBytes(7, hasRip)).toBe(7 * bytes);
    const columns = [
      ...[batch.atNs, batch.address, batch.data, ...(batch.rip ? [batch.rip] : [])],
      ...[batch.sequence, batch.guestNs, batch.hostNs, batch.count],
      ...[batch.kind, batch.access, batch.vcpu, batch.device],
    ];
    let at = 0;
    for (const column of columns) {
      expect(column.byteOffset).toBe(at);
      expect(column.length).toBe(7);
      at += column.byteLength;
    }
    expect(at).toBe(batch.buffer.byteLength);
  });

  it("gives an exit as an object", () => {
    const batch = new ExitBatch({ length: 2, hasRip: true }, ["serial"], COUNTERS);
    batch.kind[1] = exitKindCode("mmio");
    batch.access[1] = 4 | ACCESS_WRITE;
    batch.vcpu[1] = 3;
    batch.device[1] = 0;
    batch.address[1] = 0xc000_0000;
    batch.data[1] = 2n ** 64n - 1n;
    (batch.rip as BigUint64Array)[1] = 5n;
    batch.sequence[1] = 9;
    batch.count[1] = 1;
    batch.atNs[1] = 100;
    batch.guestNs[1] = 7;
    batch.hostNs[1] = 8;
    expect(batch.get(1)).toEqual({
      ...{ kind: "mmio", vcpu: 3, sequence: 9, device: "serial", address: 0xc000_0000 },
      ...{ sizeBytes: 4, direction: "write", data: 2n ** 64n - 1n, count: 1, rip: 5n },
      ...{ atNs: 100, guestNs: 7, hostNs: 8 },
    });
    expect(batch.toArray()).toEqual([batch.get(0), batch.get(1)]);
    expect(batch).toMatchObject(COUNTERS);
  });

  it("says what is unknown, and what is no access", () => {
    const batch = new ExitBatch({ length: 1, hasRip: false }, ["serial"], COUNTERS);
    batch.kind[0] = 200;
    batch.vcpu[0] = NONE;
    batch.device[0] = NONE;
    expect(batch.get(0)).toMatchObject({
      ...{ kind: "other", vcpu: undefined, device: undefined },
      ...{ direction: undefined, sizeBytes: 0, rip: undefined },
    });
  });
});
