import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as k from "../../src/native/layouts.js";
import {
  TraceWriter as HostWriter,
  TRACE_RECORD_WORDS,
  TraceCursor,
  TraceReader,
} from "../../src/native/trace-ring.js";

/** Records that a full ring still holds for sure: the slot after the newest may be half written. */
const KEPT = k.TRACE_RECORDS - 1;

/** Plays the run loop's side of a ring that starts in the middle of a buffer. */
class TraceWriter {
  readonly offset = 128;
  readonly buffer = new SharedArrayBuffer(this.offset + k.TRACE_BYTES);
  readonly #view = new DataView(this.buffer, this.offset, k.TRACE_BYTES);
  written = 0;

  /** Opens the next record, as an exit does, without publishing it. */
  open(address: number): number {
    const slot = this.written % k.TRACE_RECORDS;
    const at = k.TRACE_HEADER_BYTES + slot * k.TRACE_RECORD_BYTES;
    this.#view.setBigUint64(at + k.TRACE_RECORD_ADDRESS_OFFSET, BigInt(address), true);
    return at;
  }

  write(count = 1): void {
    for (let i = 0; i < count; i++) {
      this.open(this.written);
      this.written += 1;
      this.#view.setBigUint64(0, BigInt(this.written), true);
    }
  }

  get view(): DataView {
    return this.#view;
  }

  reader(back?: number): TraceReader {
    return new TraceReader(this.buffer, this.offset, back);
  }
}

const addresses = (reader: TraceReader) => reader.read().map(({ address }) => address);
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

describe("TraceReader", () => {
  it("reads every field of a record", () => {
    const writer = new TraceWriter();
    const reader = writer.reader();
    const at = writer.open(0xfee0_0000);
    const { view } = writer;
    view.setBigUint64(at + k.TRACE_RECORD_DATA_OFFSET, 2n ** 64n - 1n, true);
    view.setBigUint64(at + k.TRACE_RECORD_RIP_OFFSET, 0xffff_ffff_8100_0000n, true);
    view.setBigUint64(at + k.TRACE_RECORD_EXIT_TSC_OFFSET, 123n, true);
    view.setBigUint64(at + k.TRACE_RECORD_GUEST_TICKS_OFFSET, 2n ** 40n, true);
    view.setBigUint64(at + k.TRACE_RECORD_HOST_TICKS_OFFSET, 7n, true);
    view.setUint32(at + k.TRACE_RECORD_REASON_OFFSET, k.KVM_EXIT_MMIO, true);
    view.setUint8(at + k.TRACE_RECORD_SIZE_BYTES_OFFSET, 4);
    view.setUint8(at + k.TRACE_RECORD_IS_WRITE_OFFSET, 1);
    view.setUint32(at + k.TRACE_RECORD_COUNT_OFFSET, 65_536, true);
    view.setBigUint64(0, 1n, true);
    expect(reader.read()).toEqual([
      {
        reason: k.KVM_EXIT_MMIO,
        address: 0xfee0_0000,
        sizeBytes: 4,
        isWrite: true,
        count: 65_536,
        data: 2n ** 64n - 1n,
        rip: 0xffff_ffff_8100_0000n,
        exitTsc: 123n,
        guestTicks: 2 ** 40,
        hostTicks: 7,
      },
    ]);
  });

  it("begins with what comes after it, or as far back as it is asked to", () => {
    const writer = new TraceWriter();
    writer.write(10);
    const now = writer.reader();
    const back3 = writer.reader(3);
    const all = writer.reader(k.TRACE_RECORDS);
    writer.write(2);
    expect(addresses(now)).toEqual([10, 11]);
    expect(addresses(back3)).toEqual(range(7, 12));
    expect(addresses(all)).toEqual(range(0, 12));
  });

  it("gives each record once", () => {
    const writer = new TraceWriter();
    const reader = writer.reader();
    writer.write(3);
    expect(addresses(reader)).toEqual([0, 1, 2]);
    expect(addresses(reader)).toEqual([]);
    writer.write(1);
    expect(addresses(reader)).toEqual([3]);
  });

  it("does not show a record before it is complete", () => {
    const writer = new TraceWriter();
    const reader = writer.reader();
    writer.open(99);
    expect(reader.read()).toEqual([]);
  });

  it("loses nothing while it is less than a ring behind", () => {
    const writer = new TraceWriter();
    const reader = writer.reader();
    writer.write(KEPT);
    expect(addresses(reader)).toEqual(range(0, KEPT));
    expect(reader.lost).toBe(0n);
  });

  it("counts what was overwritten, the slot that may be half written included", () => {
    const writer = new TraceWriter();
    const reader = writer.reader();
    writer.write(k.TRACE_RECORDS + 10);
    expect(addresses(reader)).toEqual(range(11, k.TRACE_RECORDS + 10));
    expect(reader.lost).toBe(11n);
  });

  it("has lost nothing when it is made, however full the ring is and however far back it looks", () => {
    const writer = new TraceWriter();
    writer.write(5 * k.TRACE_RECORDS);
    const reader = writer.reader(10 * k.TRACE_RECORDS);
    expect(addresses(reader)).toEqual(range(4 * k.TRACE_RECORDS + 1, 5 * k.TRACE_RECORDS));
    expect(reader.lost).toBe(0n);
  });

  it("accounts for every record: those it gave and those it lost are all that were written", () => {
    const step = fc.record({ write: fc.nat(3 * k.TRACE_RECORDS), read: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 8 }), (steps) => {
        const writer = new TraceWriter();
        const reader = writer.reader();
        const given: number[] = [];
        for (const { write, read } of steps) {
          writer.write(write);
          if (read) given.push(...addresses(reader));
        }
        given.push(...addresses(reader));
        expect(given.length + Number(reader.lost)).toBe(writer.written);
        expect(given).toEqual([...given].sort((a, b) => a - b));
      }),
      { numRuns: 50 },
    );
  });
});

