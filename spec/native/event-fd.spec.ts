import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { native } from "../../src/native/binding.js";

/** The eventfd's counter, from the kernel. */
function counterOf(fd: number): number {
  const info = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
  return Number.parseInt(/^eventfd-count:\s+([0-9a-f]+)$/m.exec(info)?.[1] ?? "", 16);
}

describe("EventFd", () => {
  it("counts signals of its object and of its bare descriptor alike", () => {
    const addon = native();
    const event = new addon.EventFd();
    event.signal();
    addon.signalEventFd(event.fd);
    expect(counterOf(event.fd)).toBe(2);
    event.close();
  });

  it("gives how often it was signalled since the last time, and 0 when it was not", () => {
    const event = new (native().EventFd)();
    for (let i = 0; i < 3; i++) event.signal();
    expect(event.take()).toBe(3);
    expect(event.take()).toBe(0);
    event.signal();
    expect(event.take()).toBe(1);
    event.close();
    expect(() => event.take()).toThrow(expect.objectContaining({ code: "EBADF" }));
  });

  it("has no descriptor and takes no signal once it is closed, and closes once", () => {
    const event = new (native().EventFd)();
    event.close();
    event.close();
    expect(event.fd).toBe(-1);
    expect(() => event.signal()).toThrow(expect.objectContaining({ code: "EBADF" }));
  });

  it("is not inherited by other programs", () => {
    const event = new (native().EventFd)();
    const flags = /^flags:\s+([0-7]+)$/m.exec(
      readFileSync(`/proc/self/fdinfo/${event.fd}`, "utf8"),
    );
    const O_CLOEXEC = 0o2000000;
    expect(Number.parseInt(flags?.[1] ?? "0", 8) & O_CLOEXEC).toBe(O_CLOEXEC);
    event.close();
  });
});
