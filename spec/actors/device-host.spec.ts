import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DeviceHost, type Watch } from "../../src/actors/device-host.js";
import { type NativeEventFd, native } from "../../src/native/binding.js";
import { runAlone } from "../support/threads.js";

async function turns(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
}

describe("DeviceHost", () => {
  let host: DeviceHost;
  let called: string[];
  let errors: unknown[];
  let events: NativeEventFd[];
  let watches: Watch[];
  beforeEach(() => {
    host = new DeviceHost();
    [called, errors, events, watches] = [[], [], [], []];
  });
  afterEach(() => {
    for (const watch of watches) watch.close();
    for (const event of events) event.close();
  });

  function createEvent(): NativeEventFd {
    const event = new (native().EventFd)();
    events.push(event);
    return event;
  }

  /** A watch that notes its name, then does `action`. */
  function watch(name: string, event = createEvent(), action: () => void = () => {}) {
    const opened = host.watch(
      event.fd,
      () => {
        called.push(name);
        action();
      },
      (error) => errors.push(error),
    );
    watches.push(opened);
    return { event, close: () => opened.close() };
  }

  it("calls the handler of what was signalled, and no other", async () => {
    const [a, b] = [watch("a"), watch("b")];
    a.event.signal();
    await turns();
    b.event.signal();
    b.event.signal();
    await turns();
    expect(called).toEqual(["a", "b"]);
  });

  it("gives what a handler throws to its watch's owner, and goes on with the others", async () => {
    const a = watch("a", createEvent(), () => {
      throw new RangeError("broken");
    });
    const b = watch("b");
    a.event.signal();
    b.event.signal();
    await turns();
    expect(called.sort()).toEqual(["a", "b"]);
    expect(errors).toMatchObject([{ code: "ERR_ESTALO_BUG" }]);
    a.event.signal();
    await turns();
    expect(called).toHaveLength(3);
  });

  it("calls no handler that was closed earlier in the same batch", async () => {
    const list: ReturnType<typeof watch>[] = [];
    const closeOthers = (me: number) => () => {
      for (const [index, other] of list.entries()) if (index !== me) other.close();
    };
    for (let i = 0; i < 3; i++) list.push(watch(`${i}`, createEvent(), closeOthers(i)));
    for (const { event } of list) event.signal();
    await turns();
    expect(called).toHaveLength(1);
  });

  it("calls no new handler for the signal of an old one whose place it took", async () => {
    const list: ReturnType<typeof watch>[] = [];
    const replaceOthers = (me: number) => () => {
      for (const [index, other] of list.entries()) {
        if (index === me) continue;
        other.close();
        watch("new");
      }
    };
    for (let i = 0; i < 3; i++) list.push(watch(`${i}`, createEvent(), replaceOthers(i)));
    for (const { event } of list) event.signal();
    await turns();
    expect(called).toHaveLength(1);
    expect(called).not.toContain("new");
  });

  it("lets a handler close its own watch, the last one too, and watch again", async () => {
    const event = createEvent();
    const self = watch("once", event, () => self.close());
    event.signal();
    await turns();
    event.signal();
    await turns();
    expect(called).toEqual(["once"]);
    watch("again", event);
    await turns();
    expect(called).toEqual(["once", "again"]);
  });

  it("closes a watch once, although its place has a new owner", async () => {
    const old = watch("old");
    old.close();
    const fresh = watch("fresh");
    old.close();
    fresh.event.signal();
    await turns();
    expect(called).toEqual(["fresh"]);
  });

  it("serves hundreds of watches that are signalled together", async () => {
    const list = Array.from({ length: 300 }, (_, i) => watch(`${i}`));
    for (const { event } of list) event.signal();
    await turns();
    expect(new Set(called).size).toBe(300);
    expect(called).toHaveLength(300);
  });

  it("is as it was after a descriptor that cannot be watched", async () => {
    expect(() =>
      host.watch(
        -1,
        () => called.push("bad"),
        () => {},
      ),
    ).toThrow();
    const a = watch("a");
    a.event.signal();
    await turns();
    expect(called).toEqual(["a"]);
  });

  it("keeps its process alive while something is watched, and only then", async () => {
    const program = (last: string) => `
      import { DeviceHost } from "./src/actors/device-host.js";
      import { native } from "./src/native/binding.js";
      const event = new (native().EventFd)();
      const host = new DeviceHost();
      try { host.watch(-1, () => {}, () => {}); } catch {}
      const watch = host.watch(event.fd, () => {}, () => {});
      setTimeout(() => { console.log("alive"); process.exit(); }, 300).unref();
      ${last}
    `;
    expect(await runAlone(program(""))).toBe("alive\n");
    expect(await runAlone(program("watch.close();"))).toBe("");
  });
});
