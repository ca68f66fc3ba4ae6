import { describe, expect, it } from "vitest";
import { MAILBOX_ACCESS, MAILBOX_WRITE } from "../../src/devices/events.js";
import { decodeAccess, encodeAccess } from "../../src/devices/mailbox.state.js";
import { MailboxBack } from "../../src/devices/mailbox-back.js";
import { FakeFront } from "../support/fake-front.js";

const base = { id: "own", base: 0x510, sizeBytes: 16 };
const wiring = { irq: undefined, gsi: undefined, onFailed: () => {}, schedule: () => () => {} };

describe("MailboxFront", () => {
  it("reads the register image at once, in any size, and posts writes", () => {
    const fake = new FakeFront("mailbox");
    new MailboxBack(fake.state, { ...base, registers: Uint8Array.of(1, 2, 3, 4, 5) }, wiring);
    expect([fake.read8(0), fake.front.read(1, 2), fake.read32(1)]).toEqual([1, 0x302, 0x5040302]);
    expect(fake.read8(15)).toBe(0);
    fake.front.write(3, 2, 0x1234);
    fake.write8(15, 7);
    expect(fake.takePosts()).toEqual([
      { event: MAILBOX_WRITE + 4096 + 3, value: 0x1234 },
      { event: MAILBOX_WRITE + 15, value: 7 },
    ]);
  });

  it("puts a synchronous access into its mailbox and gives what the back answers", () => {
    const fake = new FakeFront("mailbox");
    const back = new MailboxBack(
      fake.state,
      { ...base, sync: true, read: (offset, sizeBytes) => offset * 16 + sizeBytes },
      wiring,
    );
    fake.onWait = () => {
      for (const { event, value } of fake.takePosts()) back.handleEvent(event, value);
    };
    expect(fake.front.read(4, 2)).toBe(0x42);
    expect(fake.front.read(5, 4)).toBe(0x54);
    fake.front.write(5, 1, 1);
    expect(back.metrics).toEqual({ reads: 2, writes: 1, timeouts: 0, failures: 0 });
  });

  it("asks again while there is no answer: a post may be lost", () => {
    const fake = new FakeFront("mailbox");
    const back = new MailboxBack(fake.state, { ...base, sync: "reads", read: () => 9 }, wiring);
    let waits = 0;
    fake.onWait = () => {
      const [post] = fake.takePosts();
      expect(post).toEqual({ event: MAILBOX_ACCESS, value: 0 });
      if (++waits === 3) back.handleEvent(post.event, post.value);
    };
    expect(fake.read8(0)).toBe(9);
    expect(waits).toBe(3);
    fake.write8(1, 2);
    expect(fake.takePosts()).toEqual([{ event: MAILBOX_WRITE + 1, value: 2 }]);
  });

  it("waits for nobody who is gone", () => {
    const fake = new FakeFront("mailbox");
    const back = new MailboxBack(fake.state, { ...base, sync: true, read: () => 9 }, wiring);
    fake.onWait = () => back.abandon();
    expect(fake.read8(0)).toBe(0xffff_ffff);
    fake.onWait = () => {
      throw new Error("waits");
    };
    expect(fake.read32(4)).toBe(0xffff_ffff);
  });

  it("names every access by a number of its own", () => {
    for (const offset of [0, 1, 4095]) {
      for (const sizeBytes of [1, 2, 4]) {
        for (const isWrite of [false, true]) {
          const access = { offset, sizeBytes, isWrite };
          expect(decodeAccess(encodeAccess(offset, sizeBytes, isWrite))).toEqual(access);
        }
      }
    }
  });
});
