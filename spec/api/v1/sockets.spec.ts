/** Door 2's WebSockets over a real server: resumed events, consoles of many, clients that are slow or wrong. */
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { WebSocket } from "ws";
import { decodeExitFrame } from "../../../src/api/exit-frames.js";
import { DoorHost, until } from "../../support/door-host.js";
import { KILLED } from "../../support/played-fleet.js";
import { RawClient } from "../../support/raw-http.js";

let host: DoorHost;
beforeAll(async () => {
  host = await DoorHost.open({ limits: { backlogBytes: 256 * 1024 } });
});
afterAll(() => host.close());

/** What a socket received, and how it was closed. */
function record(socket: WebSocket) {
  const seen = {
    texts: [] as Record<string, unknown>[],
    bytes: [] as Buffer[],
    closed: undefined as { code: number; reason: string } | undefined,
    refused: undefined as string | undefined,
    get output() {
      return Buffer.concat(seen.bytes).toString("latin1");
    },
  };
  socket.on("message", (data: Buffer, isBinary: boolean) => {
    if (isBinary) seen.bytes.push(data);
    else seen.texts.push(JSON.parse(data.toString()));
  });
  socket.on("close", (code, reason) => {
    seen.closed = { code, reason: reason.toString() };
  });
  socket.on("error", (error) => {
    seen.refused = String(error);
  });
  return seen;
}

async function open(path: string) {
  const socket = host.socket(path);
  const seen = record(socket);
  await once(socket, "open");
  return { socket, seen };
}

const emit = (count: number, microvm = "x") => {
  for (let at = 0; at < count; at++) host.fleet.events.emit(microvm, { type: "updated" });
};

describe("/v1/events", () => {
  it("goes on without gap or duplicate however often the socket drops", async () => {
    const first = host.fleet.events.newest;
    const got: number[] = [];
    for (let round = 0; round < 10; round++) {
      const { socket, seen } = await open(`/v1/events?since=${got.at(-1) ?? first}`);
      emit(20);
      await until(() => seen.texts.length >= 10, "ten messages");
      // Not closed, but cut off, with messages under way.
      socket.terminate();
      got.push(...seen.texts.slice(1).map(({ sequence }) => sequence as number));
      emit(5);
    }
    const { socket, seen } = await open(`/v1/events?since=${got.at(-1)}`);
    const { newest } = host.fleet.events;
    await until(() => seen.texts.at(-1)?.sequence === newest, "the newest event");
    socket.close();
    got.push(...seen.texts.slice(1).map(({ sequence }) => sequence as number));
    expect(got).toEqual(Array.from({ length: newest - first }, (_, index) => first + index + 1));
  });

  it("filters, by name and by several types", async () => {
    const { record: made } = await host.fleet.create({ name: "watched" });
    const { socket, seen } = await open(
      "/v1/events?microvm=watched&type=state,deleted&type=exited",
    );
    emit(3);
    await host.fleet.pause(made.id);
    await host.fleet.remove(made.id, { force: true });
    await until(() => seen.texts.at(-1)?.type === "deleted", "the deletion");
    expect(seen.texts.slice(1).map(({ type }) => type)).toEqual(["state", "state", "deleted"]);
    socket.close();
  });

  it.each([
    "since=-1",
    "since=x",
    "type=nothing",
    "type=",
    "microvm=a/b",
    "other=1",
    "since=1&since=2",
  ])("refuses ?%s with a reply", async (query) => {
    const seen = record(host.socket(`/v1/events?${query}`));
    await until(() => seen.refused !== undefined, "the refusal");
    expect(seen.refused).toContain("400");
  });

  it("closes with 4410 when since is forgotten or from another time", async () => {
    emit(1100);
    const seen = [1, 1_000_000].map((since) => record(host.socket(`/v1/events?since=${since}`)));
    await until(() => seen.every(({ closed }) => closed !== undefined), "both to be closed");
    expect(seen.map(({ closed }) => closed?.code)).toEqual([4410, 4410]);
    expect(seen[0].texts).toEqual([expect.objectContaining({ type: "hello" })]);
  });

  it("drops a client that does not read, and nobody else notices", async () => {
    const { socket, seen } = await open("/v1/events");
    const { socket: slow, seen: slowSeen } = await open("/v1/events");
    slow.pause();
    const filler = "x".repeat(2000);
    for (let at = 0; at < 3000; at++) {
      host.fleet.events.emit("x", { type: "lost", reason: filler });
      const { newest } = host.fleet.events;
      if (at % 100 !== 99) continue;
      await until(() => seen.texts.at(-1)?.sequence === newest, "the quick reader to have all");
    }
    slow.resume();
    await until(() => slowSeen.closed !== undefined, "the slow reader to be closed");
    expect(slowSeen.closed?.code).toBe(1013);
    const numbers = slowSeen.texts.slice(1).map(({ sequence }) => sequence as number);
    expect(numbers).toEqual(numbers.map((_, index) => numbers[0] + index));
    socket.close();
  });

  it("ends a connection that breaks the protocol", async () => {
    const client = new RawClient(host.path);
    client.send(
      "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    await client.until(/hello/);
    client.send(Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff));
    await client.untilClosed();
    expect((await host.call("getHealth")).status).toBe(200);
  });
});

