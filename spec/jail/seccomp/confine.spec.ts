/** The filters in a process: the built `firecracker`, which needs no KVM to listen. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { readFilters } from "../../../src/jail/seccomp/confine.js";
import { until } from "../../support/jails.js";

const FIRECRACKER = new URL("../../../bin/firecracker", import.meta.url).pathname;

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "estalo-seccomp-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

interface Vmm {
  readonly child: ChildProcess;
  readonly said: () => string;
  readonly ended: Promise<number | null>;
}

function start(words: readonly string[]): Vmm {
  const child = spawn(process.execPath, [FIRECRACKER, ...words]);
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk) => {
      text += chunk;
    });
  }
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  return { child, said: () => text, ended };
}

/** Filters of each thread. */
function filterCounts(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).map((task) => {
    const status = readFileSync(`/proc/${pid}/task/${task}/status`, "utf8");
    return Number(/^Seccomp_filters:\s+(\d+)/m.exec(status)?.[1]);
  });
}

describe("a listening process", () => {
  it("has a filter on every thread, and two on those of the pools", async () => {
    const socket = join(folder(), "api.sock");
    const { child } = start(["--api-sock", socket]);
    await until(() => existsSync(socket), "the socket");
    const counts = filterCounts(child.pid as number);
    expect(Math.min(...counts)).toBe(1);
    // libuv's four, and V8's, of which there are as many as Node.js likes.
    expect(counts.filter((count) => count === 2).length).toBeGreaterThan(4);
  });

  it("has none when that is asked for", async () => {
    const socket = join(folder(), "api.sock");
    const { child } = start(["--api-sock", socket, "--no-seccomp"]);
    await until(() => existsSync(socket), "the socket");
    expect(Math.max(...filterCounts(child.pid as number))).toBe(0);
  });

  it("ends with status 148 and a line in the log when it makes another call", async () => {
    const path = folder();
    const [socket, filter, log] = ["api.sock", "filter.json", "log"].map((name) =>
      join(path, name),
    );
    writeFileSync(
      filter,
      JSON.stringify({
        process: {
          default_action: "allow",
          filter_action: "trap",
          filter: [{ syscall: "accept4" }],
        },
      }),
    );
    const words = ["--api-sock", socket, "--seccomp-filter", filter, "--log-path", log];
    const { ended, said } = start(words);
    await until(() => existsSync(socket), "the socket");
    createConnection(socket).on("error", () => {});
    expect(await ended).toBe(148);
    const line = "Shutting down VM after intercepting a bad syscall (288, accept4, in thread ";
    expect(said()).toContain(line);
    expect(readFileSync(log, "utf8")).toContain(line);
  });

  it.each([
    ["{", "Seccomp error: the seccomp filter is not JSON"],
    ['{"process":{}}', "Seccomp error: the seccomp filter: process.default_action"],
  ])("does not begin with the filter %s", async (text, message) => {
    const path = folder();
    writeFileSync(join(path, "filter.json"), text);
    const { ended, said } = start([
      ...["--api-sock", join(path, "api.sock")],
      ...["--seccomp-filter", join(path, "filter.json")],
    ]);
    expect(await ended).toBe(1);
    expect(said()).toContain(message);
  });
});

describe("readFilters", () => {
  it("says which file it cannot read", () => {
    expect(() => readFilters("/nonsense")).toThrowError(/read seccomp filter \/nonsense: ENOENT/);
  });
});
