import { describe, expect, it, onTestFinished, vi } from "vitest";
import { Console } from "../../src/actors/console.js";
import { KIB } from "../../src/units.js";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (chunk: Uint8Array) => new TextDecoder().decode(chunk);

/** A serial port that takes what it has room for. */
class FakePort {
  room = 0;
  received = "";
  drains = 0;
  onPush: () => void = () => {};

  push(input: Uint8Array): number {
    const taken = Math.min(this.room, input.length);
    this.room -= taken;
    this.received += text(input.subarray(0, taken));
    this.onPush();
    return taken;
  }

  drain(): void {
    this.drains += 1;
  }
}

function connected(room = 0) {
  const console = new Console();
  const port = new FakePort();
  port.room = room;
  console.connect(port);
  return { console, port };
}

/** Whether the promise is settled by now. */
async function isDone(promise: Promise<void>): Promise<boolean> {
  const pending = Symbol("pending");
  const turn = new Promise((resolve) => setImmediate(resolve, pending));
  return (await Promise.race([promise, turn])) !== pending;
}

describe("Console output", () => {
  it("goes to every reader from when it began to read until it stopped", () => {
    const { console } = connected();
    const [early, late] = [[] as string[], [] as string[]];
    const stop = console.read((chunk) => early.push(text(chunk)));
    console.write(bytes("one"));
    console.read((chunk) => late.push(text(chunk)));
    console.write(bytes("two"));
    stop();
    stop();
    console.write(bytes("three"));
    expect(early).toEqual(["one", "two"]);
    expect(late).toEqual(["two", "three"]);
  });

  it("is replayed to a late reader who asks for it", () => {
    const { console } = connected();
    console.write(bytes("one"));
    console.write(bytes("two"));
    const seen: string[] = [];
    console.read((chunk) => seen.push(text(chunk)), true);
    console.write(bytes("three"));
    expect(seen).toEqual(["onetwo", "three"]);
  });

  it("reaches a reader that joins from within another reader once", () => {
    const { console } = connected();
    const seen: string[] = [];
    const stop = console.read(() => {
      stop();
      console.read((chunk) => seen.push(text(chunk)), true);
    });
    console.write(bytes("one"));
    console.write(bytes("two"));
    expect(seen).toEqual(["one", "two"]);
  });

  it("lets one function read twice, and stop once for each", () => {
    const { console } = connected();
    const seen: string[] = [];
    const reader = (chunk: Uint8Array) => seen.push(text(chunk));
    const stop = console.read(reader);
    console.read(reader);
    stop();
    console.write(bytes("one"));
    expect(seen).toEqual(["one"]);
  });

  it("is kept as a few blocks, however small the guest's writes", () => {
    const { console } = connected();
    for (let count = 0; count < 150 * KIB; count++) console.write(Uint8Array.of(count % 251));
    const concat = vi.spyOn(Buffer, "concat");
    try {
      const last = Uint8Array.from({ length: 64 * KIB }, (_, at) => (86 * KIB + at) % 251);
      expect(Buffer.compare(console.history(), last)).toBe(0);
      expect(concat.mock.lastCall?.[0].length ?? 0).toBeLessThan(20);
    } finally {
      concat.mockRestore();
    }
  });

  it("keeps the last 64 KiB", () => {
    const { console } = connected();
    for (let i = 0; i < 200; i++)
      console.write(bytes(String.fromCharCode(97 + (i % 26)).repeat(KIB)));
    const history = text(console.history());
    expect(history.length).toBe(64 * KIB);
    expect(history.endsWith(String.fromCharCode(97 + (199 % 26)).repeat(KIB))).toBe(true);
  });

  it("keeps the end of a single chunk that is larger than the history", () => {
    const { console } = connected();
    console.write(bytes(`${"a".repeat(100 * KIB)}end`));
    const history = text(console.history());
    expect(history).toHaveLength(64 * KIB);
    expect(history.endsWith("end")).toBe(true);
  });

  it("is not taken while anybody holds it, and asked for when the last one lets go", () => {
    const { console, port } = connected();
    expect(console.write(bytes("a"))).toBe(true);
    const [first, second] = [console.holdOutput(), console.holdOutput()];
    expect(console.write(bytes("b"))).toBe(false);
    first();
    first();
    expect(console.write(bytes("c"))).toBe(false);
    expect(port.drains).toBe(0);
    second();
    expect(port.drains).toBe(1);
    expect(console.write(bytes("d"))).toBe(true);
    expect(text(console.history())).toBe("abcd");
  });
});

