/** The agent in a guest, over its vsock device. */
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  lstatSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { MicroVm } from "estalo";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { isCutShort, isKernelModeEmulated } from "../support/guest-host.js";
import { guestReport } from "../support/guest-report.js";
import { bootLinux } from "../support/linux-guest.js";
import { Scratch } from "../support/tiny-guest.js";

const scratch = new Scratch();
/** A system call costs a millisecond where kernel mode is emulated. */
const commands = isCutShort() ? 20 : 1000;
const copies = isCutShort() ? 20 : 5000;
const dataBytes = isKernelModeEmulated() ? 200_000 : 20_000_000;
/** That many commands or files take longer on such a host than other specs, and hosts differ by four, ms. */
const LONG_MS = 3_600_000;
/** A guest that is busy is not gone. */
const START_MS = 200_000;

let vm: MicroVm;

beforeAll(async () => {
  [vm] = await bootLinux({ memoryMib: 256, vsock: {} });
  await vi.waitFor(() => vm.agent.health(), { timeout: START_MS, interval: 100 });
});
afterAll(async () => {
  await vm?.kill();
  scratch[Symbol.dispose]();
});

describe("a program in the guest", () => {
  it("gives output, status and signal, with its environment", async () => {
    const env = { WORD: "with space" };
    const result = await vm.exec(["sh", "-c", 'echo "$WORD $PWD"; echo err >&2; exit 3'], {
      env,
      cwd: "/tmp",
    });
    expect(result, guestReport(vm)).toEqual({
      stdout: "with space /tmp\n",
      stderr: "err\n",
      exitCode: 3,
      signal: undefined,
      truncated: false,
    });
    expect(await vm.exec(["sh", "-c", "kill $$"])).toMatchObject({ signal: "SIGTERM" });
    expect(await vm.exec(["nothing-like-it"])).toMatchObject({ exitCode: 127 });
  });

  it("takes input and gives back output, longer than any buffer", async () => {
    const bytes = randomBytes(dataBytes);
    const program = vm.exec(["cat"], { stdin: bytes });
    const hash = createHash("sha256");
    for await (const part of program.stdout) hash.update(part);
    expect(await program).toMatchObject({ exitCode: 0 });
    expect(hash.digest("hex")).toBe(createHash("sha256").update(bytes).digest("hex"));
  });

  it("has a terminal that is resized, and signals", async () => {
    const program = vm.exec(["sh", "-c", "stty size; read x; stty size; exec sleep 1000"], {
      tty: { rows: 33, columns: 111 },
    });
    let said = "";
    program.stdout.on("data", (bytes) => {
      said += bytes;
    });
    await vi.waitUntil(() => said.includes("33 111"), { timeout: START_MS });
    await program.resize({ rows: 44, columns: 122 });
    program.stdin.write("\n");
    await vi.waitUntil(() => said.includes("44 122"), { timeout: START_MS });
    await program.kill("SIGKILL");
    expect(await program).toMatchObject({ signal: "SIGKILL", exitCode: 137 });
  });

  it("dies in the guest when its call is aborted", async () => {
    const abort = new AbortController();
    const program = vm.exec(["sleep", "1234"], { signal: abort.signal });
    const pid = await program.pid;
    expect((await vm.exec(["cat", `/proc/${pid}/comm`])).stdout).toBe("sleep\n");
    abort.abort();
    await expect(program).rejects.toMatchObject({ code: "ERR_ESTALO_ABORTED" });
    const isGone = async () => (await vm.exec(["test", "-d", `/proc/${pid}`])).exitCode === 1;
    await vi.waitUntil(isGone, { timeout: START_MS });
  });

  it("runs again and again, several at once", { timeout: LONG_MS }, async () => {
    for (let done = 0; done < commands; done += 5) {
      const words = Array.from({ length: 5 }, (_, index) => `${done + index}`);
      const results = await Promise.all(words.map((word) => vm.exec(["echo", word])));
      expect(results.map(({ stdout }) => stdout.trim())).toEqual(words);
    }
  });
});

describe("the guest's files", () => {
  it("are written, read, listed and removed", async () => {
    await vm.files.write("/tmp/file", "content", { mode: 0o600 });
    expect(String(await vm.files.read("/tmp/file"))).toBe("content");
    expect(await vm.files.stat("/tmp/file")).toMatchObject({ kind: "file", mode: 0o600 });
    expect(await vm.files.list("/tmp")).toContainEqual(expect.objectContaining({ name: "file" }));
    await vm.files.remove("/tmp/file");
    await expect(vm.files.read("/tmp/file")).rejects.toMatchObject({
      code: "ERR_ESTALO_AGENT_FAILED",
      data: { errno: "ENOENT" },
    });
  });

  it("are copied in and out as a tree, and a sparse one of 2 GiB stays sparse", {
    timeout: LONG_MS,
  }, async () => {
    const source = join(scratch.path, "tree");
    const back = join(scratch.path, "back");
    mkdirSync(join(source, "deeper"), { recursive: true });
    for (let file = 0; file < copies; file++) {
      writeFileSync(join(source, file % 2 ? "deeper" : ".", `${file}`), `${file}`, { mode: 0o750 });
    }
    symlinkSync("/nowhere", join(source, "link"));
    writeFileSync(join(source, "sparse"), "begin");
    truncateSync(join(source, "sparse"), 2 ** 31);
    const summary = await vm.files.copyIn(source, "/tmp/tree");
    expect(summary.entries).toBe(copies + 4);
    const { stdout } = await vm.exec([
      "sh",
      "-c",
      "ls -l /tmp/tree/sparse; du -k /tmp/tree/sparse",
    ]);
    expect(stdout).toMatch(/ 2147483648 /);
    expect(Number(/^(\d+)\t/m.exec(stdout)?.[1])).toBeLessThan(1024);
    expect(await vm.files.copyOut("/tmp/tree", back)).toEqual(summary);
    expect(lstatSync(join(back, "sparse")).blocks * 512).toBeLessThan(2 ** 20);
    truncateSync(join(source, "sparse"), 5);
    truncateSync(join(back, "sparse"), 5);
    execFileSync("diff", ["-r", "--no-dereference", source, back]);
    expect(lstatSync(join(back, "deeper/1")).mode & 0o777).toBe(0o750);
    expect(readFileSync(join(back, "0"), "utf8")).toBe("0");
  });
});

describe("the guest itself", () => {
  it("tells how it is, and has the time after a pause", async () => {
    const before = await vm.agent.health();
    expect(before.memoryBytes).toBeGreaterThan(100 * 2 ** 20);
    expect(before.uptimeMs).toBeGreaterThan(0);
    await vm.agent.setTime(1_000_000_000_000);
    expect((await vm.agent.health()).timeMs).toBeLessThan(1_100_000_000_000);
    await vm.pause();
    await vm.resume();
    const isRight = async () => Math.abs((await vm.agent.health()).timeMs - Date.now()) < 3_600_000;
    await vi.waitUntil(isRight, { timeout: START_MS });
  });

  it("ends in order with its agent", async () => {
    const exit = await vm.stop({ timeoutMs: START_MS });
    expect(["reboot", "poweroff"], guestReport(vm)).toContain(exit.reason);
    await expect(vm.exec(["true"])).rejects.toMatchObject({
      code: expect.stringMatching(/ERR_ESTALO_(AGENT_UNREACHABLE|STATE)/),
    });
  });
});
