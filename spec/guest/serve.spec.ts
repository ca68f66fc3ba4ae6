/**
 * `estalo serve` as its users start it: the built command as a child process, curl and WebSockets as clients,
 * guests of a few instructions where those will do, and the default guest where a shell is asked.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { reasonToSkip } from "../support/guest-host.js";
import { GUEST_PATIENCE_MS } from "../support/guest-report.js";
import { smallFileSystem } from "../support/small-file-system.js";
import { print, Scratch, TINY_GUESTS } from "../support/tiny-guest.js";

const COMMAND = fileURLToPath(new URL("../../bin/estalo.js", import.meta.url));

const reason = reasonToSkip("spec/guest/serve.spec.ts");

const scratch = new Scratch();
const servers: ChildProcess[] = [];
afterEach(async () => {
  for (const child of servers.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const closed = once(child, "close");
    child.kill("SIGKILL");
    await closed;
  }
});
afterAll(() => scratch[Symbol.dispose]());

let folders = 0;
const newPath = (name: string) => join(scratch.path, `${name}${folders++}`);

/** A server, and what it has said so far. */
interface Serving {
  readonly child: ChildProcess;
  readonly socket: string;
  readonly stdout: () => string;
  readonly stderr: () => string;
}

/** Starts a server; fulfilled when it listens, or has ended. */
async function serve(
  where: { state?: string; socket?: string; words?: readonly string[] } = {},
): Promise<Serving> {
  const { state = newPath("state"), socket = newPath("s"), words = [] } = where;
  const all = [COMMAND, "serve", "--state", state, "--listen", socket, "--log", "json", ...words];
  const child = spawn(process.execPath, all, { stdio: ["ignore", "pipe", "pipe"] });
  servers.push(child);
  let [stdout, stderr] = ["", ""];
  child.stdout?.setEncoding("utf8").on("data", (text) => {
    stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  await until(() => stdout.includes("\n") || child.exitCode !== null);
  return { child, socket, stdout: () => stdout, stderr: () => stderr };
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const signal = AbortSignal.timeout(GUEST_PATIENCE_MS);
  while (!(await condition())) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Sends a signal and waits for the end. */
async function end({ child }: Serving, signal: NodeJS.Signals) {
  const closed = child.exitCode === null ? once(child, "close") : Promise.resolve();
  child.kill(signal);
  await closed;
  return { status: child.exitCode, signal: child.signalCode };
}

const run = promisify(execFile);

/** curl as a user types it; the status and the body, as JSON where it is some. */
async function curl({ socket }: Serving, method: string, path: string, body?: unknown) {
  const data =
    body === undefined ? [] : ["-H", "Content-Type: application/json", "-d", JSON.stringify(body)];
  const { stdout } = await run("curl", [
    ...["-sS", "--unix-socket", socket, "-X", method, ...data],
    ...["-w", "\n%{http_code}", `http://localhost${path}`],
  ]);
  const split = stdout.lastIndexOf("\n");
  const text = stdout.slice(0, split);
  // biome-ignore lint/suspicious/noExplicitAny: replies of every kind
  let json: any;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  return { status: Number(stdout.slice(split + 1)), text, json };
}

/** A WebSocket and all that came. */
function open({ socket }: Serving, path: string) {
  const client = new WebSocket(`ws+unix://${socket}:${path}`);
  const seen = { output: "", events: [] as Record<string, unknown>[], code: 0 };
  client.on("message", (data: Buffer, isBinary: boolean) => {
    if (isBinary) seen.output += data.toString("latin1");
    else seen.events.push(JSON.parse(data.toString()));
  });
  client.on("close", (code) => {
    seen.code = code;
  });
  return { client, seen };
}

const tiny = (program: readonly number[]) => ({
  kernel: scratch.guest(`guest${folders++}`, program),
  bootArgs: "",
  memoryMib: 32,
});
const WAITING = tiny(print("waiting\n", TINY_GUESTS.halt));

describe.skipIf(reason !== undefined)("estalo serve", () => {
  it("boots the default guest for curl, with its console and events on WebSockets", async () => {
    const server = await serve();
    expect(server.stdout()).toBe(`listening on unix://${server.socket}\n`);
    expect(statSync(server.socket).mode & 0o777).toBe(0o600);
    const events = open(server, "/v1/events");
    const made = await curl(server, "POST", "/v1/microvms", { name: "shell", labels: { a: "b" } });
    expect(made).toMatchObject({ status: 201, json: { name: "shell", state: "running" } });
    const console = open(server, "/v1/microvms/shell/console");
    await until(() => console.seen.output.includes("# "));
    console.client.send(Buffer.from("echo in-$((40+2))\n"));
    await until(() => console.seen.output.includes("in-42"));
    const viewer = open(server, "/v1/microvms/shell/console?write=false");
    await until(() => viewer.seen.output.includes("in-42"));
    const logs = await curl(server, "GET", "/v1/microvms/shell/logs");
    expect(logs.text).toContain("in-42");
    const metrics = (await curl(server, "GET", "/metrics")).text;
    expect(metrics).toMatch(/^estalo_microvm_exits_total\{.*name="shell",kind="io-out"\} [1-9]/m);
    const counters = await curl(server, "GET", "/v1/microvms/shell/metrics");
    expect(counters.json.serial.transmittedBytes).toBeGreaterThan(0);
    const waiting = curl(server, "GET", "/v1/microvms/shell/wait?timeoutMs=600000");
    console.client.send(Buffer.from("exit 9\n"));
    expect((await waiting).json).toMatchObject({
      ended: true,
      microvm: { state: "stopped", exit: { reason: "poweroff", guestStatus: 9, exitCode: 9 } },
    });
    await until(() => console.seen.code !== 0 && viewer.seen.code !== 0);
    expect([console.seen.code, viewer.seen.code]).toEqual([1000, 1000]);
    await until(() => events.seen.events.at(-1)?.type === "exited");
    const types = events.seen.events.map(({ type, state }) => state ?? type);
    expect(types).toEqual([
      ...["hello", "created", "starting", "running", "booted", "command-exited"],
      ...["stopping", "stopped", "exited"],
    ]);
    expect((await curl(server, "DELETE", "/v1/microvms/shell")).status).toBe(204);
    expect(await end(server, "SIGTERM")).toEqual({ status: 0, signal: null });
    expect(existsSync(server.socket)).toBe(false);
  });

  it("tells of what ran when it was killed, and goes on with the rest", async () => {
    const state = newPath("state");
    const first = await serve({ state });
    await curl(first, "POST", "/v1/microvms", { name: "ran", config: WAITING });
    await curl(first, "POST", "/v1/microvms", { name: "idle", config: WAITING, start: false });
    const { json: before } = await curl(first, "GET", "/v1/info");
    expect(before.microvms).toMatchObject({ running: 1, configured: 1 });
    const seen = open(first, "/v1/events?since=0");
    await until(() => seen.seen.events.some((event) => event.state === "running"));
    const reached = seen.seen.events.at(-1)?.sequence as number;
    expect((await end(first, "SIGKILL")).signal).toBe("SIGKILL");
    // Its socket is left behind, and no obstacle.
    const second = await serve({ state, socket: first.socket });
    expect((await curl(second, "GET", "/v1/microvms/ran")).json).toMatchObject({
      state: "lost",
      lostReason: expect.stringContaining("died while it ran"),
    });
    expect((await curl(second, "GET", "/v1/microvms/idle")).json.state).toBe("configured");
    const events = open(second, `/v1/events?since=${reached}`);
    await until(() => events.seen.events.some(({ type }) => type === "lost"));
    const numbers = events.seen.events.slice(1).map(({ sequence }) => sequence as number);
    expect(numbers).toEqual(numbers.map((_, index) => reached + 1 + index));
    expect((await curl(second, "POST", "/v1/microvms/ran/start")).json.state).toBe("running");
    expect((await curl(second, "DELETE", "/v1/microvms/ran?force=true")).status).toBe(204);
  });

  it("ends at a signal, its microVMs first, with their watchers told", async () => {
    const server = await serve();
    await curl(server, "POST", "/v1/microvms", { name: "a", config: WAITING });
    const events = open(server, "/v1/events");
    const waiting = curl(server, "GET", "/v1/microvms/a/wait?timeoutMs=600000");
    await until(() => events.seen.events.length > 0);
    expect(await end(server, "SIGTERM")).toEqual({ status: 0, signal: null });
    expect((await waiting).json).toMatchObject({ ended: true, microvm: { state: "stopped" } });
    expect(events.seen.events.at(-1)).toMatchObject({ type: "exited" });
    expect(events.seen.code).toBe(1001);
  });

  it("ends at once at the second signal", async () => {
    const server = await serve();
    await curl(server, "POST", "/v1/microvms", { config: WAITING });
    server.child.kill("SIGTERM");
    await until(() => server.stderr().includes('"ending"'));
    expect((await end(server, "SIGTERM")).status).toBe(143);
  });

  it.each([
    ["one state folder", "ERR_ESTALO_STATE_LOCKED"],
    ["one socket", "ERR_ESTALO_LISTEN"],
  ])("refuses to be two servers on %s", async (what, code) => {
    const state = newPath("state");
    const first = await serve({ state });
    await curl(first, "POST", "/v1/microvms", { name: "a", config: WAITING });
    const second = await serve(what === "one socket" ? { socket: first.socket } : { state });
    expect(second.child.exitCode).toBe(125);
    expect(second.stderr()).toContain(code);
    expect((await curl(first, "GET", "/v1/microvms/a")).json.state).toBe("running");
  });

  it.each([
    ["a path of more bytes than a socket may have", ["x".repeat(120)], "ERR_ESTALO_LISTEN"],
    ["a path where a file is", ["file"], "ERR_ESTALO_LISTEN"],
    ["TCP without any secret", ["127.0.0.1:0"], "ERR_ESTALO_USAGE"],
  ])("refuses %s, in one line and before anything is opened", async (_what, [name], code) => {
    const socket = name.includes(":") ? name : join(scratch.path, name);
    writeFileSync(join(scratch.path, "file"), "kept");
    const server = await serve({ socket });
    expect(server.child.exitCode).toBe(125);
    expect(server.stderr()).toMatch(new RegExp(`^estalo: .*\\[${code}\\]\n(hint: .*\n)?$`));
    expect(readFileSync(join(scratch.path, "file"), "utf8")).toBe("kept");
  });

  it("refuses a token file that others may read", async () => {
    const file = newPath("token");
    writeFileSync(file, "0123456789abcdef", { mode: 0o644 });
    const words = ["--listen", "127.0.0.1:0", "--token-file", file];
    const server = await serve({ words });
    expect(server.child.exitCode).toBe(125);
    expect(server.stderr()).toContain(`hint: chmod 600 ${file}`);
  });

  it("serves TCP with a token that it reads again", async () => {
    const file = newPath("token");
    const [old, fresh] = ["0123456789abcdef.old", "0123456789abcdef.new"];
    writeFileSync(file, `${old}\n`, { mode: 0o600 });
    const server = await serve({ words: ["--listen", "127.0.0.1:0", "--token-file", file] });
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(server.stdout())?.[0];
    const status = async (token: string) =>
      (await fetch(`${url}/v1/info`, { headers: { authorization: `Bearer ${token}` } })).status;
    expect([await status(old), await status(fresh)]).toEqual([200, 401]);
    writeFileSync(file, `${fresh}\n`);
    server.child.kill("SIGHUP");
    await until(() => server.stderr().includes("read again"));
    expect([await status(old), await status(fresh)]).toEqual([401, 200]);
  });

  const small = smallFileSystem(1024 * 1024);
  it.skipIf(small === undefined)(
    "says that its disk is full, loses nothing and goes on (needs to mount a tmpfs)",
    async () => {
      const server = await serve({ state: join(small as string, "state") });
      await curl(server, "POST", "/v1/microvms", { name: "first", config: WAITING });
      const filler = join(small as string, "filler");
      try {
        writeFileSync(filler, Buffer.alloc(1024 * 1024));
      } catch {
        // As much as there was room for.
      }
      const labels = { text: "x".repeat(250) };
      let refused = await curl(server, "GET", "/v1/info");
      for (let at = 0; refused.status < 400 && at < 500; at++) {
        const body = { name: `more${at}`, labels, start: false };
        refused = await curl(server, "POST", "/v1/microvms", body);
      }
      expect(refused).toMatchObject({
        status: 503,
        json: { error: { code: "ERR_ESTALO_STATE_WRITE" } },
      });
      expect((await curl(server, "GET", "/v1/microvms/first")).json.state).toBe("running");
      writeFileSync(filler, "");
      const made = await curl(server, "POST", "/v1/microvms", { name: "later", start: false });
      expect(made.status).toBe(201);
      expect(await end(server, "SIGTERM")).toEqual({ status: 0, signal: null });
    },
  );
});
