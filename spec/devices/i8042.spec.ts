import { describe, expect, it } from "vitest";
import { I8042_RESET } from "../../src/devices/events.js";
import { I8042Back } from "../../src/devices/i8042.js";
import * as regs from "../../src/devices/i8042.regs.js";
import { restoreI8042, saveI8042 } from "../../src/devices/i8042.state.js";
import { createState, FakeFront } from "../support/fake-front.js";
import { FakeIrq } from "../support/fake-irq.js";

function controller(): { fake: FakeFront; back: I8042Back; backIrq: FakeIrq } {
  const fake = new FakeFront("i8042");
  const backIrq = new FakeIrq();
  return { fake, back: new I8042Back(fake.state, backIrq), backIrq };
}

const outputFull = (fake: FakeFront): boolean =>
  (fake.read8(regs.STATUS_OFFSET) & regs.STATUS_OUTPUT_FULL_MASK) !== 0;

describe("I8042Front", () => {
  it("posts a reset for command FEh", () => {
    const { fake } = controller();
    fake.write8(regs.COMMAND_OFFSET, regs.COMMAND_RESET);
    expect(fake.takePosts()).toEqual([{ event: I8042_RESET, value: 0 }]);
  });

  it("starts with self-test passed and the keyboard's interrupt on", () => {
    const { fake } = controller();
    fake.write8(regs.COMMAND_OFFSET, regs.COMMAND_READ_CTR);
    expect(outputFull(fake)).toBe(true);
    expect(fake.read8(regs.DATA_OFFSET)).toBe(
      regs.CTR_POST_OK_MASK | regs.CTR_KEYBOARD_INTERRUPT_MASK,
    );
    expect(outputFull(fake)).toBe(false);
  });

  it.each([
    ["command byte", regs.COMMAND_WRITE_CTR, regs.COMMAND_READ_CTR],
    ["output port", regs.COMMAND_WRITE_OUTPUT_PORT, regs.COMMAND_READ_OUTPUT_PORT],
  ])("keeps what is written to the %s", (_name, writeCommand, readCommand) => {
    const { fake } = controller();
    fake.write8(regs.COMMAND_OFFSET, writeCommand);
    fake.write8(regs.DATA_OFFSET, 0x5a);
    fake.write8(regs.COMMAND_OFFSET, readCommand);
    expect(fake.read8(regs.DATA_OFFSET)).toBe(0x5a);
  });

  it("acknowledges every byte sent to the keyboard, with an interrupt", () => {
    const { fake } = controller();
    fake.write8(regs.DATA_OFFSET, 0xf2);
    expect(fake.irq.take()).toBe(1);
    expect(fake.read8(regs.DATA_OFFSET)).toBe(regs.KEYBOARD_ACK);
  });

  it("stays silent once the command byte turns the interrupt off", () => {
    const { fake, back, backIrq } = controller();
    fake.write8(regs.COMMAND_OFFSET, regs.COMMAND_WRITE_CTR);
    fake.write8(regs.DATA_OFFSET, 0);
    fake.write8(regs.DATA_OFFSET, 0xf2);
    back.sendCtrlAltDelete();
    expect(fake.irq.count + backIrq.count).toBe(0);
    expect(outputFull(fake)).toBe(true);
  });

  it("says in its status whether the last write was a command", () => {
    const { fake } = controller();
    fake.write8(regs.COMMAND_OFFSET, regs.COMMAND_READ_CTR);
    expect(fake.read8(regs.STATUS_OFFSET) & regs.STATUS_COMMAND_MASK).not.toBe(0);
    fake.write8(regs.DATA_OFFSET, 0);
    expect(fake.read8(regs.STATUS_OFFSET) & regs.STATUS_COMMAND_MASK).toBe(0);
  });

  it("ignores port 61h and wide accesses", () => {
    const { fake } = controller();
    expect(fake.read8(1)).toBe(0);
    fake.front.write(regs.COMMAND_OFFSET, 2, regs.COMMAND_RESET);
    expect(fake.takePosts()).toEqual([]);
  });
});

describe("I8042Back", () => {
  it("delivers Ctrl-Alt-Delete scan code by scan code, each with its interrupt", () => {
    const { fake, back, backIrq } = controller();
    expect(back.sendCtrlAltDelete()).toBe(true);
    expect(backIrq.take()).toBe(1);
    const codes = regs.CTRL_ALT_DELETE.map(() => fake.read8(regs.DATA_OFFSET));
    expect(codes).toEqual([0x14, 0x11, 0xe0, 0x71]);
    expect(fake.irq.take()).toBe(3);
    expect(outputFull(fake)).toBe(false);
  });

  it("lets a reply overtake scan codes that wait", () => {
    const { fake, back } = controller();
    back.sendCtrlAltDelete();
    fake.write8(regs.DATA_OFFSET, 0xed);
    expect(fake.read8(regs.DATA_OFFSET)).toBe(regs.KEYBOARD_ACK);
    expect(fake.read8(regs.DATA_OFFSET)).toBe(0x14);
  });

  it("refuses keys when sixteen scan codes wait, and takes them again after a read", () => {
    const { fake, back } = controller();
    const sent = [1, 2, 3, 4, 5].map(() => back.sendCtrlAltDelete());
    expect(sent).toEqual([true, true, true, true, false]);
    for (let index = 0; index < 4; index++) fake.read8(regs.DATA_OFFSET);
    expect(back.sendCtrlAltDelete()).toBe(true);
  });
});

describe("saveI8042 and restoreI8042", () => {
  it("carry command byte, pending parameter, reply and scan codes over", () => {
    const { fake, back } = controller();
    back.sendCtrlAltDelete();
    fake.read8(regs.DATA_OFFSET);
    fake.write8(regs.COMMAND_OFFSET, regs.COMMAND_READ_CTR);
    fake.write8(regs.COMMAND_OFFSET, regs.COMMAND_WRITE_CTR);
    const record = JSON.parse(JSON.stringify(saveI8042(fake.state)));
    const state = createState("i8042");
    restoreI8042(state, record);
    expect(saveI8042(state)).toEqual(record);
    expect(record).toMatchObject({ version: 1, scancodes: [0x11, 0xe0, 0x71], reply: 5 });
  });
});
