import { describe, expect, it } from "vitest";
import { SERIAL_RTS_RAISED, SERIAL_TRANSMIT } from "../../src/devices/events.js";
import * as regs from "../../src/devices/serial-16550.regs.js";
import * as words from "../../src/devices/serial-16550.state.js";
import { createState, FakeFront } from "../support/fake-front.js";

const BOTH_EMPTY = regs.LSR_THRE_MASK | regs.LSR_TEMT_MASK;

const uart = (): FakeFront => new FakeFront("serial-16550");
const lineStatus = (fake: FakeFront): number => fake.read8(regs.LINE_STATUS_OFFSET);
const interruptId = (fake: FakeFront): number => fake.read8(regs.INTERRUPT_ID_OFFSET);

/** Puts bytes into the receive ring, as the back does. */
function receive(fake: FakeFront, ...bytes: number[]): void {
  const rings = words.serialRings(fake.state);
  for (const byte of bytes) {
    const head = fake.state[words.RECEIVE_HEAD_WORD]++;
    rings.receive[head & (words.RECEIVE_BYTES - 1)] = byte;
  }
}

describe("Serial16550Front, probed as Linux does it", () => {
  it("is a 16550A by its FIFO bits, scratch register, IER bits and looped modem lines", () => {
    const fake = uart();
    fake.write8(regs.INTERRUPT_ENABLE_OFFSET, 0xff);
    expect(fake.read8(regs.INTERRUPT_ENABLE_OFFSET)).toBe(0x0f);
    fake.write8(regs.INTERRUPT_ENABLE_OFFSET, 0);
    fake.write8(regs.MODEM_CONTROL_OFFSET, 0x1a);
    expect(fake.read8(regs.MODEM_STATUS_OFFSET) & 0xf0).toBe(0x90);
    fake.write8(regs.MODEM_CONTROL_OFFSET, 0);
    fake.write8(regs.SCRATCH_OFFSET, 0xa5);
    expect(fake.read8(regs.SCRATCH_OFFSET)).toBe(0xa5);
    expect(interruptId(fake) >> 6).toBe(0);
    fake.write8(regs.FIFO_CONTROL_OFFSET, regs.FCR_ENABLE_MASK);
    expect(interruptId(fake) >> 6).toBe(3);
  });

  it("keeps the divisor behind DLAB, apart from data and IER", () => {
    const fake = uart();
    fake.write8(regs.LINE_CONTROL_OFFSET, 0x83);
    fake.write8(regs.DIVISOR_LOW_OFFSET, 0x34);
    fake.write8(regs.DIVISOR_HIGH_OFFSET, 0x12);
    expect(fake.read8(regs.DIVISOR_LOW_OFFSET)).toBe(0x34);
    expect(fake.read8(regs.DIVISOR_HIGH_OFFSET)).toBe(0x12);
    fake.write8(regs.LINE_CONTROL_OFFSET, 0x03);
    expect(fake.read8(regs.INTERRUPT_ENABLE_OFFSET)).toBe(0);
    expect(fake.takePosts()).toEqual([]);
  });

  it("reasserts THRE each time its interrupt is enabled (tests for UART bugs)", () => {
    const fake = uart();
    for (let round = 0; round < 2; round++) {
      fake.write8(regs.INTERRUPT_ENABLE_OFFSET, regs.IER_TRANSMIT_MASK);
      expect(fake.irq.take()).toBe(1);
      expect(interruptId(fake)).toBe(regs.IIR_TRANSMIT);
      expect(interruptId(fake)).toBe(regs.IIR_NONE);
      fake.write8(regs.INTERRUPT_ENABLE_OFFSET, 0);
    }
  });
});

