import { describe, expect, it } from "vitest";
import type { ByteSink } from "../../src/devices/backend.js";
import { RateLimiter } from "../../src/devices/rate-limiter.js";
import * as regs from "../../src/devices/serial-16550.regs.js";
import * as words from "../../src/devices/serial-16550.state.js";
import { SerialBack, type SerialBackOptions } from "../../src/devices/serial-16550-back.js";
import { FakeFront } from "../support/fake-front.js";
import { FakeIrq } from "../support/fake-irq.js";

class FakeSink implements ByteSink {
  readonly bytes: number[] = [];
  ready = true;

  write(bytes: Uint8Array): boolean {
    this.bytes.push(...bytes);
    return this.ready;
  }
}

function line(waitForRts = false, limit?: SerialBackOptions["limit"]) {
  const fake = new FakeFront("serial-16550");
  const irq = new FakeIrq();
  const sink = new FakeSink();
  const options = limit === undefined ? {} : { limit };
  const back = new SerialBack(fake.state, { irq, sink, waitForRts, ...options });
  const deliver = (): void => {
    for (const { event } of fake.takePosts()) back.handleEvent(event);
  };
  const readAll = (): number[] => {
    const bytes: number[] = [];
    while ((fake.read8(regs.LINE_STATUS_OFFSET) & regs.LSR_DATA_READY_MASK) !== 0) {
      bytes.push(fake.read8(regs.RECEIVE_OFFSET));
    }
    return bytes;
  };
  return { fake, irq, sink, back, deliver, readAll };
}

const count = (length: number): number[] => Array.from({ length }, (_, index) => index % 251);

describe("SerialBack draining", () => {
  it("drops and counts what is beyond its limit, and the guest never waits for it", () => {
    const clock = { us: 0 };
    const bandwidth = { size: 10, refillTimeMs: 1000 };
    const limit = new RateLimiter({ bandwidth }, () => clock.us);
    const { fake, sink, back, deliver } = line(false, limit);
    for (const byte of count(25)) fake.write8(regs.TRANSMIT_OFFSET, byte);
    deliver();
    expect(sink.bytes).toEqual(count(10));
    expect(back.droppedBytes).toBe(15);
    expect(back.drained).toBe(true);
    clock.us = 500_000;
    for (const byte of count(8)) fake.write8(regs.TRANSMIT_OFFSET, byte);
    deliver();
    expect(sink.bytes).toEqual([...count(10), ...count(5)]);
  });

  it("hands what the guest sends to the sink, across the ring's end", () => {
    const { fake, sink, deliver } = line();
    const sent = count(3 * words.TRANSMIT_BYTES);
    for (const [index, byte] of sent.entries()) {
      fake.write8(regs.TRANSMIT_OFFSET, byte);
      if (index % 1000 === 0) deliver();
    }
    deliver();
    expect(sink.bytes).toEqual(sent);
    expect(fake.state[words.ERROR_COUNT_WORD]).toBe(0);
  });

  it("leaves what is sent while it drains for later", () => {
    const fake = new FakeFront("serial-16550");
    const tasks: (() => void)[] = [];
    const taken: number[] = [];
    // Nothing is quicker than this guest.
    const write = (bytes: Uint8Array) => {
      taken.push(...bytes);
      if (taken.length < 1000) fake.write8(regs.TRANSMIT_OFFSET, taken.length % 251);
      return true;
    };
    const later = (task: () => void): void => void tasks.push(task);
    const back = new SerialBack(fake.state, { irq: new FakeIrq(), sink: { write }, later });
    fake.write8(regs.TRANSMIT_OFFSET, 0);
    for (const { event } of fake.takePosts()) back.handleEvent(event);
    for (let turn = 1; turn <= 3; turn++) {
      expect(tasks).toHaveLength(1);
      tasks.shift()?.();
      expect(taken).toHaveLength(turn);
      // The ring was empty when it was sent.
      for (const { event } of fake.takePosts()) back.handleEvent(event);
    }
    for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) task();
    expect(taken).toEqual(Array.from({ length: 1000 }, (_, index) => index % 251));
    expect(back.drained).toBe(true);
  });

  it("takes a whole line at once where it may wait a little, and is told of it once", () => {
    const fake = new FakeFront("serial-16550");
    const sink = new FakeSink();
    const tasks: (() => void)[] = [];
    const later = (task: () => void): void => void tasks.push(task);
    const back = new SerialBack(fake.state, { irq: new FakeIrq(), sink, later });
    for (const byte of [1, 2, 3]) fake.write8(regs.TRANSMIT_OFFSET, byte);
    const posts = fake.takePosts();
    for (const { event } of posts) back.handleEvent(event);
    expect(posts).toHaveLength(1);
    expect(sink.bytes).toEqual([]);
    for (const task of tasks) task();
    expect(sink.bytes).toEqual([1, 2, 3]);
  });

  it("stops when the sink has enough and goes on when told; nothing is lost meanwhile", () => {
    const { fake, sink, back, deliver } = line();
    sink.ready = false;
    fake.write8(regs.TRANSMIT_OFFSET, 1);
    deliver();
    fake.write8(regs.TRANSMIT_OFFSET, 2);
    deliver();
    expect(sink.bytes).toEqual([1]);
    expect(back.drained).toBe(false);
    sink.ready = true;
    back.drain();
    expect(sink.bytes).toEqual([1, 2]);
    expect(back.drained).toBe(true);
  });

  it("frees a blocked transmitter with an interrupt once half the ring is drained", () => {
    const { fake, irq, sink, back } = line();
    fake.write8(regs.INTERRUPT_ENABLE_OFFSET, regs.IER_TRANSMIT_MASK);
    const sent = words.TRANSMIT_BYTES - words.TRANSMIT_ROOM_BYTES + 1;
    for (let index = 0; index < sent; index++) fake.write8(regs.TRANSMIT_OFFSET, index);
    expect(fake.read8(regs.INTERRUPT_ID_OFFSET)).toBe(regs.IIR_NONE);
    expect(fake.read8(regs.LINE_STATUS_OFFSET) & regs.LSR_THRE_MASK).toBe(0);
    back.drain();
    expect(sink.bytes.length).toBe(sent);
    expect(irq.take()).toBe(1);
    expect(fake.read8(regs.LINE_STATUS_OFFSET) & regs.LSR_THRE_MASK).not.toBe(0);
    expect(fake.read8(regs.INTERRUPT_ID_OFFSET)).toBe(regs.IIR_TRANSMIT);
  });
});

