/** The exit loop over a runner that is played: real fronts, real exit ring, a run page written by hand. */
import { beforeEach, describe, expect, it, vi } from "vitest";
import { type DeviceWindow, GO_HOME, LEAVE, type VcpuOutcome } from "../../src/actors/messages.js";
import { createSharedBlock } from "../../src/actors/shared-block.js";
import { VcpuActor } from "../../src/actors/vcpu-actor.js";
import { REPORT_EXIT_STATUS } from "../../src/devices/events.js";
import { STATE_WORDS } from "../../src/devices/fronts.js";
import * as report from "../../src/devices/report.regs.js";
import * as serial from "../../src/devices/serial-16550.regs.js";
import {
  EXIT_RING_BYTES,
  EXIT_RING_ENTRIES,
  ExitRingConsumer,
} from "../../src/native/exit-ring.js";
import * as k from "../../src/native/layouts.js";

const DATA_OFFSET = 2048;
const COM1 = 0x3f8;
const REPORT = 0xc000_0000;

type Exit = (page: DataView) => number;

const runner = vi.hoisted(() => ({
  page: new ArrayBuffer(4096),
  exits: [] as unknown[],
  released: 0,
  refuse: undefined as Error | undefined,
  name: "",
  signals: [] as number[],
  onSignal: (): unknown => undefined,
}));

vi.mock("../../src/native/binding.js", () => ({
  native: () => ({
    signalEventFd: (fd: number) => {
      runner.signals.push(fd);
      runner.onSignal();
    },
    VcpuRunner: class {
      readonly runPage = runner.page;
      constructor(...args: unknown[]) {
        if (runner.refuse !== undefined) throw runner.refuse;
        runner.name = args[4] as string;
      }
      run() {
        const exit = runner.exits.shift() as Exit | undefined;
        return exit === undefined ? 0x10000 : exit(new DataView(runner.page));
      }
      release() {
        runner.released += 1;
      }
    },
  }),
}));

/** A port access; `values` are written, or room for what is read. */
function portExit(port: number, isWrite: boolean, sizeBytes: number, values: number[]): Exit {
  return (page) => {
    page.setUint8(k.KVM_RUN_IO_DIRECTION_OFFSET, isWrite ? 1 : 0);
    page.setUint8(k.KVM_RUN_IO_SIZE_OFFSET, sizeBytes);
    page.setUint16(k.KVM_RUN_IO_PORT_OFFSET, port, true);
    page.setUint32(k.KVM_RUN_IO_COUNT_OFFSET, values.length, true);
    page.setUint32(k.KVM_RUN_IO_DATA_OFFSET_OFFSET, DATA_OFFSET, true);
    for (const [index, value] of values.entries()) {
      page.setUint32(DATA_OFFSET + index * sizeBytes, value, true);
    }
    return k.KVM_EXIT_IO;
  };
}

function memoryExit(address: number, isWrite: boolean, sizeBytes: number, value: bigint): Exit {
  return (page) => {
    page.setBigUint64(k.KVM_RUN_MMIO_PHYS_ADDR_OFFSET, BigInt(address), true);
    page.setBigUint64(k.KVM_RUN_MMIO_DATA_OFFSET, value, true);
    page.setUint32(k.KVM_RUN_MMIO_LEN_OFFSET, sizeBytes, true);
    page.setUint8(k.KVM_RUN_MMIO_IS_WRITE_OFFSET, isWrite ? 1 : 0);
    return k.KVM_EXIT_MMIO;
  };
}

/** An actor with a serial port and a report page. */
function attached() {
  const kinds = ["serial-16550", "report"] as const;
  const block = createSharedBlock(
    1,
    kinds.map((kind) => STATE_WORDS[kind]),
  );
  const place = { stateWords: 0, irqFd: -1 };
  const devices = kinds.map(
    (kind, device): DeviceWindow => ({
      ...place,
      kind,
      device,
      space: kind === "report" ? "mmio" : "pio",
      start: kind === "report" ? REPORT : COM1,
      sizeBytes: kind === "report" ? 4096 : 8,
      stateOffset: block.deviceOffsets[device],
      stateWords: STATE_WORDS[kind],
    }),
  );
  const ring = new ExitRingConsumer(
    new Int32Array(block.buffer, block.vcpus[0].ringOffset, EXIT_RING_BYTES / 4),
  );
  const actor = new VcpuActor();
  const error = actor.attach({
    vcpu: 2,
    vcpuFd: 9,
    mmapBytes: 4096,
    shared: block.buffer,
    block: block.vcpus[0],
    hostFd: 77,
    devices,
  });
  const run = (...exits: Exit[]): VcpuOutcome => {
    runner.exits = exits;
    return actor.run();
  };
  const posts = () => {
    const entries: number[][] = [];
    ring.drain((...entry) => entries.push(entry));
    return entries;
  };
  const control = new Int32Array(block.buffer, block.vcpus[0].controlOffset);
  const ask = (pending: number) => {
    control[k.VCPU_CONTROL_PENDING_OFFSET / 4] = pending;
  };
  return { actor, error, run, posts, ask };
}

