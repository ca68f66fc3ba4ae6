/** `estalo exec` with input, a terminal and signals: the verb, a server over a played fleet, the agent itself. */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { EstaloClient } from "../../../src/api/client/client.js";
import { AgentProcess } from "../../support/agent-process.js";
import { DoorHost } from "../../support/door-host.js";
import { fleetCommand } from "../../support/fleet-command.js";

const spawnSync = vi.hoisted(() => vi.fn());
vi.mock("node:child_process", async (original) => ({ ...(await original<object>()), spawnSync }));

/** What a user types into; it begins as the terminal is made raw. */
class FakeTerminal extends PassThrough {
  readonly modes: boolean[] = [];
  onRaw: () => void = () => {};

  constructor(readonly isTTY = true) {
    super();
  }

  setRawMode(isRaw: boolean): this {
    this.modes.push(isRaw);
    if (isRaw) this.onRaw();
    return this;
  }
}

const guest = new AgentProcess();
let host: DoorHost;
let terminal: FakeTerminal;
let count = 0;
const fresh = () => join(guest.folder, `ready${++count}`);
const estalo = (...words: string[]) => fleetCommand(`unix://${host.path}`, ...words);
const watched = ["SIGWINCH", "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "exit"] as const;
const listeners = () => watched.map((name) => process.listenerCount(name));
const before = listeners();

/** Has a size for our output, as on a terminal. */
function resizeTo(rows: number, columns: number): void {
  Object.assign(process.stdout, { rows, columns });
}
const { rows, columns } = process.stdout;

beforeEach(async () => {
  host = await DoorHost.open();
  await using client = new EstaloClient({ host: `unix://${host.path}` });
  const { id } = await client.microvms.create({ name: "web" });
  Object.assign(host.fleet.machine(id).devices, { vsock: { agent: guest.agent } });
  terminal = new FakeTerminal();
  spawnSync.mockClear();
  vi.spyOn(process, "stdin", "get").mockImplementation(() => terminal as never);
});
afterEach(async () => {
  vi.restoreAllMocks();
  resizeTo(rows, columns);
  await host.close();
  await guest.ended();
  expect(listeners()).toEqual(before);
});
afterAll(() => guest[Symbol.dispose]());

/** Its program says by a file that it listens; then `act`. */
async function whenReady(file: string, act: () => void): Promise<void> {
  await vi.waitUntil(() => existsSync(file), { timeout: 30_000 });
  act();
}

describe("estalo exec -i", () => {
  it("gives the program our input, more than is kept anywhere, and its end", async () => {
    const bytes = randomBytes(2 ** 20).toString("hex");
    terminal = new FakeTerminal(false);
    terminal.end(bytes);
    const { status, stdout } = await estalo("exec", "-i", "web", "cat");
    expect([status, stdout === bytes]).toEqual([0, true]);
    expect(terminal.modes).toEqual([]);
    expect(terminal.destroyed).toBe(true);
  });

  it("takes input that breaks off for input that ends", async () => {
    terminal.write("half a li");
    const sent = vi.waitUntil(() => terminal.readableLength === 0, { timeout: 30_000 });
    const running = estalo("exec", "-i", "web", "cat");
    await sent;
    terminal.destroy(new Error("read EIO"));
    expect(await running).toMatchObject({ status: 0, stdout: "half a li" });
  });

  it("lets go of our input when the program ends without it", async () => {
    expect(await estalo("exec", "-i", "web", "sh", "-c", "exit 4")).toMatchObject({ status: 4 });
    expect(terminal.destroyed).toBe(true);
  });

  it("is asked for: else the program's input is at its end, and ours is not touched", async () => {
    terminal.write("typed ahead");
    expect(await estalo("exec", "web", "cat")).toMatchObject({ status: 0, stdout: "" });
    expect(terminal.destroyed).toBe(false);
    expect(terminal.readableLength).toBe(11);
  });
});

describe("estalo exec -it", () => {
  it("makes the terminal raw while the program has it, and gives it back", async () => {
    const script = 'read -r line; echo "<$line>"; exit 5';
    const isQuiet = () => spawnSync.mock.calls.length > 0;
    terminal.onRaw = () =>
      void vi.waitUntil(isQuiet, { timeout: 30_000 }).then(() => terminal.write("typed\r"));
    const { status, stdout } = await estalo("exec", "-it", "web", "sh", "-c", script);
    expect(status).toBe(5);
    expect(stdout).toBe("typed\r\n<typed>\r\n");
    expect(terminal.modes).toEqual([true, false]);
    expect(spawnSync.mock.calls).toEqual([["stty", ["-opost"], expect.anything()]]);
    expect(terminal.destroyed).toBe(true);
  });

  it("passes control characters on for the guest's terminal to act on", async () => {
    terminal.onRaw = () => terminal.write("\x03");
    expect((await estalo("exec", "-it", "web", "sleep", "1000")).status).toBe(130);
    terminal = new FakeTerminal();
    terminal.onRaw = () => terminal.write("\x04");
    expect((await estalo("exec", "-it", "web", "cat")).status).toBe(0);
  });

  it("gives the guest's terminal our size, also when ours changes", async () => {
    resizeTo(30, 100);
    const ready = fresh();
    const script = `trap 'stty size; exit 6' WINCH; stty size; : > ${ready}; while :; do sleep 0.1; done`;
    const running = estalo("exec", "-it", "web", "sh", "-c", script);
    await whenReady(ready, () => {
      resizeTo(50, 120);
      process.emit("SIGWINCH");
    });
    expect(await running).toEqual({ status: 6, stdout: "30 100\r\n50 120\r\n", stderr: "" });
  });

  it("gives the terminal back when the program cannot start", async () => {
    expect(await estalo("exec", "-it", "web", "nothing-like-it")).toMatchObject({ status: 127 });
    expect(terminal.modes.at(-1) ?? false).toBe(false);
    expect(terminal.destroyed).toBe(true);
  });

  it("leaves what is no terminal as it is", async () => {
    terminal = new FakeTerminal(false);
    terminal.write("line\n");
    const { stdout } = await estalo("exec", "-it", "web", "head", "-n1");
    expect(stdout).toContain("line\r\n");
    expect(terminal.modes).toEqual([]);
  });
});

describe("estalo exec -t", () => {
  it("has the program's terminal shown only: ours stays as it is, and is not read", async () => {
    resizeTo(0, 0);
    expect(await estalo("exec", "-t", "web", "stty", "size")).toMatchObject({
      status: 0,
      stdout: "24 80\r\n",
    });
    expect(terminal.modes).toEqual([]);
    expect(terminal.destroyed).toBe(false);
  });
});

describe("signals", () => {
  it.each(["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const)("pass %s on", async (signal) => {
    const ready = fresh();
    const listen = `trap 'exit 9' ${signal.slice(3)}; read -r line; : > ${ready}`;
    // Its input comes when it has started: before, a signal ends our waiting for that.
    terminal.write("line\n");
    const script = `${listen}; while :; do sleep 0.1; done`;
    const running = estalo("exec", "-i", "web", "sh", "-c", script);
    await whenReady(ready, () => process.emit(signal, signal));
    expect((await running).status).toBe(9);
  });
});