describe("TraceCursor", () => {
  it("copies what there is room for, and the rest the next time", () => {
    const writer = new TraceWriter();
    const cursor = new TraceCursor(writer.buffer, writer.offset);
    writer.write(5);
    expect(cursor.waiting).toBe(5);
    const target = new Uint32Array(4 * TRACE_RECORD_WORDS);
    expect(cursor.copy(target, TRACE_RECORD_WORDS)).toBe(3);
    expect(cursor.next).toBe(3);
    const addressAt = (record: number) => target[record * TRACE_RECORD_WORDS];
    expect([0, 1, 2, 3].map(addressAt)).toEqual([0, 0, 1, 2]);
    expect(cursor.copy(target)).toBe(2);
    expect([0, 1].map(addressAt)).toEqual([3, 4]);
    expect(cursor.copy(target)).toBe(0);
  });

  it("copies across the end of the ring in order", () => {
    const writer = new TraceWriter();
    const cursor = new TraceCursor(writer.buffer, writer.offset);
    const target = new Uint32Array(KEPT * TRACE_RECORD_WORDS);
    writer.write(1000);
    cursor.copy(target);
    writer.write(100);
    expect(cursor.copy(target)).toBe(100);
    const copied = range(0, 100).map((i) => target[i * TRACE_RECORD_WORDS]);
    expect(copied).toEqual(range(1000, 1100));
  });
});

describe("TraceWriter", () => {
  it("writes what the device host tells so that a reader finds it", () => {
    const ring = new SharedArrayBuffer(k.TRACE_BYTES);
    const writer = new HostWriter(ring);
    const reader = new TraceReader(ring, 0);
    const clock = { tscLow: 5, tscHigh: 1 };
    writer.write({
      ...{ reason: k.EXIT_NOTIFY, vcpu: k.TRACE_NO_VCPU, count: 3, ...clock },
      ...{ address: 0xc000_1050, sizeBytes: 4, data: 1 },
    });
    writer.write({ reason: k.KVM_EXIT_HLT, vcpu: 2, count: 9, ...clock });
    const common = { rip: 0n, exitTsc: 2n ** 32n + 5n, guestTicks: 0, hostTicks: 0 };
    expect(reader.read()).toEqual([
      {
        ...{ reason: k.EXIT_NOTIFY, count: 3, address: 0xc000_1050, sizeBytes: 4, data: 1n },
        ...{ isWrite: true, ...common },
      },
      {
        ...{ reason: k.KVM_EXIT_HLT, count: 9, address: 0, sizeBytes: 0, data: 0n },
        ...{ isWrite: false, ...common },
      },
    ]);
  });

  it("leaves nothing of the record that lay there before", () => {
    const ring = new SharedArrayBuffer(k.TRACE_BYTES);
    const writer = new HostWriter(ring);
    const record = { vcpu: 0, count: 1, tscLow: 0, tscHigh: 0 };
    for (let i = 0; i < k.TRACE_RECORDS; i++) {
      writer.write({ reason: k.EXIT_NOTIFY, ...record, address: 1, sizeBytes: 4, data: 2 });
    }
    writer.write({ reason: k.KVM_EXIT_HLT, ...record });
    const last = new TraceReader(ring, 0, 1).read();
    expect(last).toMatchObject([{ address: 0, sizeBytes: 0, data: 0n, isWrite: false }]);
  });
});