describe("Serial16550Front sending", () => {
  it("posts once when the ring fills from empty, and stays ready", () => {
    const fake = uart();
    fake.write8(regs.TRANSMIT_OFFSET, 0x41);
    fake.write8(regs.TRANSMIT_OFFSET, 0x42);
    expect(fake.takePosts()).toEqual([{ event: SERIAL_TRANSMIT, value: 0 }]);
    expect(lineStatus(fake)).toBe(BOTH_EMPTY);
  });

  it("raises THRE after each byte while enabled", () => {
    const fake = uart();
    fake.write8(regs.INTERRUPT_ENABLE_OFFSET, regs.IER_TRANSMIT_MASK);
    interruptId(fake);
    fake.irq.take();
    fake.write8(regs.TRANSMIT_OFFSET, 0x41);
    expect(fake.irq.take()).toBe(1);
    expect(interruptId(fake)).toBe(regs.IIR_TRANSMIT);
  });

  it("clears THRE and TEMT when nearly full, takes the rest, then drops and counts", () => {
    const fake = uart();
    let sent = 0;
    while ((lineStatus(fake) & regs.LSR_THRE_MASK) !== 0) {
      fake.write8(regs.TRANSMIT_OFFSET, sent++);
    }
    expect(words.TRANSMIT_BYTES - sent).toBeGreaterThanOrEqual(2 * regs.FIFO_BYTES);
    expect(lineStatus(fake) & BOTH_EMPTY).toBe(0);
    for (; sent < words.TRANSMIT_BYTES; sent++) fake.write8(regs.TRANSMIT_OFFSET, sent);
    expect(fake.state[words.ERROR_COUNT_WORD]).toBe(0);
    fake.write8(regs.TRANSMIT_OFFSET, 1);
    expect(fake.state[words.ERROR_COUNT_WORD]).toBe(1);
    expect(fake.state[words.TRANSMIT_HEAD_WORD]).toBe(words.TRANSMIT_BYTES);
  });
});

describe("Serial16550Front receiving", () => {
  it("shows data ready and gives the bytes in order, then 0", () => {
    const fake = uart();
    receive(fake, 1, 2, 3);
    expect(lineStatus(fake) & regs.LSR_DATA_READY_MASK).toBe(1);
    const read = [0, 0, 0, 0].map(() => fake.read8(regs.RECEIVE_OFFSET));
    expect(read).toEqual([1, 2, 3, 0]);
    expect(lineStatus(fake) & regs.LSR_DATA_READY_MASK).toBe(0);
  });

  it("raises the interrupt for bytes that came before it was enabled", () => {
    const fake = uart();
    receive(fake, 1);
    fake.write8(regs.INTERRUPT_ENABLE_OFFSET, regs.IER_RECEIVE_MASK);
    expect(fake.irq.take()).toBe(1);
    expect(interruptId(fake)).toBe(regs.IIR_RECEIVE);
  });

  it("reports received data before an empty transmitter, and keeps the latter for later", () => {
    const fake = uart();
    receive(fake, 1);
    fake.write8(regs.INTERRUPT_ENABLE_OFFSET, regs.IER_MASK);
    expect(interruptId(fake)).toBe(regs.IIR_RECEIVE);
    fake.read8(regs.RECEIVE_OFFSET);
    expect(interruptId(fake)).toBe(regs.IIR_TRANSMIT);
    expect(interruptId(fake)).toBe(regs.IIR_NONE);
  });

  it("forgets received bytes when the receive FIFO is cleared", () => {
    const fake = uart();
    receive(fake, 1, 2);
    fake.write8(regs.FIFO_CONTROL_OFFSET, regs.FCR_ENABLE_MASK | regs.FCR_CLEAR_RECEIVE_MASK);
    expect(lineStatus(fake) & regs.LSR_DATA_READY_MASK).toBe(0);
  });
});

describe("Serial16550Front in loopback", () => {
  it("receives what it sends, and sends nothing out", () => {
    const fake = uart();
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_LOOP_MASK);
    fake.write8(regs.TRANSMIT_OFFSET, 0x5a);
    expect(fake.takePosts()).toEqual([]);
    expect(lineStatus(fake) & regs.LSR_DATA_READY_MASK).toBe(1);
    expect(fake.read8(regs.RECEIVE_OFFSET)).toBe(0x5a);
  });

  it("sets the overrun bit until it is read when its FIFO is full", () => {
    const fake = uart();
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_LOOP_MASK);
    fake.write8(regs.INTERRUPT_ENABLE_OFFSET, regs.IER_LINE_STATUS_MASK);
    for (let sent = 0; sent <= regs.FIFO_BYTES; sent++) fake.write8(regs.TRANSMIT_OFFSET, sent);
    expect(interruptId(fake)).toBe(regs.IIR_LINE_STATUS);
    expect(lineStatus(fake) & regs.LSR_OVERRUN_MASK).not.toBe(0);
    expect(lineStatus(fake) & regs.LSR_OVERRUN_MASK).toBe(0);
    expect(interruptId(fake)).toBe(regs.IIR_NONE);
  });

  it("keeps bytes from outside for when it is left", () => {
    const fake = uart();
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_LOOP_MASK);
    receive(fake, 7);
    expect(lineStatus(fake) & regs.LSR_DATA_READY_MASK).toBe(0);
    fake.write8(regs.MODEM_CONTROL_OFFSET, 0);
    expect(fake.read8(regs.RECEIVE_OFFSET)).toBe(7);
  });
});

