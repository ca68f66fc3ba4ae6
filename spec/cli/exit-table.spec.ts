import { describe, expect, it } from "vitest";
import type { ExitMessage, ExitsCountsMessage } from "../../src/api/client/types.js";
import { countsTable, duration, exitLine } from "../../src/cli/fleet/exit-table.js";

const EXIT: ExitMessage = {
  ...{ kind: "mmio", vcpu: 1, sequence: 17, device: "entropy", address: "0xc0001030" },
  ...{ sizeBytes: 4, direction: "write", data: "0x7", count: 1 },
  ...{ atNs: 5_000_123_456, guestNs: 21_034, hostNs: 612 },
};
/** 2026-01-02T03:04:05.000Z less five seconds. */
const ZERO_UNIX_MS = Date.UTC(2026, 0, 2, 3, 4, 0);

const group = { exits: 100, timed: 100, hostNs: 5e8, hostP50Ns: 600, hostP99Ns: 1200 };
const times = { hostMaxNs: 5000, guestNs: 2e6 };
const COUNTS: ExitsCountsMessage = {
  type: "counts",
  ...{ fromNs: 1e9, toNs: 3e9, exits: 160, otherExits: 10, lost: 4, dropped: 1 },
  groups: [
    { device: "entropy", address: "0xc0001030", ...group, ...times },
    { device: null, address: "0x0", ...group, exits: 50, timed: 0, ...times },
  ],
};

describe("exitLine", () => {
  it("tells when, whose, what, and what it took", () => {
    expect(exitLine(EXIT, ZERO_UNIX_MS)).toBe(
      "03:04:05.000123 1 mmio   entropy      write 0xc0001030 4 0x7 guest 21.0 us host 612 ns\n",
    );
  });

  it("leaves out what there is not", () => {
    const hlt = {
      ...EXIT,
      ...{ kind: "hlt", device: null, address: "0x0", sizeBytes: 0, direction: null, data: "0x0" },
      ...{ count: 12, guestNs: 0, hostNs: 0 },
    };
    expect(exitLine(hlt, ZERO_UNIX_MS)).toBe("03:04:05.000123 1 hlt    x12\n");
    const untimed = { ...EXIT, vcpu: null, atNs: 0, guestNs: 0, hostNs: 0, rip: "0x10" };
    expect(exitLine(untimed, ZERO_UNIX_MS)).toBe(
      "-               - mmio   entropy      write 0xc0001030 4 0x7 rip 0x10\n",
    );
  });

  it("obeys nothing that a server sends, whatever it is", () => {
    const line = exitLine({ ...EXIT, device: "\x1b[31mx", atNs: 1e300 }, Number.NaN);
    expect(line).not.toContain("\x1b");
    expect(line.startsWith("-  ")).toBe(true);
  });
});

describe("countsTable", () => {
  it("has rates, shares and times by the fields that were asked for, in their order", () => {
    expect(countsTable(COUNTS, ["address", "device"]).split("\n")).toEqual([
      "80 exits/s, 2 groups, 4 lost, 1 windows dropped",
      "ADDRESS      DEVICE    EXITS/S    SHARE   HOST P50   HOST P99     HOST   GUEST BEFORE",
      "0xc0001030   entropy        50   62.5 %     600 ns    1.20 us   25.0 %        20.0 us",
      "0x0          -              25   31.3 %          -          -   25.0 %              -",
      "and 5.0 exits/s in others",
      "",
    ]);
  });

  it("has as many groups as there is room for, and the rest in one line", () => {
    const table = countsTable(COUNTS, ["device"], 1);
    expect(table).toContain("entropy");
    expect(table).toContain("and 30 exits/s in others\n");
    expect(table.split("\n")).toHaveLength(5);
  });

  it("is a table when nothing happened", () => {
    const empty = { ...COUNTS, exits: 0, otherExits: 0, groups: [] };
    expect(countsTable(empty, ["kind", "vcpu", "direction"]).split("\n")).toEqual([
      "0.0 exits/s, 0 groups, 4 lost, 1 windows dropped",
      expect.stringMatching(/^KIND +VCPU +DIRECTION +EXITS\/S/),
      "",
    ]);
  });
});

describe("duration", () => {
  it.each([
    [0, "0 ns"],
    [999, "999 ns"],
    [1000, "1.00 us"],
    [9994, "9.99 us"],
    [9996, "10.0 us"],
    [99_960, "100 us"],
    [999_600, "1.00 ms"],
    [4_294_967_295, "4.29 s"],
    [1e13, "10000 s"],
  ])("of %d ns is %s", (ns, text) => {
    expect(duration(ns)).toBe(text);
  });
});
