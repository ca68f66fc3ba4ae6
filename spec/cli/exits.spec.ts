/** `estalo exits` with a server that is played: what it asks for, and what it makes of the messages. */
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { fleetCommand } from "../support/fleet-command.js";
import { PlayedServer, playedMicrovm, problem } from "../support/played-server.js";

let server: PlayedServer;
let asked: URL[];
let messages: object[];

const HELLO = {
  type: "hello",
  version: 1,
  microvm: "aaa111",
  devices: [],
  kinds: [],
  zeroUnixMs: 0,
};
const EXIT = {
  ...{ kind: "pio", vcpu: 0, sequence: 1, device: "serial", address: "0x3f8", sizeBytes: 1 },
  ...{ direction: "write", data: "0x41", count: 1, atNs: 1e9, guestNs: 2000, hostNs: 500 },
};
const COUNTS = {
  ...{ type: "counts", fromNs: 0, toNs: 1e9, exits: 7, otherExits: 0, lost: 0, dropped: 0 },
  groups: [
    {
      ...{ device: "serial", address: "0x3f8", direction: "write", exits: 7, timed: 7 },
      ...{ hostNs: 7000, hostP50Ns: 1000, hostP99Ns: 1000, hostMaxNs: 1000, guestNs: 70_000 },
    },
  ],
};

beforeEach(async () => {
  server = await PlayedServer.open();
  asked = [];
  messages = [HELLO];
  server.play = ({ url }) =>
    url.startsWith("/v1/microvms/web")
      ? { body: playedMicrovm({ id: "aaa111", name: "web" }) }
      : { status: 404, body: problem("ERR_ESTALO_NOT_FOUND", "there is no such microVM") };
  server.onSocket = (socket, url) => {
    asked.push(url);
    for (const message of messages) socket.send(JSON.stringify(message));
    socket.close(1000, "the microVM has ended");
  };
});

afterEach(() => server[Symbol.asyncDispose]());

const estalo = (...words: string[]) => fleetCommand(server.host, "exits", ...words);

describe("estalo exits", () => {
  it("shows a line for each exit, and says what is missing", async () => {
    messages.push({ type: "exits", lost: 0, dropped: 0, exits: [EXIT] });
    messages.push({ type: "exits", lost: 2, dropped: 3, exits: [EXIT] });
    const { status, stdout, stderr } = await estalo("web");
    const line =
      "00:00:01.000000 0 pio    serial       write 0x3f8 1 0x41 guest 2.00 us host 500 ns\n";
    expect(stdout).toBe(line + line);
    expect(stderr).toBe("estalo: 2 exits lost, 3 dropped\n");
    expect(status).toBe(0);
  });

  it("asks for what its options say", async () => {
    await estalo(
      ...["web", "--kind", "pio,mmio", "--kind", "notify", "--device=drive root", "--vcpu", "0"],
      ...["--direction", "write", "--address", "0x3f8-0x3ff", "--size", "1", "--sample", "10"],
      ...["--history", "5", "--rip"],
    );
    expect(asked[0].pathname).toBe("/v1/microvms/aaa111/exits");
    expect(Object.fromEntries(asked[0].searchParams)).toEqual({
      ...{ kind: "pio,mmio,notify", device: "drive root", vcpu: "0", direction: "write" },
      ...{ address: "0x3f8-0x3ff", size: "1", sample: "10", history: "5", rip: "true" },
    });
  });

  it("shows a table for each window with --by, and with --top what it counts by itself", async () => {
    messages.push(COUNTS);
    const { stdout } = await estalo("web", "--by", "device", "--window", "100");
    expect(stdout).toMatch(/^7.0 exits\/s, 1 groups.*\nDEVICE +EXITS\/S.*\nserial +7.0 +100.0 %/);
    expect((await estalo("web", "--top")).stdout).toMatch(/\nDEVICE +ADDRESS +DIRECTION +EXITS/);
    expect(asked.map(({ search }) => search)).toEqual([
      "?windowMs=100&by=device",
      "?by=device%2Caddress%2Cdirection",
    ]);
  });

  it("writes JSON Lines: an exit or a window each", async () => {
    messages.push({ type: "exits", lost: 0, dropped: 0, exits: [EXIT, EXIT] }, COUNTS);
    const { stdout } = await estalo("web", "--json");
    expect(
      stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual([EXIT, EXIT, COUNTS]);
  });

  it("asks for no more while nobody takes what it wrote", async () => {
    messages.push({ type: "exits", lost: 0, dropped: 0, exits: [EXIT] });
    const { stdout } = process;
    let isFull = true;
    Object.defineProperty(stdout, "writableNeedDrain", { configurable: true, get: () => isFull });
    onTestFinished(() => void Reflect.deleteProperty(stdout, "writableNeedDrain"));
    const outcome = estalo("web");
    await vi.waitFor(() => expect(stdout.listenerCount("drain")).toBe(1), 5000);
    isFull = false;
    stdout.emit("drain");
    expect((await outcome).stdout).toContain(" serial ");
  });

  it("says what is wrong with its words", async () => {
    const { status, stderr } = await estalo();
    expect([status, stderr]).toEqual([125, expect.stringContaining("needs a microVM")]);
    expect((await estalo("nobody")).stderr).toContain("ERR_ESTALO_NOT_FOUND");
  });
});