const answer = (index = 0, bytes = 1) => {
  const page = new Uint8Array(runner.page);
  return [...page.subarray(DATA_OFFSET + index * bytes, DATA_OFFSET + (index + 1) * bytes)];
};

beforeEach(() => {
  new Uint8Array(runner.page).fill(0);
  Object.assign(runner, {
    exits: [],
    released: 0,
    refuse: undefined,
    signals: [],
    onSignal: () => {},
  });
});

describe("VcpuActor", () => {
  it("names its thread as Firecracker does", () => {
    expect(attached().error).toBeUndefined();
    expect(runner.name).toBe("fc_vcpu 2");
  });

  it("goes on until it is kicked", () => {
    const exits = Array.from({ length: 100 }, () => portExit(0x80, true, 1, [1]));
    expect(attached().run(...exits)).toEqual({ kind: "kicked" });
    expect(runner.exits).toEqual([]);
  });

  it("answers a port read from the device's front, and an unknown port with zeros", () => {
    const { run } = attached();
    run(portExit(COM1 + serial.LINE_STATUS_OFFSET, false, 1, [0xaa]));
    expect(answer()).toEqual([serial.LSR_THRE_MASK | serial.LSR_TEMT_MASK]);
    run(portExit(0x1234, false, 4, [0xaaaa_aaaa]));
    expect(answer(0, 4)).toEqual([0, 0, 0, 0]);
  });

  it("carries out every repetition of a string instruction, in order", () => {
    const { run } = attached();
    run(portExit(COM1 + serial.SCRATCH_OFFSET, true, 1, [1, 2, 3]));
    run(portExit(COM1 + serial.SCRATCH_OFFSET, false, 1, [0, 0]));
    expect([answer(0), answer(1)]).toEqual([[3], [3]]);
  });

  it("hands what a front posts to the exit ring and wakes the device host once", () => {
    const { run, posts } = attached();
    run(
      memoryExit(REPORT + report.EXIT_STATUS_OFFSET, true, 4, 5n),
      memoryExit(REPORT + report.EXIT_STATUS_OFFSET, true, 4, 6n),
    );
    expect(posts()).toEqual([
      [1, REPORT_EXIT_STATUS, 5],
      [1, REPORT_EXIT_STATUS, 6],
    ]);
    expect(runner.signals).toEqual([77]);
  });

  it("loses no post to a full ring when it has to leave, and waits for nobody when its process ends", () => {
    const { run, posts, ask } = attached();
    const status = (value: number) =>
      memoryExit(REPORT + report.EXIT_STATUS_OFFSET, true, 4, BigInt(value));
    const fill = () => run(...Array.from({ length: EXIT_RING_ENTRIES }, () => status(0)));
    fill();
    ask(LEAVE);
    const taken: number[][] = [];
    runner.onSignal = () => taken.push(...posts());
    run(status(7));
    expect(taken).toHaveLength(EXIT_RING_ENTRIES + 1);
    expect(taken.at(-1)).toEqual([1, REPORT_EXIT_STATUS, 7]);
    runner.onSignal = () => {};
    fill();
    ask(GO_HOME);
    run(status(8));
    expect(posts()).toHaveLength(EXIT_RING_ENTRIES);
  });

  it.each<[string, number, object]>([
    ["a triple fault", k.KVM_EXIT_SHUTDOWN, { kind: "shutdown" }],
    ["a kick", k.EXIT_KICKED, { kind: "kicked" }],
  ])("returns at %s", (_, reason, outcome) => {
    expect(attached().run(() => reason)).toEqual(outcome);
  });

  it("says what an internal error of KVM was, with at most 16 words of it", () => {
    const outcome = attached().run((page) => {
      page.setUint32(k.KVM_RUN_INTERNAL_SUBERROR_OFFSET, 1, true);
      page.setUint32(k.KVM_RUN_INTERNAL_NDATA_OFFSET, 1000, true);
      page.setBigUint64(k.KVM_RUN_INTERNAL_DATA_OFFSET, 0xabcn, true);
      return k.KVM_EXIT_INTERNAL_ERROR;
    });
    expect(outcome).toMatchObject({
      kind: "failed",
      error: {
        code: "ERR_ESTALO_VCPU_STOPPED",
        message: expect.stringContaining("could not emulate an instruction"),
        data: { vcpu: 2, suberror: 1, internal: expect.arrayContaining(["0xabc"]) },
      },
    });
    const { error } = outcome as unknown as { error: { data: { internal: string[] } } };
    expect(error.data.internal).toHaveLength(16);
  });

  it("tells each digit of what KVM says", () => {
    const { run } = attached();
    const outcomes = [
      [k.KVM_EXIT_INTERNAL_ERROR, k.KVM_RUN_INTERNAL_DATA_OFFSET],
      [k.KVM_EXIT_FAIL_ENTRY, k.KVM_RUN_FAIL_ENTRY_REASON_OFFSET],
    ].map(([reason, offset]) =>
      run((page) => {
        page.setUint32(k.KVM_RUN_INTERNAL_NDATA_OFFSET, 1, true);
        page.setBigUint64(offset, 0xfedc_ba98_7654_3211n, true);
        return reason;
      }),
    );
    expect(outcomes).toMatchObject([
      { error: { data: { internal: ["0xfedcba9876543211"] } } },
      { error: { data: { hardware: "0xfedcba9876543211" } } },
    ]);
  });

  it.each([
    ["a failed entry", k.KVM_EXIT_FAIL_ENTRY, "KVM_EXIT_FAIL_ENTRY 0x0"],
    ["an exit nobody asked for", 99, "unexpected exit 99"],
  ])("fails at %s", (_, reason, message) => {
    expect(attached().run(() => reason)).toMatchObject({
      kind: "failed",
      error: { code: "ERR_ESTALO_VCPU_STOPPED", message: expect.stringContaining(message) },
    });
  });

  it("tells a failed KVM_RUN from a mistake of ours", () => {
    const fail = (error: Error) => () => {
      throw error;
    };
    const system = Object.assign(new Error("KVM_RUN: EFAULT"), {
      code: "EFAULT",
      syscall: "KVM_RUN",
    });
    expect(attached().run(fail(system))).toMatchObject({
      error: { code: "ERR_ESTALO_VCPU_STOPPED", message: "KVM_RUN vCPU 2: EFAULT" },
    });
    expect(attached().run(fail(new RangeError("ours")))).toMatchObject({
      error: { code: "ERR_ESTALO_BUG", message: expect.stringContaining("RangeError: ours") },
    });
  });

  it("answers a set-up that fails with a record, and cannot run then", () => {
    runner.refuse = Object.assign(new Error("mmap kvm_run: ENOMEM"), { code: "ENOMEM" });
    const { actor, error } = attached();
    expect(error).toMatchObject({ code: "ERR_ESTALO_HOST", message: "attach vCPU 2: ENOMEM" });
    expect(actor.run()).toMatchObject({ kind: "failed", error: { code: "ERR_ESTALO_BUG" } });
  });

  it("lets go of its vCPU once", () => {
    const { actor } = attached();
    actor.detach();
    actor.detach();
    expect(runner.released).toBe(1);
  });
});

describe("VcpuActor at a part of an access across a page", () => {
  it.each([3, 5, 6, 7])("reads %i bytes as zeros", (sizeBytes) => {
    const { run } = attached();
    run(memoryExit(REPORT + 4096 - sizeBytes, false, sizeBytes, 0xaaaa_aaaa_aaaa_aaaan));
    const data = new Uint8Array(runner.page, k.KVM_RUN_MMIO_DATA_OFFSET, sizeBytes);
    expect([...data]).toEqual(Array.from({ length: sizeBytes }, () => 0));
    expect(new DataView(runner.page).getUint32(k.KVM_RUN_MMIO_LEN_OFFSET, true)).toBe(sizeBytes);
  });
});

describe("VcpuActor at eight bytes of MMIO", () => {
  it("makes two accesses of four, the low one first", () => {
    const { run, posts } = attached();
    const value = (6n << 32n) | 5n;
    run(memoryExit(REPORT + report.EXIT_STATUS_OFFSET - 4, true, 8, value));
    expect(posts()).toEqual([[1, REPORT_EXIT_STATUS, 6]]);
  });
});