describe("SerialBack pushing", () => {
  it("delivers bytes with an interrupt if the guest wants it", () => {
    const { fake, irq, back, readAll } = line();
    expect(back.push(Uint8Array.of(1, 2))).toBe(2);
    expect(irq.take()).toBe(0);
    fake.write8(regs.INTERRUPT_ENABLE_OFFSET, regs.IER_RECEIVE_MASK);
    expect(back.push(Uint8Array.of(3))).toBe(1);
    expect(irq.take()).toBe(1);
    expect(readAll()).toEqual([1, 2, 3]);
  });

  it("takes what fits, and asks for the rest when the guest has emptied the ring", () => {
    const { fake, back, deliver, readAll } = line();
    const input = Uint8Array.from(count(1000));
    let at = back.push(input);
    expect(at).toBe(words.RECEIVE_BYTES);
    back.onReceiveRoom = () => {
      at += back.push(input.subarray(at));
    };
    const received: number[] = [];
    for (let round = 0; round < 10; round++) {
      received.push(...readAll());
      deliver();
    }
    expect(received).toEqual([...input]);
    expect(fake.takePosts()).toEqual([]);
  });

  it("holds back while RTS is dropped, once it had been raised", () => {
    const { fake, back, deliver } = line();
    expect(back.push(Uint8Array.of(1))).toBe(1);
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_RTS_MASK);
    expect(back.push(Uint8Array.of(2))).toBe(1);
    fake.write8(regs.MODEM_CONTROL_OFFSET, 0);
    deliver();
    let asked = 0;
    back.onReceiveRoom = () => asked++;
    expect(back.push(Uint8Array.of(3))).toBe(0);
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_RTS_MASK);
    deliver();
    expect(asked).toBe(1);
    expect(back.push(Uint8Array.of(3))).toBe(1);
  });

  it("with waitForRts holds back until RTS is raised for the first time, outside loopback", () => {
    const { fake, back } = line(true);
    expect(back.push(Uint8Array.of(1))).toBe(0);
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_RTS_MASK | regs.MCR_LOOP_MASK);
    expect(back.push(Uint8Array.of(1))).toBe(0);
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_RTS_MASK);
    expect(back.push(Uint8Array.of(1))).toBe(1);
  });
});
