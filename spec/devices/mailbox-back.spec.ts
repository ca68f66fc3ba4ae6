import { describe, expect, it } from "vitest";
import * as words from "../../src/devices/mailbox.state.js";
import { type BusDeviceDefinition, MailboxBack } from "../../src/devices/mailbox-back.js";
import { FakeFront } from "../support/fake-front.js";

const ONES = 0xffff_ffff;

/** A back whose vCPU is played by hand: `ask` leaves an access in the mailbox. */
class Bench {
  readonly fake = new FakeFront("mailbox");
  readonly failures: unknown[] = [];
  readonly timers: { delayMs: number; task: () => void; isOff: boolean }[] = [];
  readonly back: MailboxBack;

  constructor(definition: Partial<BusDeviceDefinition>) {
    const full = { id: "own", base: 0x510, sizeBytes: 8, ...definition };
    this.back = new MailboxBack(this.fake.state, full, {
      irq: this.fake.irq,
      gsi: 7,
      onFailed: (error) => this.failures.push(error),
      schedule: (delayMs, task) => {
        const timer = { delayMs, task, isOff: false };
        this.timers.push(timer);
        return () => {
          timer.isOff = true;
        };
      },
    });
    // The vCPU's thread would sleep here; this one goes on, and looks later.
    this.fake.onWait = () => {
      throw new Error("asleep");
    };
  }

  ask(access: () => void): void {
    expect(access).toThrow("asleep");
    for (const { event, value } of this.fake.takePosts()) this.back.handleEvent(event, value);
  }

  get answer(): number | undefined {
    const { state } = this.fake;
    const isAnswered = state[words.ANSWER_WORD] === state[words.REQUEST_WORD];
    return isAnswered ? state[words.RESULT_WORD] >>> 0 : undefined;
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("MailboxBack", () => {
  it("answers when a promise is settled, once", async () => {
    let settle: (value: number) => void = () => {};
    const answer = new Promise<number>((resolve) => {
      settle = resolve;
    });
    const bench = new Bench({ sync: true, read: () => answer });
    bench.ask(() => bench.fake.read8(0));
    expect(bench.answer).toBeUndefined();
    bench.back.handleEvent(80, 0);
    settle(5);
    await turn();
    expect(bench.answer).toBe(5);
    expect(bench.timers).toEqual([expect.objectContaining({ delayMs: 1000, isOff: true })]);
  });

  it("gives up a promise after its time, and ignores what comes later", async () => {
    const settles: ((value: number) => void)[] = [];
    const read = () => new Promise<number>((resolve) => settles.push(resolve));
    const bench = new Bench({ sync: true, answerTimeoutMs: 50, read });
    bench.ask(() => bench.fake.read8(0));
    expect(bench.timers[0].delayMs).toBe(50);
    bench.timers[0].task();
    expect(bench.answer).toBe(ONES);
    bench.ask(() => bench.fake.read8(0));
    settles[0](1);
    await turn();
    expect(bench.answer).toBeUndefined();
    settles[1](2);
    await turn();
    expect(bench.answer).toBe(2);
    expect(bench.back.metrics.timeouts).toBe(1);
    expect(bench.failures).toEqual([]);
  });

  it("answers all ones for what throws or rejects, and tells", async () => {
    const errors = [new Error("thrown"), new Error("rejected")];
    const bench = new Bench({
      sync: true,
      read: () => {
        throw errors[0];
      },
      write: () => Promise.reject(errors[1]),
    });
    expect(() => bench.ask(() => bench.fake.read8(0))).toThrow("thrown");
    expect(bench.answer).toBe(ONES);
    bench.ask(() => bench.fake.write8(0, 1));
    await turn();
    expect(bench.answer).toBe(ONES);
    expect(bench.failures).toEqual([errors[1]]);
    expect(bench.back.metrics.failures).toBe(2);
  });

  it.each([
    ["at once", () => 5n],
    ["later", async () => 5n],
  ])("answers all ones for what is no number, given %s, and tells", async (_, read) => {
    const bench = new Bench({ sync: true, read: read as unknown as () => number });
    try {
      bench.ask(() => bench.fake.read8(0));
    } catch (error) {
      bench.failures.push(error);
    }
    await turn();
    expect(bench.answer).toBe(ONES);
    expect(bench.failures).toEqual([expect.any(TypeError)]);
    expect(bench.back.metrics.failures).toBe(1);
  });

  it("hands over posted writes in order, and hears of what rejects", async () => {
    const writes: number[][] = [];
    const bench = new Bench({
      write: async (offset, sizeBytes, value) => {
        writes.push([offset, sizeBytes, value]);
        if (value === 3) throw new Error("three");
      },
    });
    bench.fake.write8(1, 1);
    bench.fake.front.write(2, 2, 2);
    bench.fake.write32(4, 3);
    for (const { event, value } of bench.fake.takePosts()) bench.back.handleEvent(event, value);
    await turn();
    expect(writes).toEqual([
      [1, 1, 1],
      [2, 2, 2],
      [4, 4, 3],
    ]);
    expect(bench.failures).toEqual([expect.objectContaining({ message: "three" })]);
  });

  it("gives its functions registers and an interrupt, until the end", () => {
    const log: string[] = [];
    const bench = new Bench({
      irq: true,
      registers: Uint8Array.of(1),
      onAttach: ({ id, gsi }) => log.push(`attach ${id} ${gsi}`),
      onReset: () => log.push("reset"),
      onClose: () => log.push("close"),
    });
    const { back, fake } = bench;
    back.attached();
    back.handle.setRegisters(Uint8Array.of(2, 3), 6);
    expect([...back.handle.registers]).toEqual([1, 0, 0, 0, 0, 0, 2, 3]);
    expect(fake.front.read(6, 2)).toBe(0x302);
    expect(() => back.handle.setRegisters(Uint8Array.of(1, 2), 7)).toThrow(RangeError);
    back.handle.raiseIrq();
    back.reset();
    back.close();
    back.close();
    back.reset();
    back.handle.raiseIrq();
    expect(fake.irq.take()).toBe(1);
    expect(log).toEqual(["attach own 7", "reset", "close"]);
  });
});
