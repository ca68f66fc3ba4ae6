/** Events over connections that break, repeat themselves and leave things out. */
import { getEventListeners } from "node:events";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { WebSocket } from "ws";
import { EstaloClient } from "../../../src/api/client/client.js";
import { type EventsOptions, streamEvents } from "../../../src/api/client/event-stream.js";
import { resolveServer } from "../../../src/api/client/server-address.js";
import type { FleetEvent } from "../../../src/api/client/types.js";
import { PlayedServer, problem } from "../../support/played-server.js";

let server: PlayedServer;
let client: EstaloClient;
/** Numbers that this server keeps: 1 to `newest`, from `oldest` on. */
let journal: { oldest: number; newest: number };
let sockets: WebSocket[];

beforeEach(async () => {
  server = await PlayedServer.open();
  client = new EstaloClient({ host: server.host, timeoutMs: 5000 });
  journal = { oldest: 1, newest: 0 };
  sockets = [];
});

afterEach(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const eventText = (sequence: number, type = "booted") =>
  JSON.stringify({ sequence, type, atMs: 1, microvm: "vm-1", name: "web" });

const hello = () => JSON.stringify({ type: "hello", ...journal });

/** Plays a journal: what `since` asks for, at most `most` of it, then what `then` does. */
function playJournal(most: number, then: (socket: WebSocket) => void): void {
  server.onSocket = (socket, url) => {
    sockets.push(socket);
    const since = Number(url.searchParams.get("since") ?? journal.newest);
    socket.send(hello());
    for (let n = since + 1; n <= Math.min(journal.newest, since + most); n++) {
      socket.send(eventText(n));
    }
    then(socket);
  };
}

async function take(count: number, options: EventsOptions = {}): Promise<number[]> {
  const taken: number[] = [];
  for await (const { sequence } of client.events(options)) {
    taken.push(sequence);
    if (taken.length === count) break;
  }
  return taken;
}

const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

describe("events", () => {
  it("leave nothing with a signal that lives longer, however they end", async () => {
    journal.newest = 3;
    playJournal(3, () => {});
    const { signal } = new AbortController();
    const read = async (options: EventsOptions, count: number) => {
      const events = streamEvents(resolveServer({ host: server.host }), 5000, {
        ...options,
        signal,
      });
      for await (const { sequence } of events) if (sequence === count) break;
    };
    await read({ since: 0 }, 2);
    await read({ since: 0, untilNewest: true }, 4);
    journal.oldest = 2;
    playJournal(0, (socket) => socket.close(4410));
    await expect(read({ since: 0 }, 1)).rejects.toMatchObject({ code: "ERR_ESTALO_EVENTS_GAP" });
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });

  it("come once and in order while every connection breaks after three of them", async () => {
    journal.newest = 20;
    playJournal(3, (socket) => socket.terminate());
    expect(await take(20, { since: 0 })).toEqual(upTo(20));
    expect(server.asked.slice(0, 3)).toEqual([
      "WS /v1/events?since=0",
      "WS /v1/events?since=3",
      "WS /v1/events?since=6",
    ]);
  });

  it("come once when the server says some of them again", async () => {
    journal.newest = 4;
    server.onSocket = (socket) => {
      socket.send(hello());
      for (const n of [1, 1, 2, 1, 2, 3, 3, 4]) socket.send(eventText(n));
    };
    expect(await take(4, { since: 0 })).toEqual(upTo(4));
  });

  it("are asked for again when one is left out, and are missed only when it is not there", async () => {
    journal.newest = 4;
    let connection = 0;
    server.onSocket = (socket) => {
      connection++;
      socket.send(hello());
      for (const n of connection === 1 ? [1, 3] : [2, 3, 4]) socket.send(eventText(n));
    };
    expect(await take(4, { since: 0 })).toEqual(upTo(4));
    expect(server.asked.at(-1)).toBe("WS /v1/events?since=1");
    server.onSocket = (socket) => {
      socket.send(hello());
      for (const n of [1, 3, 4]) socket.send(eventText(n));
    };
    await expect(take(4, { since: 0 })).rejects.toMatchObject({ code: "ERR_ESTALO_EVENTS_GAP" });
  });

  it("begin with what happens from now on, and miss nothing that happens while nobody listens", async () => {
    journal.newest = 7;
    playJournal(100, () => {});
    const events = client.events();
    const first = events.next();
    await until(() => sockets.length === 1);
    // Before anything was delivered the connection breaks, and something happens.
    sockets[0].terminate();
    journal.newest = 9;
    expect(((await first).value as FleetEvent).sequence).toBe(8);
    expect(((await events.next()).value as FleetEvent).sequence).toBe(9);
    await events.return?.();
    expect(server.asked).toEqual(["WS /v1/events", "WS /v1/events?since=7"]);
  });

  it("go on when the server was away", async () => {
    journal.newest = 2;
    playJournal(100, () => {});
    const events = client.events({ since: 0 });
    await events.next();
    await events.next();
    const third = events.next();
    await server.down();
    journal.newest = 3;
    await server.listen();
    expect(((await third).value as FleetEvent).sequence).toBe(3);
    await events.return?.();
  });

  it("go on when the server says that it is busy for a while", async () => {
    journal.newest = 2;
    let busy = 0;
    server.refuse = () =>
      sockets.length === 1 && busy++ < 2
        ? { status: 503, body: problem("ERR_ESTALO_BUSY", "the server closes") }
        : undefined;
    playJournal(1, (socket) => socket.close(1001));
    expect(await take(2, { since: 0 })).toEqual([1, 2]);
    expect(busy).toBe(2 + 1);
  });

  it("are filtered by the server, and then have gaps that are none", async () => {
    journal.newest = 9;
    server.onSocket = (socket) => {
      socket.send(hello());
      for (const n of [2, 5, 9]) socket.send(eventText(n));
    };
    const options = { since: 0, microvms: ["a", "b"], types: ["booted", "exited"] } as const;
    expect(await take(3, options)).toEqual([2, 5, 9]);
    expect(server.asked[0]).toBe("WS /v1/events?since=0&microvm=a&microvm=b&type=booted%2Cexited");
  });

  it.each([
    ["has them no more", (socket: WebSocket) => socket.close(4410, "gap")],
    ["begins anew", (socket: WebSocket) => socket.send(hello())],
  ])("are a gap when the server %s", async (_, play) => {
    journal.newest = 3;
    server.onSocket = play;
    await expect(take(1, { since: 5 })).rejects.toMatchObject({
      code: "ERR_ESTALO_EVENTS_GAP",
      data: { since: 5 },
    });
  });

  it.each<[string, string | Buffer]>([
    ["text that is not JSON", "hello"],
    ["bytes", Buffer.from(eventText(1))],
    ["JSON that is no event", '{"a":1}'],
    ["a number", "7"],
    ["null", "null"],
  ])("are an error when the server sends %s", async (_, message) => {
    server.onSocket = (socket) => {
      socket.send(hello());
      socket.send(message);
    };
    const said = await take(1, { since: 0 }).catch((error) => error);
    expect(said).toMatchObject({ code: "ERR_ESTALO_REPLY" });
    await until(() => server.connections === 0);
  });

  it("are an error when the server does not greet, refuses, or is not there", async () => {
    server.onSocket = (socket) => socket.send(eventText(1));
    await expect(take(1)).rejects.toMatchObject({ code: "ERR_ESTALO_REPLY" });
    server.refuse = () => ({ status: 401, body: problem("ERR_ESTALO_UNAUTHORIZED", "no token") });
    await expect(take(1)).rejects.toMatchObject({
      code: "ERR_ESTALO_UNAUTHORIZED",
      message: "no token",
    });
    await server.down();
    await expect(take(1)).rejects.toMatchObject({
      code: "ERR_ESTALO_CONNECT",
      hint: expect.stringContaining("is estalo serve running?"),
    });
  });

  it("give up coming back after a while", async () => {
    journal.newest = 1;
    playJournal(1, () => {});
    const events = client.events({ since: 0, reconnectMs: 100 });
    await events.next();
    const next = events.next();
    await server.down();
    await expect(next).rejects.toMatchObject({ code: "ERR_ESTALO_CONNECT" });
    expect(await events.next()).toEqual({ done: true, value: undefined });
  });

  it("end, and leave nothing open, when their signal aborts, also while nothing comes", async () => {
    playJournal(0, () => {});
    const aborting = new AbortController();
    const events = client.events({ signal: aborting.signal });
    const next = events.next();
    await until(() => sockets.length === 1);
    aborting.abort();
    expect(await next).toEqual({ done: true, value: undefined });
    await until(() => server.connections === 0);
    const aborted = client.events({ signal: AbortSignal.abort() });
    expect(await aborted.next()).toEqual({ done: true, value: undefined });
  });

  it("end when nobody wants more, or the client is closed", async () => {
    journal.newest = 5;
    playJournal(100, () => {});
    expect(await take(2, { since: 0 })).toEqual([1, 2]);
    await until(() => server.connections === 0);
    const events = client.events();
    const next = events.next();
    await until(() => server.connections === 1);
    await client[Symbol.asyncDispose]();
    expect(await next).toEqual({ done: true, value: undefined });
    await until(() => server.connections === 0);
  });

  it("make the server wait for a reader that is slow, and lose nothing", async () => {
    journal.newest = 20_000;
    playJournal(20_000, () => {});
    const events = client.events({ since: 0 });
    await events.next();
    await new Promise((resolve) => setTimeout(resolve, 200));
    let last = 1;
    while (last < 20_000) last = ((await events.next()).value as FleetEvent).sequence;
    await events.return?.();
    expect(server.asked).toEqual(["WS /v1/events?since=0"]);
  });

  it("come again from a peer that is gone without a word", async () => {
    await client[Symbol.asyncDispose]();
    client = new EstaloClient({ host: server.host, timeoutMs: 300 });
    journal.newest = 1;
    playJournal(100, (socket) => {
      // The first connection is there, and deaf.
      if (sockets.length === 1)
        (socket as unknown as { _socket: { pause(): void } })._socket.pause();
    });
    const events = client.events({ since: 0 });
    await events.next();
    const second = events.next();
    journal.newest = 2;
    expect(((await second).value as FleetEvent).sequence).toBe(2);
    await events.return?.();
    expect(sockets.length).toBe(2);
    for (const socket of sockets) socket.terminate();
  });
});

/** Waits for a condition. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