describe("Serial16550Front modem lines", () => {
  it("shows CTS, DSR and DCD, and no change", () => {
    expect(uart().read8(regs.MODEM_STATUS_OFFSET)).toBe(
      regs.MSR_CTS_MASK | regs.MSR_DSR_MASK | regs.MSR_DCD_MASK,
    );
  });

  it("reports a change of lines once, with an interrupt", () => {
    const fake = uart();
    fake.write8(regs.INTERRUPT_ENABLE_OFFSET, regs.IER_MODEM_STATUS_MASK);
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_LOOP_MASK);
    expect(fake.irq.take()).toBe(1);
    expect(interruptId(fake)).toBe(regs.IIR_MODEM_STATUS);
    expect(fake.read8(regs.MODEM_STATUS_OFFSET) & 0x0f).toBe(
      regs.MSR_DELTA_CTS_MASK | regs.MSR_DELTA_DSR_MASK | regs.MSR_DELTA_DCD_MASK,
    );
    expect(fake.read8(regs.MODEM_STATUS_OFFSET) & 0x0f).toBe(0);
    expect(interruptId(fake)).toBe(regs.IIR_NONE);
  });

  it("counts RI when it falls, not when it rises", () => {
    const fake = uart();
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_LOOP_MASK);
    fake.read8(regs.MODEM_STATUS_OFFSET);
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_LOOP_MASK | regs.MCR_OUT1_MASK);
    expect(fake.read8(regs.MODEM_STATUS_OFFSET)).toBe(regs.MSR_RI_MASK);
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_LOOP_MASK);
    expect(fake.read8(regs.MODEM_STATUS_OFFSET)).toBe(regs.MSR_TRAILING_RI_MASK);
  });

  it("posts when RTS is raised, not while it stays, and not in loopback", () => {
    const fake = uart();
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_LOOP_MASK | regs.MCR_RTS_MASK);
    expect(fake.takePosts()).toEqual([]);
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_RTS_MASK);
    fake.write8(regs.MODEM_CONTROL_OFFSET, regs.MCR_RTS_MASK | regs.MCR_DTR_MASK);
    expect(fake.takePosts()).toEqual([{ event: SERIAL_RTS_RAISED, value: 0 }]);
  });
});

describe("Serial16550Front metrics", () => {
  it("counts accesses, and those it cannot serve apart", () => {
    const fake = uart();
    fake.read8(regs.LINE_STATUS_OFFSET);
    fake.read32(regs.RECEIVE_OFFSET);
    fake.write8(regs.SCRATCH_OFFSET, 1);
    fake.write8(regs.LINE_STATUS_OFFSET, 1);
    fake.front.write(regs.TRANSMIT_OFFSET, 2, 1);
    expect(fake.state[words.READ_COUNT_WORD]).toBe(1);
    expect(fake.state[words.MISSED_READ_COUNT_WORD]).toBe(1);
    expect(fake.state[words.WRITE_COUNT_WORD]).toBe(2);
    expect(fake.state[words.MISSED_WRITE_COUNT_WORD]).toBe(2);
  });
});

describe("saveSerial and restoreSerial", () => {
  it("carry registers and bytes in both directions over", () => {
    const fake = uart();
    fake.write8(regs.LINE_CONTROL_OFFSET, 3);
    fake.write8(regs.INTERRUPT_ENABLE_OFFSET, 5);
    fake.write8(regs.TRANSMIT_OFFSET, 0x41);
    receive(fake, 8, 9);
    fake.read8(regs.RECEIVE_OFFSET);
    const record = JSON.parse(JSON.stringify(words.saveSerial(fake.state)));
    expect(record).toMatchObject({ version: 1, transmit: [0x41], receive: [9] });
    const state = createState("serial-16550");
    words.restoreSerial(state, record);
    expect(words.saveSerial(state)).toEqual(record);
  });
});
