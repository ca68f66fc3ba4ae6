import { describe, expect, it } from "vitest";
import { ExitBatch } from "../../src/actors/exit-batch.js";
import * as k from "../../src/native/layouts.js";
import { PlayedVcpus, WINDOWS } from "../support/played-exits.js";

/** Everything that a poll of the source finds. */
function poll(vcpus: PlayedVcpus) {
  const count = vcpus.source.poll();
  const { columns } = vcpus.source.decoder;
  const names = WINDOWS.map(({ name }) => name);
  const batch = new ExitBatch(
    { length: columns.length, hasRip: true, buffer: columns.buffer },
    names,
    { lost: 0, dropped: 0 },
  );
  return Array.from({ length: count }, (_, i) => batch.get(i));
}

function openVcpus(count = 1): PlayedVcpus {
  const vcpus = new PlayedVcpus(count);
  vcpus.source.open();
  return vcpus;
}

describe("a decoded exit", () => {
  it("has every field of its record, its times in nanoseconds and its device", () => {
    const vcpus = openVcpus();
    vcpus.exit(0, {
      ...{
        reason: k.KVM_EXIT_MMIO,
        address: 0xc000_1070,
        data: 2n ** 63n + 1n,
        rip: 2n ** 64n - 2n,
      },
      ...{ atNs: 1500, guestNs: 250, hostNs: 125, sizeBytes: 8, isWrite: false, count: 1 },
    });
    expect(poll(vcpus)).toEqual([
      {
        ...{ kind: "mmio", vcpu: 0, sequence: 0, device: "drive root", address: 0xc000_1070 },
        ...{ sizeBytes: 8, direction: "read", data: 2n ** 63n + 1n, rip: 2n ** 64n - 2n, count: 1 },
        ...{ atNs: 1500, guestNs: 250, hostNs: 125 },
      },
    ]);
  });

  it("has the device whose window holds its address, in its own space", () => {
    const vcpus = openVcpus();
    const mmio = { reason: k.KVM_EXIT_MMIO, sizeBytes: 4 };
    const device = [
      { address: 0x3f8 },
      { address: 0x3ff },
      { address: 0x400 },
      { ...mmio, address: 0x3f8 },
      { ...mmio, address: 0xc000_1000 },
      { ...mmio, address: 0xc000_2fff },
      { ...mmio, address: 0xc000_3000 },
      { ...mmio, address: 2 ** 51 },
      { address: 0x3f9 },
    ];
    for (const exit of device) vcpus.exit(0, exit);
    expect(poll(vcpus).map((exit) => exit.device)).toEqual([
      ...["serial", "serial", undefined, undefined, "drive root", "entropy"],
      ...[undefined, undefined, "serial"],
    ]);
  });

  it("has no device when it is no access, and durations as long as they can be told", () => {
    const vcpus = openVcpus();
    vcpus.exit(0, {
      ...{ reason: k.KVM_EXIT_SHUTDOWN, address: 0, sizeBytes: 0, isWrite: false },
      ...{ guestNs: 60e9, hostNs: 0 },
    });
    vcpus.exit(0, { reason: 12345, sizeBytes: 0 });
    const [shutdown, other] = poll(vcpus);
    expect(shutdown).toMatchObject({ kind: "shutdown", device: undefined, direction: undefined });
    expect(shutdown).toMatchObject({ guestNs: 2 ** 32 - 1, hostNs: 0 });
    expect(other.kind).toBe("other");
  });

  it("that nobody timed has no time", () => {
    const vcpus = openVcpus();
    vcpus.exit(0, { atNs: 0, guestNs: 0, hostNs: 0 });
    expect(poll(vcpus)).toMatchObject([{ atNs: 0, guestNs: 0, hostNs: 0 }]);
  });
});

describe("the exits of several vCPUs", () => {
  it("come in the order of their times, each vCPU's in its own order", () => {
    const vcpus = openVcpus(3);
    const times = [
      [1010, 1040, 1070, 1070],
      [1020, 1021, 1022],
      [1000, 1070, 1090],
    ];
    for (const [vcpu, list] of times.entries()) {
      for (const atNs of list) vcpus.exit(vcpu, { atNs });
    }
    const seen = poll(vcpus).map(({ vcpu, atNs, sequence }) => [vcpu, atNs, sequence]);
    const sorted = times
      .flatMap((list, vcpu) => list.map((atNs, sequence) => [vcpu, atNs, sequence]))
      .sort((a, b) => a[1] - b[1] || a[0] - b[0]);
    expect(seen).toEqual(sorted);
  });

  it("number on where the last poll ended", () => {
    const vcpus = openVcpus(2);
    vcpus.exits(0, 3);
    vcpus.exits(1, 1);
    poll(vcpus);
    vcpus.exits(0, 2);
    vcpus.exits(1, 2);
    const numbers = poll(vcpus).map(({ vcpu, sequence }) => `${vcpu}:${sequence}`);
    expect(numbers.sort()).toEqual(["0:3", "0:4", "1:1", "1:2"]);
  });
});
