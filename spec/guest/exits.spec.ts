/**
 * Live exits of guests of a few instructions: each access is seen, once, in order, with what it was; so are
 * doorbells that never leave KVM, sleeps, and the end.
 */
import { type ExitBatch, type ExitInfo, MicroVm, type MicroVmConfig } from "estalo";
import { afterAll, describe, expect, it } from "vitest";
import { outByte, print, Scratch, TINY_GUESTS } from "../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const LOAD_GPA = 0x100000;
const ENTROPY_GPA = 0xc000_1000;
const QUEUE_SEL = ENTROPY_GPA + 0x30;
const QUEUE_NOTIFY = ENTROPY_GPA + 0x50;

const dword = (value: number) => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
/** mov dword [address below 2 GiB], value */
const poke = (address: number, value: number) => [
  ...[0xc7, 0x04, 0x25],
  ...dword(address),
  ...dword(value),
];
/** The boot page tables map 1 GiB: the fourth gets a page of 2 MiB at its start, the devices' windows. */
const MAP_DEVICES = [...poke(0x200000, 0xc0000083), ...poke(0xa018, 0x200003)];
/** mov eax, address; mov dword [rax], value */
const mmioWrite = (address: number, value: number) => [
  0xb8,
  ...dword(address),
  ...[0xc7, 0x00],
  ...dword(value),
];
/** mov eax, address; mov eax, [rax] */
const mmioRead = (address: number) => [0xb8, ...dword(address), 0x8b, 0x00];

function create(code: readonly number[], more: MicroVmConfig = {}): Promise<MicroVm> {
  const kernel = scratch.guest("guest", code);
  return MicroVm.create({ kernel, bootArgs: "", memoryMib: 64, ...more });
}

/** Runs a guest to its end and gives all its exits. */
async function watch(
  code: readonly number[],
  options: Parameters<MicroVm["exits"]>[0] = {},
  more: MicroVmConfig = {},
): Promise<{ exits: ExitInfo[]; batches: ExitBatch[] }> {
  await using vm = await create(code, more);
  const batches: ExitBatch[] = [];
  vm.exits$(options).subscribe((batch) => batches.push(batch));
  await vm.start();
  await vm.wait();
  return { batches, exits: batches.flatMap((batch) => batch.toArray()) };
}

