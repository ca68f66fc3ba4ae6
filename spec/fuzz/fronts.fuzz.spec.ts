/** Random register accesses, of all sizes at all offsets, on every front. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Bus } from "../../src/devices/bus.js";
import type { FrontKind } from "../../src/devices/device.js";
import { I8042Back } from "../../src/devices/i8042.js";
import { SerialBack } from "../../src/devices/serial-16550-back.js";
import * as regs from "../../src/devices/virtio/mmio-transport.regs.js";
import * as words from "../../src/devices/virtio/mmio-transport.state.js";
import { FakeFront } from "../support/fake-front.js";
import { FakeIrq } from "../support/fake-irq.js";

const WINDOWS: Record<FrontKind, number> = {
  "serial-16550": 8,
  i8042: 5,
  report: 4096,
  pvpanic: 1,
  "acpi-power": 2,
  "virtio-mmio": 4096,
  mailbox: 4096,
};

interface Access {
  readonly write: boolean;
  readonly offset: number;
  readonly sizeBytes: number;
  readonly value: number;
}

/**
 * Accesses around and in a window; small values and offsets are likely, since registers are there.
 */
function accesses(windowBytes: number): fc.Arbitrary<Access[]> {
  const offset = fc.oneof(
    fc.integer({ min: 0, max: Math.min(windowBytes, 16) }),
    fc.integer({ min: 0, max: Math.min(windowBytes, 288) }).map((n) => n - (n % 4)),
    fc.integer({ min: -8, max: windowBytes + 8 }),
  );
  const value = fc.oneof(
    fc.constantFrom(0, 1, 2, 3, 7, 11, 15, 0x1a, 0x80, 0xfe, 0xff, 0xffff_ffff),
    fc.nat(0xffff_ffff),
  );
  return fc.array(
    fc.record({ write: fc.boolean(), offset, sizeBytes: fc.constantFrom(1, 2, 4, 8), value }),
    { maxLength: 300 },
  );
}

/** Runs the accesses through a bus, as a vCPU thread would. */
function runAccesses(kind: FrontKind, fake: FakeFront, list: readonly Access[]): void {
  const sizeBytes = WINDOWS[kind];
  const bus = new Bus([{ start: 0x1000, sizeBytes, front: fake.front, state: fake.state }]);
  for (const { write, offset, sizeBytes: size, value } of list) {
    if (write) bus.write(0x1000 + offset, size, value);
    else {
      const read = bus.read(0x1000 + offset, size);
      const limit = 2 ** (8 * Math.min(size, 4));
      if (!Number.isInteger(read) || read < 0 || read >= limit) {
        throw new Error(`read ${read} of ${size} bytes at ${offset}`);
      }
    }
  }
}

describe("every front", () => {
  const kinds = Object.keys(WINDOWS) as FrontKind[];
  it.each(kinds)("%s answers any access with a number of its size and posts u32 only", (kind) => {
    fc.assert(
      fc.property(accesses(WINDOWS[kind]), (list) => {
        const fake = new FakeFront(kind);
        if (kind === "i8042") new I8042Back(fake.state, fake.irq);
        runAccesses(kind, fake, list);
        for (const { event, value } of fake.takePosts()) {
          expect(Number.isInteger(event) && event >= 0 && event < 65_536).toBe(true);
          expect(Number.isInteger(value) && value >= 0 && value < 2 ** 32).toBe(true);
        }
        expect(fake.state[0]).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  it("serial: any accesses between draining and pushing keep both rings within bounds", () => {
    const step = fc.oneof(
      accesses(8).map((list) => ({ list })),
      fc.integer({ min: 0, max: 600 }).map((push) => ({ push })),
      fc.boolean().map((ready) => ({ ready })),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        const fake = new FakeFront("serial-16550");
        let ready = true;
        let taken = 0;
        const sink = {
          write: (bytes: Uint8Array): boolean => {
            taken += bytes.length;
            return ready;
          },
        };
        const back = new SerialBack(fake.state, { irq: new FakeIrq(), sink });
        for (const action of steps) {
          if ("list" in action) runAccesses("serial-16550", fake, action.list);
          else if ("push" in action) {
            const accepted = back.push(new Uint8Array(action.push));
            expect(accepted).toBeLessThanOrEqual(Math.min(action.push, 256));
          } else ready = action.ready;
          for (const { event } of fake.takePosts()) back.handleEvent(event);
        }
        ready = true;
        back.drain();
        expect(back.drained).toBe(true);
        expect(taken).toBe(back.transmittedBytes);
      }),
      { numRuns: 200 },
    );
  });

  it("virtio-mmio: no accesses get past its status machine or to words of the back", () => {
    fc.assert(
      fc.property(accesses(WINDOWS["virtio-mmio"]), (list) => {
        const fake = new FakeFront("virtio-mmio");
        fake.state[words.DEVICE_TYPE_WORD] = 4;
        fake.state[words.OFFERED_LOW_WORD] = 0x3000_0000;
        fake.state[words.OFFERED_HIGH_WORD] = 1;
        fake.state[words.queueWord(0) + words.QUEUE_MAX] = 256;
        fake.state[words.CONFIG_LENGTH_WORD] = 60;
        const identity = fake.state.slice(words.DEVICE_TYPE_WORD, words.ACCEPTED_LOW_WORD);
        runAccesses("virtio-mmio", fake, list);
        const status = fake.state[words.STATUS_WORD] & ~regs.STATUS_FAILED_MASK;
        expect([0, 1, 3, 11, 15]).toContain(status);
        if ((status & regs.STATUS_FEATURES_OK_MASK) !== 0) {
          expect(fake.state[words.ACCEPTED_LOW_WORD] & ~0x3000_0000).toBe(0);
          expect(fake.state[words.ACCEPTED_HIGH_WORD]).toBe(1);
        }
        expect(fake.state.slice(words.DEVICE_TYPE_WORD, words.ACCEPTED_LOW_WORD)).toEqual(identity);
        expect(fake.state[words.queueWord(0) + words.QUEUE_MAX]).toBe(256);
        const config = words.configBytes(fake.state);
        expect(config.every((byte) => byte === 0)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});
