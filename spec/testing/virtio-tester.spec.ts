import { describe, expect, it } from "vitest";
import { defineVirtioDevice } from "../../src/actors/config-devices.js";
import { VirtioTester } from "../../src/testing/virtio-tester.js";

const events: string[] = [];
/** Answers with its bytes in upper case; later, if they begin with a blank. */
const upper = defineVirtioDevice({
  id: "upper",
  deviceType: 60,
  queues: [16, 4],
  features: [1],
  config: Uint8Array.of(1, 0, 0, 0),
  writableConfig: { start: 2, end: 4 },
  onAttach: ({ id }) => events.push(`attached ${id}`),
  onClose: ({ id }) => events.push(`closed ${id}`),
  onConfigWrite: (_offset, _sizeBytes, value, device) => {
    if (value === 13) throw new Error("unlucky");
    device.setConfig(Uint8Array.of(value));
  },
  async onChain(chain) {
    const text = Buffer.from(chain.read()).toString();
    if (text.startsWith(" ")) await new Promise((resolve) => setTimeout(resolve, 5));
    if (text === "throw") throw new Error("told to");
    return chain.write(Buffer.from(text.toUpperCase()));
  },
});

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();

describe("VirtioTester", () => {
  it("asks the device and gets its answers, in whatever order they come", async () => {
    const tester = new VirtioTester(upper);
    tester.start();
    const slow = tester.request(Buffer.from(" slow"), 5);
    const fast = tester.request(Buffer.from("fast"), 2);
    const other = tester.request(Buffer.from("other"), 16, 1);
    expect(text(await fast)).toBe("FA");
    expect(text(await other)).toBe("OTHER");
    expect(text(await slow)).toBe(" SLOW");
    expect(tester.takeInterrupts()).toBeGreaterThanOrEqual(2);
    for (let index = 0; index < 100; index++) {
      expect(text(await tester.request(Buffer.from(`n${index}`), 8))).toBe(`N${index}`);
    }
    expect(tester.metrics).toMatchObject({ chains: 103, completed: 103, failures: 0 });
    tester.close();
    expect(events).toEqual(["attached upper", "closed upper"]);
  });

  it("shows features and configuration as a driver sees them", () => {
    const tester = new VirtioTester(upper);
    expect(tester.offered).toContain(1);
    tester.start({ features: [], queueSize: 2 });
    expect(tester.queue().size).toBe(2);
    expect(tester.readConfig(0, 1)).toBe(1);
    tester.writeConfig(2, 2, 7);
    expect(tester.readConfig(0, 1)).toBe(7);
    expect(tester.readConfig(2, 2)).toBe(7);
  });

  it("shows a failure as a microVM would report it, and lets the driver start again", async () => {
    const tester = new VirtioTester(upper);
    tester.start();
    const waiting = tester.request(Buffer.from(" x"), 2);
    await expect(tester.request(Buffer.from("throw"), 2)).rejects.toThrow("needs a reset");
    await expect(waiting).rejects.toThrow("needs a reset");
    expect(tester.needsReset).toBe(true);
    expect(tester.failures.map(({ message }) => message)).toEqual([
      expect.stringContaining("told to"),
    ]);
    tester.reset();
    expect(tester.needsReset).toBe(false);
    tester.start();
    expect(text(await tester.request(Buffer.from("again"), 5))).toBe("AGAIN");
    tester.writeConfig(2, 2, 13);
    expect(tester.failures.length).toBe(2);
    expect(tester.needsReset).toBe(true);
  });

  it("rejects what is asked of a device that needs a reset, or is gone", async () => {
    const tester = new VirtioTester(upper);
    tester.start();
    await expect(tester.request(Buffer.from("throw"), 5)).rejects.toThrow("told to");
    await expect(tester.request(Buffer.from("more"), 5)).rejects.toThrow("needs a reset");
    tester.reset();
    tester.start();
    expect(text(await tester.request(Buffer.from("more"), 5))).toBe("MORE");
    tester.close();
    expect(() => tester.request(Buffer.from("late"), 5)).toThrow("not set up");
  });

  it("keeps answers over a pause", async () => {
    const tester = new VirtioTester(upper);
    tester.start();
    tester.pause();
    const answer = tester.request(Buffer.from("paused"), 6);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(tester.metrics.chains).toBe(0);
    tester.resume();
    expect(text(await answer)).toBe("PAUSED");
  });

  it("refuses requests without a driver, and those that memory has no room for", () => {
    const tester = new VirtioTester(upper, { memoryBytes: 65_536 });
    expect(() => tester.request(new Uint8Array(1))).toThrow("call start()");
    tester.start();
    expect(() => tester.request(new Uint8Array(70_000))).toThrow("no room");
  });
});
