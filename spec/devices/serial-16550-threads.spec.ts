/** The UART's handshakes with front and back on two threads, as in a microVM: nothing lost, no hang. */
import { describe, expect, it } from "vitest";
import { SerialBack } from "../../src/devices/serial-16550-back.js";
import { createState } from "../support/fake-front.js";
import { workerFrom } from "../support/threads.js";

const BYTES = 300_000;
// Words beside the device's: posts and interrupts as counters that the other thread waits on.
const POSTS = 0;
const INTERRUPTS = 1;
const DONE = 2;

// An interrupt-driven guest that sends, and a polling one that receives; checks what it receives.
const GUEST = `
  import { workerData } from "node:worker_threads";
  import { lockState, unlockState } from "./src/devices/device.js";
  import { Serial16550Front } from "./src/devices/serial-16550.js";
  import * as regs from "./src/devices/serial-16550.regs.js";

  const { state, signals, bytes, receive } = workerData;
  const bump = (word) => {
    Atomics.add(signals, word, 1);
    Atomics.notify(signals, word);
  };
  const front = new Serial16550Front({
    state,
    post: () => bump(${POSTS}),
    raiseIrq: () => bump(${INTERRUPTS}),
    waitWhile: () => {},
  });
  const locked = (action) => {
    lockState(state);
    const value = action();
    unlockState(state);
    return value;
  };
  const read = (offset) => locked(() => front.read(offset, 1));
  const write = (offset, value) => locked(() => front.write(offset, 1, value));

  /** Sleeps until the next interrupt after \`seen\`. */
  const interrupt = (seen) => {
    const verdict = Atomics.wait(signals, ${INTERRUPTS}, seen, 10_000);
    if (verdict === "timed-out") throw new Error("no interrupt came");
  };
  let at = 0;
  let expected = 0;
  write(regs.MODEM_CONTROL_OFFSET, regs.MCR_RTS_MASK);
  write(regs.INTERRUPT_ENABLE_OFFSET, receive ? regs.IER_RECEIVE_MASK : regs.IER_TRANSMIT_MASK);
  while (receive ? expected < bytes : at < bytes) {
    const seen = Atomics.load(signals, ${INTERRUPTS});
    const status = read(regs.LINE_STATUS_OFFSET);
    const id = read(regs.INTERRUPT_ID_OFFSET) & 0x0f;
    if (receive && (status & regs.LSR_DATA_READY_MASK) !== 0) {
      const value = read(regs.RECEIVE_OFFSET);
      if (value !== expected % 251) throw new Error("byte " + expected + " was " + value);
      expected++;
      // Now and then the guest is busy, and says so.
      if (expected % 5000 === 0) {
        write(regs.MODEM_CONTROL_OFFSET, 0);
        write(regs.MODEM_CONTROL_OFFSET, regs.MCR_RTS_MASK);
      }
    } else if (!receive && id === regs.IIR_TRANSMIT) {
      for (let burst = 0; burst < regs.FIFO_BYTES && at < bytes; burst++) {
        write(regs.TRANSMIT_OFFSET, at++ % 251);
      }
    } else {
      interrupt(seen);
    }
  }
  bump(${DONE});
  bump(${POSTS});
`;

function setUp(): { state: Int32Array; signals: Int32Array; irq: { raise(): void } } {
  const signals = new Int32Array(new SharedArrayBuffer(12));
  const raise = (): void => {
    Atomics.add(signals, INTERRUPTS, 1);
    Atomics.notify(signals, INTERRUPTS);
  };
  return { state: createState("serial-16550"), signals, irq: { raise } };
}

/** Sleeps until the front posts again after `seen`: a lost post shows as time running out. */
function awaitPost(signals: Int32Array, seen: number): void {
  const verdict = Atomics.wait(signals, POSTS, seen, 10_000);
  if (verdict === "timed-out") throw new Error("no post came");
}

describe("the UART on two threads", () => {
  it("sends every byte in order while its interrupt alone drives the guest", async () => {
    const { state, signals, irq } = setUp();
    const received = new Uint8Array(BYTES);
    let count = 0;
    const sink = {
      write: (bytes: Uint8Array): boolean => {
        received.set(bytes, count);
        count += bytes.length;
        return true;
      },
    };
    const back = new SerialBack(state, { irq, sink });
    const run = await workerFrom(GUEST);
    const { ended } = run({ state, signals, bytes: BYTES, receive: false });
    while (Atomics.load(signals, DONE) === 0 || !back.drained) {
      const posts = Atomics.load(signals, POSTS);
      back.drain();
      if (Atomics.load(signals, DONE) === 0) awaitPost(signals, posts);
    }
    await ended;
    expect(count).toBe(BYTES);
    expect(received.findIndex((byte, index) => byte !== index % 251)).toBe(-1);
  });

  it("receives every byte in order through pauses of the guest", async () => {
    const { state, signals, irq } = setUp();
    const back = new SerialBack(state, { irq, sink: { write: () => true }, waitForRts: true });
    const input = Uint8Array.from({ length: BYTES }, (_, index) => index % 251);
    const run = await workerFrom(GUEST);
    const { ended } = run({ state, signals, bytes: BYTES, receive: true });
    let at = 0;
    while (at < BYTES) {
      const posts = Atomics.load(signals, POSTS);
      const accepted = back.push(input.subarray(at));
      at += accepted;
      if (accepted === 0) awaitPost(signals, posts);
    }
    await ended;
    expect(at).toBe(BYTES);
  });
});