describe("/v1/microvms/{id}/console", () => {
  it("joins several readers and writers", async () => {
    await host.fleet.create({ name: "shared" });
    const machine = host.fleet.machine("shared");
    machine.say("login: ");
    const first = await open("/v1/microvms/shared/console");
    const second = await open("/v1/microvms/shared/console?history=false");
    const viewer = await open("/v1/microvms/shared/console?write=false");
    first.socket.send(Buffer.from("root\n"));
    await until(() => machine.input === "root\n", "the first writer's bytes");
    second.socket.send(Buffer.from("\0\xff", "latin1"));
    await until(() => machine.input === "root\n\0\xff", "the second writer's bytes");
    machine.say("welcome");
    for (const { seen } of [first, viewer]) {
      await until(() => seen.output === "login: welcome", "history and output");
    }
    await until(() => second.seen.output === "welcome", "output alone");
    viewer.socket.send(Buffer.from("x"));
    await until(() => viewer.seen.closed !== undefined, "the viewer to be closed");
    expect(viewer.seen.closed?.code).toBe(1008);
    machine.end(KILLED);
    await until(() => first.seen.closed !== undefined, "the end");
    expect([first.seen.closed?.code, (await closed(second)).code]).toEqual([1000, 1000]);
    expect(machine.input).toBe("root\n\0\xff");
  });

  async function closed({ seen }: { seen: ReturnType<typeof record> }) {
    await until(() => seen.closed !== undefined, "the socket to be closed");
    return seen.closed as { code: number; reason: string };
  }

  it("says by a close code what is wrong with the microVM", async () => {
    await host.fleet.create({ name: "idle", start: false });
    const codes = ["nobody", "idle", "a%2fb", "%zz"].map(async (id) => {
      const seen = record(host.socket(`/v1/microvms/${id}/console`));
      return (await closed({ seen })).code;
    });
    expect(await Promise.all(codes)).toEqual([4404, 4409, 4404, 4404]);
  });

  it("drops a reader that does not read, and the guest goes on", async () => {
    await host.fleet.create({ name: "loud" });
    const machine = host.fleet.machine("loud");
    const quick = await open("/v1/microvms/loud/console");
    const slow = await open("/v1/microvms/loud/console");
    slow.socket.pause();
    const part = "x".repeat(16 * 1024);
    for (let at = 0; at < 300; at++) {
      machine.say(part);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const total = 300 * part.length;
    await until(() => quick.seen.output.length === total, "all output at the quick reader");
    slow.socket.resume();
    expect((await closed(slow)).code).toBe(1013);
    expect(slow.seen.output.length).toBeLessThan(total);
  });

  it("closes a message over the limit", async () => {
    await host.fleet.create({ name: "limited" });
    const { socket, seen } = await open("/v1/microvms/limited/console");
    socket.send(Buffer.alloc(70_000));
    await closed({ seen });
    expect(host.fleet.machine("limited").input).toBe("");
  });
});

describe("/v1/microvms/{id}/exits", () => {
  it("streams exits over a real socket, as text and as frames, until the microVM ends", async () => {
    const { record: made } = await host.fleet.create({ name: "traced" });
    const { vcpus } = host.fleet.machine(made.id);
    const path = "/v1/microvms/traced/exits";
    const [text, binary] = [await open(path), await open(`${path}?format=binary&device=serial`)];
    await until(() => vcpus.watch() !== 0, "a watcher");
    await until(() => text.seen.texts.length === 1 && binary.seen.texts.length === 1, "hellos");
    vcpus.exits(0, 2000);
    await until(() => binary.seen.bytes.length >= 1, "a frame");
    host.fleet.machine(made.id).end(KILLED);
    await until(() => text.seen.closed !== undefined && binary.seen.closed !== undefined, "ends");
    const exits = text.seen.texts.slice(1).flatMap(({ exits }) => exits as unknown[]);
    const { devices } = binary.seen.texts[0] as { devices: string[] };
    const batches = binary.seen.bytes.map((bytes) => decodeExitFrame(bytes, devices));
    const decoded = batches.flatMap((batch) => batch.toArray());
    // A ring holds 1023: the rest was overwritten before a poll could see it, and is told.
    expect(exits).toHaveLength(1023);
    expect(decoded).toHaveLength(1023);
    expect(batches.at(-1)?.lost).toBe(977);
    expect(decoded.at(-1)).toMatchObject({ device: "serial", sequence: 1999 });
    expect(text.seen.closed?.code).toBe(1000);
  });

  it("refuses a wrong query before the upgrade, and closes for a microVM that is not there", async () => {
    await host.fleet.create({ name: "filtered" });
    for (const query of ["sample=0", "nonsense=1", "device=nobody", "by=kind&format=binary"]) {
      const socket = host.socket(`/v1/microvms/filtered/exits?${query}`);
      const seen = record(socket);
      await until(() => seen.refused !== undefined, "a refusal");
      expect(seen.refused, query).toContain("400");
    }
    const { seen } = await open("/v1/microvms/nobody/exits");
    await until(() => seen.closed !== undefined, "the close");
    expect(seen.closed?.code).toBe(4404);
  });
});

describe("the end of the server", () => {
  it("closes its sockets with 1001", async () => {
    const other = await DoorHost.open();
    const seen = record(other.socket("/v1/events"));
    await until(() => seen.texts.length > 0, "the greeting");
    await other.close();
    await until(() => seen.closed !== undefined, "the socket to be closed");
    expect(seen.closed?.code).toBe(1001);
  });
});