describe("the exits of a guest", () => {
  it("are seen, all, in order, with device, address, size, direction and data", async () => {
    const { exits, batches } = await watch([
      ...MAP_DEVICES,
      ...outByte(0x3f8, 0x41),
      ...mmioWrite(QUEUE_SEL, 7),
      ...mmioRead(ENTROPY_GPA),
      ...outByte(0x80, 0x55),
      ...TINY_GUESTS.poweroff,
    ]);
    const accesses = exits.filter(({ kind }) => kind === "pio" || kind === "mmio");
    expect(accesses).toMatchObject([
      {
        kind: "pio",
        device: "serial",
        address: 0x3f8,
        sizeBytes: 1,
        direction: "write",
        data: 0x41n,
      },
      {
        kind: "mmio",
        device: "entropy",
        address: QUEUE_SEL,
        sizeBytes: 4,
        direction: "write",
        data: 7n,
      },
      {
        kind: "mmio",
        device: "entropy",
        address: ENTROPY_GPA,
        sizeBytes: 4,
        direction: "read",
        data: 0x74726976n,
      },
      { kind: "pio", device: undefined, address: 0x80, direction: "write", data: 0x55n },
      { kind: "pio", device: "acpi power", address: 0x600, data: 0x34n },
    ]);
    for (const { count, vcpu, rip, guestNs } of accesses) {
      expect({ count, vcpu, rip }).toEqual({ count: 1, vcpu: 0, rip: undefined });
      expect(guestNs).toBeGreaterThan(0);
    }
    // What the guest went on after has a time in the host; the times are in order, and now.
    for (const { hostNs } of accesses.slice(0, -1)) expect(hostNs).toBeGreaterThan(0);
    const times = exits.map(({ atNs }) => atNs);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    const now = Number(process.hrtime.bigint());
    expect(times[0]).toBeGreaterThan(now - 600e9);
    expect(times.at(-1)).toBeLessThanOrEqual(now);
    expect(batches.at(-1)).toMatchObject({ lost: 0, dropped: 0 });
    // Without a gap: the ring's numbers are those of the exits.
    const numbers = exits.filter(({ kind }) => kind !== "hlt").map(({ sequence }) => sequence);
    expect(numbers).toEqual(numbers.map((_, i) => i));
  });

  it("hold queue notifications that an ioeventfd took, as often as the guest rang", async () => {
    const rings = Array.from({ length: 20 }, () => mmioWrite(QUEUE_NOTIFY, 0)).flat();
    const { exits } = await watch([...MAP_DEVICES, ...rings, ...TINY_GUESTS.poweroff]);
    const told = exits.filter(({ address }) => address === QUEUE_NOTIFY);
    expect(told.length).toBeGreaterThan(0);
    for (const exit of told) {
      expect(exit).toMatchObject({
        ...{ kind: "notify", device: "entropy", direction: "write", sizeBytes: 4, data: 0n },
        vcpu: undefined,
      });
    }
    expect(told.reduce((sum, { count }) => sum + count, 0)).toBe(20);
  });

  it("hold a sleep that KVM answered itself", async () => {
    await using vm = await create(print("x", TINY_GUESTS.halt));
    const exits = vm.exits({ kinds: ["hlt"] });
    await vm.start();
    const { value } = await exits.next();
    expect(value.get(0)).toMatchObject({ kind: "hlt", vcpu: 0, device: undefined, sizeBytes: 0 });
    await exits.return?.();
  });

  it("end with the shutdown of a triple fault", async () => {
    const { exits } = await watch(print("x", TINY_GUESTS.tripleFault));
    expect(exits.at(-1)).toMatchObject({ kind: "shutdown", vcpu: 0, hostNs: 0 });
  });

  it("hold the interruption of a pause", async () => {
    await using vm = await create(TINY_GUESTS.spin);
    const seen: ExitInfo[] = [];
    vm.exits$({ kinds: ["interrupted"] }).subscribe((batch) => seen.push(...batch.toArray()));
    await vm.start();
    // A vCPU that was on its way into the guest is not interrupted there.
    while (seen.length === 0) {
      await vm.pause();
      await vm.resume();
      await new Promise((go) => setTimeout(go, 20));
    }
    expect(seen[0]).toMatchObject({ kind: "interrupted", vcpu: 0, sizeBytes: 0 });
  });

  it("have the guest's RIP when it is asked for: the instruction's, or the next one's", async () => {
    const before = outByte(0x3f8, 0x41);
    const { exits } = await watch([...before, ...TINY_GUESTS.poweroff], { rip: true });
    // The out instruction is the last byte of each.
    const end = LOAD_GPA + before.length;
    expect([end - 1, end]).toContain(Number(exits[0].rip));
    expect([end + 6, end + 7]).toContain(Number(exits[1].rip));
  });

  it("that were before a watcher came are there as history, without times", async () => {
    await using vm = await create(print("ABC", TINY_GUESTS.halt));
    await vm.start();
    while (vm.metrics.vcpus[0].exitIoOut < 3) await new Promise((go) => setTimeout(go, 5));
    const batches = vm.exits({ history: 1023, kinds: ["pio"] });
    // The third is told when the guest has gone on after it.
    await vm.pause();
    const seen: ExitInfo[] = [];
    while (seen.length < 3) seen.push(...(await batches.next()).value.toArray());
    expect(seen.map(({ data }) => data)).toEqual([65n, 66n, 67n]);
    expect(seen[0].atNs).toBe(0);
  });

  it("are counted by device and direction, and what they took", async () => {
    await using vm = await create(print("0123456789", TINY_GUESTS.poweroff));
    const windows: { device?: string | null; exits: number; hostP99Ns: number }[] = [];
    vm.exitCounts$({ by: ["device", "direction"], kinds: ["pio"], windowMs: 60_000 }).subscribe(
      ({ groups }) => windows.push(...groups),
    );
    await vm.start();
    await vm.wait();
    expect(windows).toMatchObject([
      { device: "serial", direction: "write", exits: 10 },
      { device: "acpi power", direction: "write", exits: 1 },
    ]);
    expect(windows[0].hostP99Ns).toBeGreaterThan(0);
  });

  it("are refused to watch where it makes no sense", async () => {
    await using vm = await create(TINY_GUESTS.halt);
    expect(() => vm.exits$({ devices: ["no such"] })).toThrow(/no such/);
    expect(() => vm.exitCounts$({ by: [] })).toThrow(/by: some of kind/);
  });
});
