/** The host's side of the agent with the agent itself, which runs on this machine. */
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { AgentChannel } from "../../../src/actors/agent/channel.js";
import { GuestAgent } from "../../../src/actors/agent/guest-agent.js";
import { encodeExec, encodeFrame, FRAME } from "../../../src/actors/agent/protocol.js";
import { AgentProcess } from "../../support/agent-process.js";

const host = new AgentProcess();
const { agent } = host;
/** Thousands of files on a machine that does other things. */
const PATIENCE_MS = 240_000;
afterAll(() => host[Symbol.dispose](), PATIENCE_MS);
afterEach(() => host.ended(), PATIENCE_MS);

const MIB = 2 ** 20;

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
let count = 0;
const fresh = (name: string) => join(host.folder, `${name}-${++count}`);

describe("GuestAgent.exec", () => {
  it("gives output, status and signal", async () => {
    expect(await agent.exec(["sh", "-c", "echo out; echo err >&2; exit 3"])).toEqual({
      stdout: "out\n",
      stderr: "err\n",
      exitCode: 3,
      signal: undefined,
      truncated: false,
    });
    const killed = await agent.exec(["sh", "-c", "kill -9 $$"]);
    expect(killed).toMatchObject({ exitCode: 137, signal: "SIGKILL" });
  });

  it("says as a shell does that a program is not there or cannot be run", async () => {
    expect(await agent.exec(["no-such-program"])).toMatchObject({
      exitCode: 127,
      stderr: "no-such-program: No such file or directory\n",
    });
    expect(await agent.exec(["/etc/passwd"])).toMatchObject({ exitCode: 126 });
    expect(await agent.exec(["true"], { cwd: "/nowhere" })).toMatchObject({ exitCode: 126 });
    await expect(agent.exec(["true"], { user: "nobody-of-that-name" })).rejects.toMatchObject({
      code: "ERR_ESTALO_AGENT_FAILED",
      data: { what: "user", errno: "ENOENT" },
    });
  });

  it("looks for it in its own PATH, past what cannot be run", async () => {
    const [first, second] = [fresh("first"), fresh("second")];
    for (const folder of [first, second]) mkdirSync(folder);
    writeFileSync(join(first, "tool"), "#!/bin/sh\necho first", { mode: 0o644 });
    mkdirSync(join(first, "folder"));
    const env = { PATH: `${first}/nothing:${first}:${second}` };
    expect(await agent.exec(["tool"], { env })).toMatchObject({ exitCode: 126 });
    expect(await agent.exec(["folder"], { env })).toMatchObject({ exitCode: 126 });
    expect(await agent.exec(["other"], { env })).toMatchObject({ exitCode: 127 });
    writeFileSync(join(second, "tool"), "#!/bin/sh\necho second", { mode: 0o755 });
    expect((await agent.exec(["tool"], { env })).stdout).toBe("second\n");
    // An empty folder of PATH is the one it runs in.
    const here = await agent.exec(["tool"], { env: { PATH: "" }, cwd: second });
    expect(here.stdout).toBe("second\n");
    const long = { PATH: "x".repeat(5000) };
    expect(await agent.exec(["tool"], { env: long })).toMatchObject({ exitCode: 127 });
  });

  it("takes input that comes in one piece with the request, cut anywhere", async () => {
    const order = encodeExec({ argv: ["cat"], env: {}, cwd: "", user: "", terminal: undefined });
    const bytes = Buffer.concat([
      encodeFrame(FRAME.EXEC, order),
      encodeFrame(FRAME.STDIN, Buffer.from("one ")),
      encodeFrame(FRAME.STDIN, Buffer.from("two")),
      encodeFrame(FRAME.STDIN),
    ]);
    for (const cut of [bytes.length, order.length + 8, order.length + 11, order.length + 20, 3]) {
      const stream = host.connect();
      stream.write(bytes.subarray(0, cut));
      setTimeout(() => stream.write(bytes.subarray(cut)), 50);
      let said = "";
      for await (const { type, payload } of new AgentChannel(stream).frames()) {
        if (type === FRAME.STDOUT) said += payload;
        if (type === FRAME.EXITED) break;
      }
      stream.destroy();
      expect(said, `cut at ${cut}`).toBe("one two");
    }
  });

  it("sets variables beside the agent's own, folder and user", async () => {
    const { stdout } = await agent.exec(["sh", "-c", 'echo "$A|$HOME|$PWD"'], {
      env: { A: "1 = ü", HOME: "/else" },
      cwd: "/tmp",
    });
    expect(stdout).toBe("1 = ü|/else|/tmp\n");
    if (process.getuid?.() !== 0) return;
    expect((await agent.exec(["id", "-u"], { user: "nobody" })).stdout).toBe("65534\n");
    expect((await agent.exec(["id", "-u"], { user: "4711" })).stdout).toBe("4711\n");
  });

  it("refuses what cannot be a program's words or variables", async () => {
    const invalid = { code: "ERR_ESTALO_CONFIG_INVALID" };
    await expect(agent.exec([])).rejects.toMatchObject(invalid);
    await expect(agent.exec(["a\0b"])).rejects.toMatchObject(invalid);
    await expect(agent.exec(["a"], { env: { "A=B": "" } })).rejects.toMatchObject(invalid);
    await expect(agent.exec(["x".repeat(70_000)])).rejects.toMatchObject(invalid);
  });

  it("feeds input that is longer than any buffer, and its end", async () => {
    const bytes = randomBytes(3 * MIB);
    const sum = createHash("sha256").update(bytes).digest("hex");
    const { stdout } = await agent.exec(["sha256sum"], { stdin: bytes });
    expect(stdout).toBe(`${sum}  -\n`);
    async function* parts() {
      for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
    }
    expect((await agent.exec(["sha256sum"], { stdin: parts() })).stdout).toBe(`${sum}  -\n`);
    // A program that reads none of it is no failure.
    expect(await agent.exec(["true"], { stdin: bytes })).toMatchObject({ exitCode: 0 });
  });

  it("hears a signal while the program does not read its input", async () => {
    const program = agent.exec(["sleep", "1000"], { stdin: "pipe" });
    program.stdin.write(randomBytes(MIB));
    await program.kill("SIGTERM");
    expect(await program).toMatchObject({ signal: "SIGTERM", exitCode: 143 });
  });

  it("makes a program wait for who reads its stream, and then gives everything", async () => {
    const program = agent.exec(["sh", "-c", "head -c 8388608 /dev/zero; echo end >&2"]);
    const { stdout } = program;
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(stdout.readableLength).toBeLessThan(MIB);
    let bytes = 0;
    for await (const part of stdout) bytes += part.length;
    expect(bytes).toBe(8 * MIB);
    expect(await program).toMatchObject({ stdout: "", stderr: "end\n" });
  });

  it("keeps as much output as it is told, and says that there was more", async () => {
    const argv = ["head", "-c", "100000", "/dev/zero"];
    const result = await agent.exec(argv, { maxOutputBytes: 1000 });
    expect(result).toMatchObject({ truncated: true, exitCode: 0 });
    expect(result.stdout).toHaveLength(1000);
  });

  it.each([
    ["at the end of a line", "one\ntwo\n", /two\r\n$/],
    ["within one", "one\ntwo", /two$/],
    ["behind nothing", "", /^$/],
  ])("ends a terminal's input %s", async (_what, text, end) => {
    const options = { tty: true, stdin: Buffer.from(text), timeoutMs: 20_000 };
    expect((await agent.exec(["cat"], options)).stdout).toMatch(end);
  });

  it("gives a terminal of the size that is asked for, and resizes it", async () => {
    const program = agent.exec(["sh", "-c", "stty size; read x; stty size; cat"], {
      tty: { rows: 33, columns: 111 },
    });
    let said = "";
    program.stdout.on("data", (bytes) => {
      said += bytes;
    });
    await vi.waitUntil(() => said.includes("33 111"), { timeout: 20_000 });
    await program.resize({ rows: 44, columns: 122 });
    program.stdin.end("\n");
    expect(await program).toMatchObject({ exitCode: 0 });
    expect(said).toMatch(/^33 111\r\n[\s\S]*44 122\r\n/);
  });

  it.each(["SIGINT", "SIGQUIT", "SIGUSR1"] as const)(
    "ends a program by %s, which whoever started the agent ignores",
    async (signal) => {
      // As a shell ignores some for what is in its background.
      const ignoring = ["sh", "-c", 'trap "" INT QUIT USR1; exec "$@"', "sh"];
      const started = new GuestAgent(async () => host.connect(...ignoring));
      const program = started.exec(["sleep", "1000"], { timeoutMs: 20_000 });
      await program.kill(signal);
      expect(await program).toMatchObject({ signal });
    },
  );

  it("kills the program and its group when it is aborted, late, or given up", async () => {
    const abort = new AbortController();
    const command = ["sh", "-c", "sleep 1000 & echo $!; wait"];
    const aborted = agent.exec(command, { signal: abort.signal });
    const said: Promise<string> = new Promise((resolve) =>
      aborted.stdout.once("data", (bytes) => resolve(String(bytes))),
    );
    const pids = [await aborted.pid, Number(await said)];
    expect(pids.map(isAlive)).toEqual([true, true]);
    abort.abort("enough");
    await expect(aborted).rejects.toMatchObject({ code: "ERR_ESTALO_ABORTED", cause: "enough" });
    await vi.waitUntil(() => !pids.some(isAlive), { timeout: 20_000 });

    const late = agent.exec(["sleep", "1000"], { timeoutMs: 1000 });
    const pid = await late.pid;
    await expect(late).rejects.toMatchObject({ code: "ERR_ESTALO_AGENT_TIMEOUT" });
    await vi.waitUntil(() => !isAlive(pid), { timeout: 20_000 });

    const dropped = agent.exec(["sleep", "1000"]);
    const last = await dropped.pid;
    await dropped[Symbol.asyncDispose]();
    await vi.waitUntil(() => !isAlive(last), { timeout: 20_000 });
    await expect(agent.exec(["true"], { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "ERR_ESTALO_ABORTED",
    });
  });

  it("does not wait for what a program leaves behind", async () => {
    const quiet = await agent.exec(["sh", "-c", "sleep 5 & echo done"]);
    expect(quiet).toMatchObject({ stdout: "done\n", exitCode: 0 });
    const loud = await agent.exec(["sh", "-c", "(timeout 5 yes) & sleep 0.1; exit 7"]);
    expect(loud.exitCode).toBe(7);
  });

  it(
    "runs a thousand commands, some at once",
    async () => {
      for (let round = 0; round < 50; round++) {
        const words = Array.from({ length: 20 }, (_, index) => `${round}.${index}`);
        const results = await Promise.all(words.map((word) => agent.exec(["echo", word])));
        expect(results.map(({ stdout }) => stdout.trim())).toEqual(words);
      }
    },
    PATIENCE_MS,
  );
});

describe("GuestAgent", () => {
  it("tells of uptime, memory and load", async () => {
    const health = await agent.health();
    expect(health.uptimeMs).toBeGreaterThan(1000);
    expect(Math.abs(health.timeMs - Date.now())).toBeLessThan(60_000);
    expect(health.memoryBytes).toBeGreaterThan(health.availableBytes);
    expect(health.load.every((one) => one >= 0 && one < 10_000)).toBe(true);
    expect(health.processes).toBeGreaterThan(1);
  });

  it.each([
    ["unknown", 200, ""],
    ["that is short", FRAME.EXEC, "short"],
    ["whose text has no end", FRAME.STAT, "\0\0\0\0no end"],
    ["that is empty", FRAME.WRITE, ""],
  ])("hears from the agent that it does not take a request %s", async (_what, type, payload) => {
    const channel = new AgentChannel(host.connect());
    await channel.send(type, Buffer.from(payload));
    await expect(channel.answer()).rejects.toMatchObject({ code: "ERR_ESTALO_AGENT_FAILED" });
  });
});

describe("GuestFiles", () => {
  const { files } = agent;

  it("writes, reads, tells of, lists and removes", async () => {
    const folder = fresh("folder");
    mkdirSync(folder);
    const bytes = randomBytes(300_000);
    await files.write(`${folder}/a`, bytes, { mode: 0o600 });
    await files.write(`${folder}/b`, "text");
    symlinkSync("a", `${folder}/link`);
    expect(bytes.equals(await files.read(`${folder}/link`))).toBe(true);
    const followed = { kind: "file", mode: 0o600, sizeBytes: 300_000 };
    expect(await files.stat(`${folder}/link`)).toMatchObject(followed);
    expect(await files.lstat(`${folder}/link`)).toMatchObject({ kind: "symlink", target: "a" });
    const names = (await files.list(folder)).map(({ name, kind }) => `${name} ${kind}`);
    expect(names.sort()).toEqual(["a file", "b file", "link symlink"]);
    await files.remove(`${folder}/b`);
    await expect(files.remove(folder)).rejects.toMatchObject({ data: { errno: "EISDIR" } });
    await files.remove(folder, { recursive: true });
    await expect(files.stat(folder)).rejects.toMatchObject({
      code: "ERR_ESTALO_AGENT_FAILED",
      data: { errno: "ENOENT" },
    });
  });

  it("reads what says that it is empty, and nothing that is no file or too long", async () => {
    expect(String(await files.read("/proc/version"))).toMatch(/^Linux/);
    await expect(files.read("/dev/zero")).rejects.toMatchObject({ data: { errno: "EINVAL" } });
    await expect(files.read("/tmp")).rejects.toMatchObject({ data: { errno: "EISDIR" } });
    const big = fresh("big");
    await files.write(big, Buffer.alloc(1000));
    await expect(files.read(big, { maxBytes: 999 })).rejects.toMatchObject({
      code: "ERR_ESTALO_TOO_LARGE",
    });
  });

  it("says why the guest does not take a file, however much is under way", async () => {
    await expect(files.write("/nowhere/at/all", Buffer.alloc(5 * MIB))).rejects.toMatchObject({
      code: "ERR_ESTALO_AGENT_FAILED",
      data: { what: "create", errno: "ENOENT" },
    });
    await expect(files.write("/dev/full", Buffer.alloc(5 * MIB))).rejects.toMatchObject({
      data: { what: "write", errno: "ENOSPC" },
    });
  });

  it(
    "copies a tree of 5,000 files there and back, with modes, times and links",
    async () => {
      const source = fresh("tree");
      for (let folder = 0; folder < 50; folder++) {
        mkdirSync(join(source, `d${folder}/deeper`), { recursive: true });
        for (let file = 0; file < 100; file++) {
          const path = `d${folder}/${file % 2 === 1 ? "deeper/" : ""}${file} ü`;
          const mode = file % 3 === 0 ? 0o755 : 0o640;
          writeFileSync(join(source, path), `${folder} ${file}`, { mode });
        }
      }
      symlinkSync("d0/0 ü", join(source, "link"));
      symlinkSync("/nowhere", join(source, "broken"));
      execFileSync("mkfifo", [join(source, "pipe")]);
      const [there, back] = [fresh("there"), fresh("back")];
      const summary = await files.copyIn(source, there);
      expect(summary).toMatchObject({ entries: 5103, skipped: 1 });
      expect(await files.copyOut(there, back)).toEqual({ ...summary, skipped: 0 });
      execFileSync("rm", [join(source, "pipe")]);
      execFileSync("diff", ["-r", "--no-dereference", source, back]);
      expect(readlinkSync(join(back, "broken"))).toBe("/nowhere");
      for (const name of ["d3/0 ü", "d3/2 ü", "d49/deeper/1 ü", "d7"]) {
        const [one, two] = [lstatSync(join(source, name)), lstatSync(join(back, name))];
        expect(two.mode).toBe(one.mode);
        expect(Math.abs(two.mtimeMs - one.mtimeMs)).toBeLessThan(2);
      }
    },
    PATIENCE_MS,
  );

  it("copies into a folder under the source's name, and over what is there", async () => {
    const [source, folder] = [fresh("file"), fresh("folder")];
    mkdirSync(folder);
    writeFileSync(source, "one");
    await files.copyIn(source, folder);
    const copied = join(folder, source.split("/").at(-1) as string);
    expect(readFileSync(copied, "utf8")).toBe("one");
    writeFileSync(source, "2");
    await files.copyIn(source, copied);
    expect(readFileSync(copied, "utf8")).toBe("2");
    await expect(files.copyIn("/nowhere", folder)).rejects.toMatchObject({
      code: "ERR_ESTALO_HOST",
    });
    await expect(files.copyOut("/nowhere", folder)).rejects.toMatchObject({
      data: { errno: "ENOENT" },
    });
  });

  it(
    "keeps the holes of a file of 2 GiB",
    async () => {
      const source = fresh("sparse");
      writeFileSync(source, "begin");
      truncateSync(source, 2 ** 31);
      const [there, back] = [fresh("there"), fresh("back")];
      expect((await files.copyIn(source, there)).bytes).toBe(2 ** 31);
      expect((await files.copyOut(there, back)).bytes).toBe(2 ** 31);
      for (const copy of [there, back]) {
        expect(lstatSync(copy).size).toBe(2 ** 31);
        expect(lstatSync(copy).blocks * 512).toBeLessThan(MIB);
        expect(execFileSync("head", ["-c", "6", copy]).toString()).toBe("begin\0");
      }
    },
    PATIENCE_MS,
  );

  it("gives up a copy when it is aborted, or beyond what it may have", async () => {
    const source = fresh("endless");
    writeFileSync(source, Buffer.alloc(64 * MIB, 1));
    const abort = new AbortController();
    const onProgress = () => abort.abort();
    const copy = files.copyOut(source, fresh("part"), { signal: abort.signal, onProgress });
    await expect(copy).rejects.toMatchObject({ code: "ERR_ESTALO_ABORTED" });
    const tooLarge = { code: "ERR_ESTALO_TOO_LARGE" };
    const few = files.copyOut(host.folder, fresh("few"), { maxEntries: 2 });
    await expect(few).rejects.toMatchObject(tooLarge);
    const short = files.copyOut(source, fresh("short"), { maxBytes: MIB });
    await expect(short).rejects.toMatchObject(tooLarge);
  });
});

it("has a stream of output that ends with the program", async () => {
  const program = agent.exec(["sh", "-c", "echo one; echo two >&2"]);
  const [out, err] = [text(program.stdout), text(program.stderr)];
  expect([await out, await err]).toEqual(["one\n", "two\n"]);
  expect(await program).toMatchObject({ stdout: "", stderr: "", exitCode: 0 });
});
