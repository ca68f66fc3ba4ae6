/** Exits as the client passes them on. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EstaloClient } from "../../../src/api/client/client.js";
import type { ExitsMessage } from "../../../src/api/client/exit-stream.js";
import type { RateLimitMessage } from "../../../src/api/client/types.js";
import { PlayedServer, problem } from "../../support/played-server.js";

let server: PlayedServer;
let client: EstaloClient;

beforeEach(async () => {
  server = await PlayedServer.open();
  client = new EstaloClient({ host: server.host });
});

afterEach(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function all(query = {}): Promise<ExitsMessage[]> {
  const messages: ExitsMessage[] = [];
  for await (const message of client.exits("web", { query })) messages.push(message);
  return messages;
}

describe("what rate limiters do", () => {
  it("comes without the hello, until the microVM ends", async () => {
    server.onSocket = (socket) => {
      socket.send('{"type":"hello","version":1,"microvm":"a"}');
      socket.send('{"type":"released","device":"serial","atMs":1,"dropped":0}');
      socket.close(1000);
    };
    const messages: RateLimitMessage[] = [];
    for await (const message of client.rateLimits("web")) messages.push(message);
    expect(messages).toEqual([{ type: "released", device: "serial", atMs: 1, dropped: 0 }]);
    expect(server.asked).toEqual(["WS /v1/microvms/web/limits"]);
  });
});

describe("exits", () => {
  it("are JSON values and binary frames until the microVM ends", async () => {
    server.onSocket = (socket) => {
      socket.send('{"sequence":1}');
      socket.send(Buffer.from([1, 2]));
      socket.close(1000);
    };
    expect(await all({ format: "binary", kind: ["pio", "mmio"] })).toEqual([
      { json: { sequence: 1 } },
      { bytes: Buffer.from([1, 2]) },
    ]);
    expect(server.asked).toEqual(["WS /v1/microvms/web/exits?format=binary&kind=pio&kind=mmio"]);
    await until(() => server.connections === 0);
  });

  it("are an error when the stream ends otherwise, lies, or is refused", async () => {
    server.onSocket = (socket) => socket.close(4409, "it does not run");
    await expect(all()).rejects.toMatchObject({ code: "ERR_ESTALO_STATE" });
    server.onSocket = (socket) => socket.send("exits!");
    await expect(all()).rejects.toMatchObject({ code: "ERR_ESTALO_REPLY" });
    server.refuse = () => ({ status: 400, body: problem("ERR_ESTALO_REQUEST", "no such filter") });
    await expect(all()).rejects.toMatchObject({ code: "ERR_ESTALO_REQUEST" });
  });

  it("end with their signal, their reader and their client", async () => {
    server.onSocket = (socket) => socket.send("{}");
    const aborting = new AbortController();
    for await (const _ of client.exits("web", { signal: aborting.signal })) aborting.abort();
    await until(() => server.connections === 0);
    for await (const _ of client.exits("web")) break;
    await until(() => server.connections === 0);
    for await (const _ of client.exits("web")) await client[Symbol.asyncDispose]();
    await until(() => server.connections === 0);
  });
});

/** Waits for a condition. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
