/** Readers of events: nothing missed, nothing twice, however slow they are and wherever they begin. */
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { EventsHub } from "../../../src/api/v1/events-socket.js";
import { EstaloError } from "../../../src/errors.js";
import { FakePeer } from "../../support/fake-peer.js";
import { PlayedJournal } from "../../support/played-fleet.js";

function hubOf(kept?: number) {
  const journal = new PlayedJournal(kept);
  const hub = new EventsHub(journal);
  const emit = (count: number, microvm = "a") => {
    for (let at = 0; at < count; at++) journal.emit(microvm, { type: "updated" });
  };
  return { journal, hub, emit };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
/** Time for a reader to catch up with everything that a journal here keeps. */
async function turns(): Promise<void> {
  for (let count = 0; count < 50; count++) await turn();
}

/** Sequence numbers of the events a peer got, without the greeting. */
const numbers = (peer: FakePeer) => peer.json.slice(1).map(({ sequence }) => sequence);

describe("EventsHub", () => {
  it("greets with what is kept, then tells what happens from now on", () => {
    const { hub, emit } = hubOf();
    emit(3);
    const peer = new FakePeer();
    hub.open(peer, {});
    emit(2);
    expect(peer.json[0]).toEqual({ type: "hello", oldest: 1, newest: 3 });
    expect(numbers(peer)).toEqual([4, 5]);
  });

  it("begins with what was missed", async () => {
    const { hub, emit } = hubOf();
    emit(600);
    const peer = new FakePeer();
    hub.open(peer, {}, 100);
    emit(1);
    await turns();
    expect(numbers(peer)).toEqual(Array.from({ length: 501 }, (_, index) => 101 + index));
  });

  it("reads a page of the journal in a turn, for all readers together, and stays in order", async () => {
    const { journal, hub, emit } = hubOf(10_000);
    emit(3000);
    const since = vi.spyOn(journal, "since");
    const [all, none] = [new FakePeer(), new FakePeer()];
    hub.open(all, {}, 0);
    hub.open(none, { types: new Set(["deleted"]) }, 0);
    expect(since).toHaveBeenCalledTimes(2);
    for (let count = 0; count < 10; count++) {
      since.mockClear();
      emit(1);
      await turn();
      expect(since.mock.calls.length).toBeLessThanOrEqual(1);
    }
    journal.emit("a", { type: "deleted" });
    await turns();
    emit(1);
    expect(numbers(all)).toEqual(Array.from({ length: 3012 }, (_, index) => index + 1));
    expect(numbers(none)).toEqual([3011]);
  });

  it.each([
    ["in the same turn", () => {}],
    ["between two pages", turn],
  ])("closes a reader who is too slow for a journal that forgets %s", async (_when, wait) => {
    const { hub, emit } = hubOf(600);
    emit(600);
    const peer = new FakePeer();
    hub.open(peer, {}, 0);
    await wait();
    emit(600);
    await turns();
    expect(peer.closed?.code).toBe(1013);
    expect(hub.size).toBe(0);
  });

  it.each([
    ["older than what is kept", 1],
    ["newer than there ever was", 11],
  ])("closes a reader whose since is %s with 4410", (_why, since) => {
    const { hub, emit } = hubOf(5);
    emit(10);
    const peer = new FakePeer();
    hub.open(peer, {}, since);
    emit(1);
    expect(peer.closed).toEqual({ code: 4410, reason: "gap" });
    expect(numbers(peer)).toEqual([]);
    expect(hub.size).toBe(0);
  });

  it("tells an end with every field of its schema, null where there is nothing to say", () => {
    const { journal, hub } = hubOf();
    const peer = new FakePeer();
    hub.open(peer, {});
    const exit = {
      reason: "killed",
      guestStatus: undefined,
      error: undefined,
      exitCode: 137,
    } as const;
    journal.emit("a", { type: "exited", exit });
    expect(peer.json[1].exit).toEqual({ ...exit, guestStatus: null, error: null });
  });

  it.each([
    ["ERR_ESTALO_STATE", 1001],
    ["ERR_ESTALO_STATE_WRITE", 1011],
  ] as const)("loses one reader to a journal that fails with %s", async (code, closed) => {
    const { journal, hub, emit } = hubOf();
    emit(600);
    const [behind, other] = [new FakePeer(), new FakePeer()];
    hub.open(behind, {}, 0);
    hub.open(other, {});
    const since = vi.spyOn(journal, "since").mockImplementation(() => {
      throw new EstaloError(code, "the state cannot be read");
    });
    await turns();
    expect(behind.closed?.code).toBe(closed);
    since.mockRestore();
    emit(1);
    expect(numbers(other)).toEqual([601]);
    expect(hub.size).toBe(1);
  });

  it("filters by microVM and type", () => {
    const { journal, hub, emit } = hubOf();
    const peer = new FakePeer();
    hub.open(peer, { microvms: new Set(["b"]), types: new Set(["updated"]) });
    emit(1);
    emit(2, "b");
    journal.emit("b", { type: "deleted" });
    expect(numbers(peer)).toEqual([2, 3]);
  });

  it("leaves a slow reader alone and lets it catch up when it has drained", () => {
    const { hub, emit } = hubOf();
    const peer = new FakePeer();
    const session = hub.open(peer, {});
    peer.room = 2;
    emit(5);
    expect(numbers(peer)).toEqual([1, 2]);
    peer.room = Number.POSITIVE_INFINITY;
    session.onDrain?.();
    emit(1);
    expect(numbers(peer)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("closes a reader whose next event is forgotten, though it never drains", () => {
    const { hub, emit } = hubOf(4);
    const peer = new FakePeer();
    hub.open(peer, {});
    peer.room = 1;
    emit(10);
    expect(numbers(peer)).toEqual([1]);
    expect(peer.closed?.code).toBe(1013);
    expect(hub.size).toBe(0);
  });

  it("takes no messages", () => {
    const { hub } = hubOf();
    const peer = new FakePeer();
    const session = hub.open(peer, {});
    session.onMessage?.(new Uint8Array(1), true);
    expect(peer.closed?.code).toBe(1008);
  });

  it("listens to the journal only while somebody reads", () => {
    const { journal, hub } = hubOf();
    const sessions = [new FakePeer(), new FakePeer()].map((peer) => hub.open(peer, {}));
    expect(journal.listenerCount).toBe(1);
    for (const session of sessions) session.onClose();
    expect(journal.listenerCount).toBe(0);
  });

  it("is without gap or duplicate over any drops, pauses and bursts", async () => {
    const steps = fc.array(
      fc.record({
        burst: fc.integer({ min: 0, max: 40 }),
        room: fc.integer({ min: 1, max: 30 }),
        after: fc.constantFrom("drain", "drop", "stay"),
      }),
      { maxLength: 40 },
    );
    await fc.assert(
      fc.asyncProperty(steps, async (doing) => {
        const { hub, emit } = hubOf(10_000);
        const got: number[] = [];
        let peer = new FakePeer();
        let session = hub.open(peer, {}, 0);
        const take = () => {
          got.push(...(peer.json.splice(0).flatMap(({ sequence }) => sequence ?? []) as number[]));
          peer.messages.length = 0;
        };
        for (const { burst, room, after } of doing) {
          peer.room = room;
          emit(burst);
          if (after !== "stay") await turn();
          take();
          peer.room = Number.POSITIVE_INFINITY;
          if (after === "drain") session.onDrain?.();
          if (after === "drop") {
            session.onClose();
            peer = new FakePeer();
            session = hub.open(peer, {}, got.at(-1) ?? 0);
          }
          take();
        }
        peer.room = Number.POSITIVE_INFINITY;
        session.onDrain?.();
        await turns();
        take();
        expect(got).toEqual(Array.from({ length: got.length }, (_, index) => index + 1));
        expect(got.length).toBe(doing.reduce((sum, { burst }) => sum + burst, 0));
      }),
    );
  });
});
