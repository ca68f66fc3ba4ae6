/** Clients of a console: readers, writers, sizes, and what ends them. */
import { describe, expect, it, vi } from "vitest";
import {
  encodeFrame,
  FRAME_STARTED,
  FRAME_WINSIZE,
} from "../../../src/actors/guest-stdio-frames.js";
import { openConsole } from "../../../src/api/v1/console-socket.js";
import { FakePeer } from "../../support/fake-peer.js";
import { KILLED, PlayedFleet } from "../../support/played-fleet.js";

async function running() {
  const fleet = new PlayedFleet();
  await fleet.create({ name: "web", config: { id: "a" } });
  const join = (options: { history?: boolean; write?: boolean } = {}) => {
    const peer = new FakePeer();
    const session = openConsole(fleet, "web", { history: true, write: true, ...options }, peer);
    return { peer, session };
  };
  return { fleet, machine: fleet.machine("a"), join };
}

/** Lets what was promised come. */
const settle = () => new Promise((resolve) => setImmediate(resolve));
const bytes = (text: string) => Buffer.from(text, "latin1");

describe("openConsole", () => {
  it("shows every reader everything, with what was before if it asks", async () => {
    const { machine, join } = await running();
    machine.say("before ");
    const withHistory = join();
    const without = join({ history: false });
    machine.say("after");
    expect(withHistory.peer.text).toBe("before after");
    expect(without.peer.text).toBe("after");
  });

  it("takes bytes of every writer in the order they come", async () => {
    const { machine, join } = await running();
    const [first, second] = [join(), join()];
    first.session.onMessage?.(bytes("a\0"), true);
    second.session.onMessage?.(bytes("\xffb"), true);
    first.session.onMessage?.(bytes("c"), true);
    expect(machine.input).toBe("a\0\xffbc");
  });

  it("closes a reader that writes with 1008", async () => {
    const { machine, join } = await running();
    const { peer, session } = join({ write: false });
    session.onMessage?.(bytes("x"), true);
    expect(peer.closed?.code).toBe(1008);
    expect(machine.input).toBe("");
  });

  it.each([
    "",
    "resize",
    "{}",
    '{"type":"resize","columns":0,"rows":1}',
    '{"type":"resize","columns":80}',
    '{"type":"resize","columns":80,"rows":24,"more":1}',
    `{"type":"resize","columns":80,"rows":24${" ".repeat(300)}}`,
    "\xff\xfe",
  ])("closes a client that says %j with 1008", async (text) => {
    const { join } = await running();
    const { peer, session } = join();
    session.onMessage?.(bytes(text), false);
    expect(peer.closed?.code).toBe(1008);
  });

  it("tells a size to a guest that speaks frames, and to no other", async () => {
    const { machine, join } = await running();
    const { session, peer } = join();
    const resize = bytes('{"type":"resize","columns":132,"rows":43}');
    session.onMessage?.(resize, false);
    expect(machine.input).toBe("");
    machine.say("text ");
    machine.console.write(encodeFrame(FRAME_STARTED, Uint8Array.of(1, 0, 0, 0)));
    session.onMessage?.(resize, false);
    const frame = encodeFrame(FRAME_WINSIZE, Uint8Array.of(43, 0, 132, 0));
    expect(Buffer.concat(machine.read)).toEqual(Buffer.from(frame));
    expect(peer.closed).toBeUndefined();
  });

  it("keeps output for a slow reader, and gives it up when that is too much", async () => {
    const { machine, join } = await running();
    const { peer, session } = join();
    peer.room = 1;
    for (const text of ["1", "2", "3"]) machine.say(text);
    expect(peer.text).toBe("1");
    peer.room = Number.POSITIVE_INFINITY;
    session.onDrain?.();
    expect(peer.text).toBe("123");
    peer.room = 1;
    const other = join({ history: false });
    for (let kib = 0; kib <= 1100; kib++) machine.say("x".repeat(1024));
    expect(peer.closed?.code).toBe(1013);
    expect(other.peer.text.length).toBe(1101 * 1024);
  });

  it("closes a writer whose guest does not read, when too much waits", async () => {
    const { machine, join } = await running();
    machine.appetiteBytes = 10;
    const { peer, session } = join();
    for (let at = 0; at < 65; at++) session.onMessage?.(new Uint8Array(4096), true);
    expect(peer.closed?.code).toBe(1013);
    expect(machine.input.length).toBe(10);
  });

  it("keeps output for a slow reader, and input for a slow guest, in a few pieces", async () => {
    const { machine, join } = await running();
    const { peer, session } = join();
    machine.appetiteBytes = 10;
    peer.room = 1;
    const BYTES = 200_000;
    const sends = vi.spyOn(machine.console, "send");
    for (let at = 0; at < BYTES; at++) {
      machine.say("x");
      session.onMessage?.(Buffer.from([at % 251]), true);
    }
    peer.room = Number.POSITIVE_INFINITY;
    session.onDrain?.();
    expect(peer.text).toBe("x".repeat(BYTES));
    expect(peer.messages.length).toBeLessThan(10);
    // What was said last reaches the guest also when its client has gone.
    session.onClose();
    machine.appetiteBytes = Number.POSITIVE_INFINITY;
    machine.console.pump();
    await settle();
    expect(Buffer.from(machine.input, "latin1")).toEqual(
      Buffer.from(Uint8Array.from({ length: BYTES }, (_, at) => at % 251)),
    );
    expect(sends.mock.calls.length).toBeLessThan(20);
  });

  it("does not count what the guest has read", async () => {
    const { machine, join } = await running();
    const { peer, session } = join();
    for (let at = 0; at < 200; at++) {
      session.onMessage?.(new Uint8Array(4096), true);
      await settle();
    }
    expect(peer.closed).toBeUndefined();
    expect(machine.input.length).toBe(200 * 4096);
    // A step of 64 KiB each time, so that the client may go on.
    expect(peer.json).toEqual(
      Array.from({ length: 12 }, (_, index) => ({ type: "taken", bytes: (index + 1) * 65_536 })),
    );
  });

  it("closes with 1000 after the last output when the microVM ends", async () => {
    const { machine, join } = await running();
    const quick = join();
    const slow = join();
    slow.peer.room = 1;
    machine.say("last ");
    machine.say("words");
    machine.end(KILLED);
    await settle();
    expect(quick.peer.closed?.code).toBe(1000);
    expect(slow.peer.closed).toBeUndefined();
    slow.peer.room = Number.POSITIVE_INFINITY;
    slow.session.onDrain?.();
    expect(slow.peer.text).toBe("last words");
    expect(slow.peer.closed?.code).toBe(1000);
  });

  it("hears nothing more when its client has gone", async () => {
    const { machine, join } = await running();
    const { peer, session } = join();
    session.onClose();
    machine.say("x");
    machine.end(KILLED);
    await settle();
    expect(peer.text).toBe("");
    expect(peer.closed).toBeUndefined();
  });

  it.each([
    ["4 MiB", 16, 65_536],
    ["a byte each of 1024 clients", 1024, 1],
  ])(
    "keeps %s that the guest does not read, of clients that come and go, and no more",
    async (_, clients, sizeBytes) => {
      const { machine, join } = await running();
      machine.appetiteBytes = 0;
      const messages = sizeBytes === 1 ? 1 : 4;
      const say = () => {
        const { peer, session } = join();
        for (let sent = 0; sent < messages; sent++) {
          session.onMessage?.(Buffer.alloc(sizeBytes), true);
        }
        session.onClose();
        return peer.closed?.code;
      };
      expect(new Set(Array.from({ length: clients }, say))).toEqual(new Set([undefined]));
      expect(say()).toBe(1013);
      machine.appetiteBytes = Number.POSITIVE_INFINITY;
      machine.console.pump();
      await settle();
      expect(machine.input.length).toBe(clients * messages * sizeBytes);
      expect(say()).toBeUndefined();
    },
  );

  it("leaves nothing with the microVM when its client has gone", async () => {
    const { machine, join } = await running();
    const hung = vi.spyOn(machine.exited, "then");
    for (let count = 0; count < 100; count++) join().session.onClose();
    expect(hung.mock.calls.length).toBeLessThanOrEqual(1);
    const { peer } = join();
    machine.end(KILLED);
    await settle();
    expect(peer.closed?.code).toBe(1000);
  });

  it("shows the history of a microVM that has ended", async () => {
    const { fleet, machine, join } = await running();
    machine.say("was here");
    await fleet.kill("a");
    await settle();
    const { peer } = join();
    expect(peer.text).toBe("was here");
    expect(peer.closed?.code).toBe(1000);
    expect(join({ history: false }).peer.closed?.code).toBe(4409);
  });

  it("closes with 4404 without a microVM, with 4409 before it was started", async () => {
    const { fleet, join } = await running();
    await fleet.create({ name: "later", start: false });
    const peers = ["none", "later"].map((id) => {
      const peer = new FakePeer();
      openConsole(fleet, id, { history: true, write: true }, peer);
      return peer.closed?.code;
    });
    expect(peers).toEqual([4404, 4409]);
    await fleet.remove("web", { force: true });
    expect(join().peer.closed?.code).toBe(4404);
  });
});