describe("Console input", () => {
  it("reaches the guest at once when it has room", async () => {
    const { console, port } = connected(100);
    await console.send(bytes("hello"));
    expect(port.received).toBe("hello");
  });

  it("waits for room, in order, and tells each sender when all of its bytes are taken", async () => {
    const { console, port } = connected(3);
    const [first, second] = [console.send(bytes("12345")), console.send(bytes("678"))];
    expect(port.received).toBe("123");
    expect(await isDone(first)).toBe(false);
    port.room = 3;
    console.pump();
    expect(port.received).toBe("123456");
    expect([await isDone(first), await isDone(second)]).toEqual([true, false]);
    port.room = 10;
    console.pump();
    expect(port.received).toBe("12345678");
    expect(await isDone(second)).toBe(true);
  });

  it("sends each byte once when the port hears of room while it is given bytes", async () => {
    const { console, port } = connected(2);
    let pushes = 0;
    port.onPush = () => {
      pushes += 1;
      if (pushes > 3) return;
      port.room += 2;
      console.pump();
    };
    const sent = console.send(bytes("abcdefgh"));
    port.room = 100;
    console.pump();
    await sent;
    expect(port.received).toBe("abcdefgh");
  });

  it("takes what is sent before there is a port as soon as there is one", async () => {
    const console = new Console();
    const sent = console.send(bytes("early"));
    const port = new FakePort();
    port.room = 100;
    console.connect(port);
    expect(port.received).toBe("early");
    expect(await isDone(sent)).toBe(true);
  });

  it("is done with nothing to send", async () => {
    const { console, port } = connected();
    expect(await isDone(console.send(new Uint8Array()))).toBe(true);
    expect(port.received).toBe("");
  });

  it("keeps a private copy: a sender may use its buffer again at once", async () => {
    const { console, port } = connected();
    const buffer = bytes("keep");
    const sent = console.send(buffer);
    buffer.fill(120);
    port.room = 4;
    console.pump();
    await sent;
    expect(port.received).toBe("keep");
  });

  it("lets its senders go on when the guest is gone, those who come later too", async () => {
    const { console } = connected();
    const waiting = console.send(bytes("never read"));
    console.close();
    expect(await isDone(waiting)).toBe(true);
    expect(await isDone(console.send(bytes("too late")))).toBe(true);
    expect(() => console.pump()).not.toThrow();
  });
});

describe("Console with functions in the way", () => {
  it("keeps the order of what they let through, each way, and goes on without them", async () => {
    const reports: string[] = [];
    const console = new Console((where) => reports.push(where));
    const pushed: string[] = [];
    console.connect({ push: (bytes) => pushed.push(text(bytes)) && bytes.length, drain: () => {} });
    const remove = console.use(async (serial, next) => {
      if (text(serial.bytes) === "slow") await new Promise((resolve) => setTimeout(resolve, 5));
      if (text(serial.bytes) === "drop") return;
      if (text(serial.bytes) === "throw") throw new Error("own bug");
      serial.bytes = Buffer.from(`${serial.direction[0]}:${text(serial.bytes)} `);
      await next();
    });
    for (const word of ["slow", "drop", "throw", "fast"]) console.write(Buffer.from(word));
    const sent = console.send(Buffer.from("in"));
    remove();
    console.write(Buffer.from("behind"));
    await sent;
    expect(pushed).toEqual(["t:in "]);
    await vi.waitFor(() => expect(text(console.history())).toContain("behind"));
    expect(text(console.history())).toBe("f:slow f:fast behind");
    console.write(Buffer.from("!"));
    expect(text(console.history())).toMatch(/behind!$/);
    expect(reports).toEqual(["serial middleware"]);
  });

  it("makes the guest wait while they hold too much", async () => {
    const console = new Console();
    let drains = 0;
    console.connect({ push: () => 0, drain: () => drains++ });
    let go: () => void = () => {};
    console.use(async (_serial, next) => {
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      await next();
    });
    expect(console.write(new Uint8Array(1024))).toBe(true);
    expect(console.write(new Uint8Array(63 * 1024))).toBe(false);
    await new Promise((resolve) => setImmediate(resolve));
    go();
    await vi.waitFor(() => expect(drains).toBe(1));
    expect(console.write(new Uint8Array(1))).toBe(true);
  });

  it("leaves no rejection unheard when a reader throws behind the last of them", async () => {
    const unheard: unknown[] = [];
    const onUnheard = (error: unknown) => unheard.push(error);
    process.on("unhandledRejection", onUnheard);
    onTestFinished(() => void process.off("unhandledRejection", onUnheard));
    const reports: string[] = [];
    const console = new Console((where, { message }) => reports.push(`${where}: ${message}`));
    const ring = ["one", "two"];
    const port = new FakePort();
    // As the serial port's back: what is handed over is out of the ring, whatever the sink throws.
    port.drain = () => {
      for (let next = ring.shift(); next !== undefined; next = ring.shift()) {
        console.write(bytes(next));
      }
    };
    console.connect(port);
    const remove = console.use((_serial, next) => next());
    const seen: string[] = [];
    console.read((chunk) => {
      seen.push(text(chunk));
      if (text(chunk) === "one") throw new Error("own bug");
    });
    console.write(bytes("first"));
    remove();
    await vi.waitFor(() => expect(seen).toEqual(["first", "one", "two"]));
    expect(unheard).toEqual([]);
    expect(reports).toEqual([expect.stringMatching(/^serial: .*own bug/)]);
  });

  it("makes the guest wait while they hold too many writes", () => {
    const console = new Console();
    console.use(() => new Promise(() => {}));
    const taken = Array.from({ length: 1024 }, () => console.write(new Uint8Array(1)));
    expect(taken.indexOf(false)).toBe(1023);
  });
});
