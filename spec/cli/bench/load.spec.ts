/** `estalo bench load` with a server that is played: what it asks for, counts, tells and leaves. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { EstaloClient } from "../../../src/api/client/client.js";
import type { Arrival } from "../../../src/cli/bench/arrivals.js";
import type { LoadSummary } from "../../../src/cli/bench/load-report.js";
import { LOAD_LABEL, LoadRun } from "../../../src/cli/bench/load-run.js";
import { fleetCommand } from "../../support/fleet-command.js";
import { PlayedLoad } from "../../support/played-load.js";

const folder = mkdtempSync(join(tmpdir(), "estalo-load-"));
afterAll(() => rmSync(folder, { recursive: true }));

let server: PlayedLoad;
beforeEach(async () => {
  server = await PlayedLoad.open();
});
afterEach(() => server[Symbol.asyncDispose]());

/** All at once: no spec waits for the clock. */
function burst(count: number): string {
  const file = join(folder, "burst.csv");
  writeFileSync(file, `atMs,lifeMs,weight\n0,1,${count}\n`);
  return file;
}

const load = (...words: string[]) => fleetCommand(server.host, "bench", "load", ...words);

async function summaryOf(...words: string[]): Promise<LoadSummary> {
  const { stdout } = await load("--json", ...words);
  return JSON.parse(stdout.trim().split("\n").at(-1) as string) as LoadSummary;
}

describe("estalo bench load", () => {
  it("makes what is due, waits until it is ready, and removes it", async () => {
    const { status, stdout, stderr } = await load("--trace", burst(5), "--seed", "s");
    expect(stdout).toMatch(/^5 arrived in 0\.\d s .* seed s; all over after /);
    expect(stdout).toContain("5 completed, 0 failed, 0 refused; at most");
    expect(stdout).toMatch(/\nLATENCY +COUNT +P50 +P90 +P99 +P99\.9 +MAX\n/);
    expect(stdout).toMatch(/\nstarted +5 .*\nready +5 .*\nremoved +5 .*\nlate +5 /);
    expect(stdout).toMatch(/\nserver: \d+ % CPU on average, .*; 1\.0 MiB resident, \d microVMs/);
    expect([status, stderr]).toEqual([0, ""]);
    expect(server.there.size).toBe(0);
    // Requests may overtake each other.
    const names = server.specs.map(({ name }) => name).sort();
    const [, prefix] = /^(load-[0-9a-f]{8})-1$/.exec(names[0]) as RegExpExecArray;
    expect(names).toEqual([1, 2, 3, 4, 5].map((number) => `${prefix}-${number}`));
    expect(server.specs[0]).toMatchObject({
      labels: { [LOAD_LABEL]: prefix },
      config: { memoryMib: 128, vcpuCount: 1, vsock: {} },
    });
  });

  it("writes JSON Lines: what it is, and how it ended", async () => {
    const { stdout } = await load("--json", "--trace", burst(2), "--seed", "s");
    const lines = stdout.split("\n").filter((line) => line !== "");
    const [first, ...rest] = lines.map((line) => JSON.parse(line) as LoadSummary);
    expect(first).toMatchObject({ type: "load", seed: "s", label: `${LOAD_LABEL}=${first.load}` });
    expect(rest.at(-1)).toMatchObject({
      type: "summary",
      load: first.load,
      ...{ arrived: 2, completed: 2, failed: 0, refused: 0, live: 0, failures: [] },
      ...{ interrupted: null, status: 0 },
      latenciesMs: { ready: { count: 2 }, removed: { count: 2 } },
      server: { residentBytesMax: 1048576, loopLateMsMax: 2 },
    });
  });

  it("draws sizes from the mix, the same again for the same seed", async () => {
    const sizes = async (seed: string) => {
      server.specs.length = 0;
      await load("--trace", burst(40), "--mix", "64:1:1,256:2:1", "--seed", seed);
      const numbered = server.specs.map(
        ({ name, config }) => [+name.split("-")[2], config] as const,
      );
      return numbered.sort(([a], [b]) => a - b).map(([, { memoryMib }]) => memoryMib);
    };
    const first = await sizes("a");
    expect(new Set(first)).toEqual(new Set([64, 256]));
    expect(await sizes("a")).toEqual(first);
    expect(await sizes("b")).not.toEqual(first);
  });

  it("counts failures by code, and removes what is left of them", async () => {
    const guests = ["boots", "is refused", "panics", "is refused", "is silent"] as const;
    server.guest = (index) => guests[index];
    const summary = await summaryOf("--trace", burst(5), "--timeout", "300ms");
    expect(summary).toMatchObject({ completed: 1, failed: 4, status: 1 });
    expect(summary.failures).toEqual([
      { code: "ERR_ESTALO_BUSY", count: 2, message: expect.stringMatching(/no room$/) },
      { code: "guest-panic", count: 1, message: "the guest ended: panic" },
      { code: "not-ready", count: 1, message: "not ready within 300 ms" },
    ]);
    expect(server.there.size).toBe(0);
  });

  it("ends with status 1 only when more fail than may", async () => {
    server.guest = (index) => (index === 0 ? "is refused" : "boots");
    const statuses: number[] = [];
    for (const limit of ["0", "1", "49%", "50%"]) {
      server.specs.length = 0;
      statuses.push((await load("--trace", burst(2), "--max-failures", limit)).status);
    }
    expect(statuses).toEqual([1, 0, 1, 0]);
  });

  it("lives until guests end by themselves when asked, and tells how long that took", async () => {
    server.guest = () => "powers off";
    const { status, stdout } = await load("--count", "3", "--rate", "1000", "--life", "guest");
    expect(stdout).toMatch(/\nended +3 /);
    expect(status).toBe(0);
  });

  it("stops guests before their removal when asked", async () => {
    await load("--trace", burst(1), "--graceful");
    expect(server.asked.find((line) => line.endsWith("/stop"))).toMatch(/^POST .*-1\/stop$/);
  });

  it("says what is wrong before it starts anything", async () => {
    const trace = join(folder, "wrong.csv");
    writeFileSync(trace, "atMs\n0\nx\n");
    expect(await load("--trace", trace)).toMatchObject({
      status: 125,
      stderr: expect.stringContaining("wrong.csv:3: atMs is a number"),
    });
    expect(await fleetCommand(server.host, "bench", "lead")).toMatchObject({
      status: 125,
      stderr: expect.stringContaining("estalo bench does load, not lead"),
    });
    expect((await fleetCommand("unix:///nowhere", "bench", "load")).stderr).toContain(
      "ERR_ESTALO_CONNECT",
    );
    expect(server.specs).toEqual([]);
  });
});

describe("a load", () => {
  const options = { ready: "booted", timeoutMs: 60_000, isGraceful: false } as const;
  const ARRIVAL: Arrival = { atMs: 0, lifeMs: 0, size: undefined };
  let client: EstaloClient;
  beforeEach(() => {
    client = new EstaloClient({ host: server.host });
  });
  afterEach(() => client[Symbol.asyncDispose]());

  const runOf = (arrivals: Iterable<Arrival>, concurrency = 50) =>
    new LoadRun(client, {
      ...{ name: "l", spec: {}, arrivals, since: 0 },
      options: { ...options, concurrency },
    });
  const never = () => new AbortController().signal;

  it("is open: arrivals do not wait for those before, and beyond the limit they are refused", async () => {
    let release = () => {};
    server.held = new Promise((resolve) => {
      release = resolve;
    });
    function* tenThenRelease(): Generator<Arrival> {
      for (let i = 0; i < 10; i++) yield ARRIVAL;
      release();
    }
    const run = runOf(tenThenRelease(), 3);
    await run.run(never());
    expect(run.counts).toMatchObject({ arrived: 10, refused: 7, completed: 3, liveMax: 3 });
    expect(server.specs).toHaveLength(3);
  });

  it("counts latencies from when an arrival was due", async () => {
    const run = runOf([{ ...ARRIVAL, atMs: -5000 }]);
    await run.run(never());
    for (const kind of ["late", "started", "ready"] as const) {
      expect(run.latencies.summary(kind)?.p50).toBeGreaterThanOrEqual(4990);
    }
    expect(run.latencies.summary("removed")?.max).toBeLessThan(4990);
  });

  it("removes what it made when it is interrupted, and counts none of it as failed", async () => {
    const controller = new AbortController();
    server.guest = () => "is silent";
    function* threeThenAbort(): Generator<Arrival> {
      for (let i = 0; i < 3; i++) yield ARRIVAL;
      controller.abort("SIGINT");
      yield ARRIVAL;
    }
    const run = runOf(threeThenAbort());
    await run.run(controller.signal);
    expect(run.counts).toMatchObject({ arrived: 3, completed: 0, failed: 0, live: 0 });
    expect(server.there.size).toBe(0);
  });

  it("fails those that wait when the events are lost, and goes on with others", async () => {
    server.guest = (index) => (index === 0 ? "is silent" : "boots");
    const again = () => server.asked.filter((line) => line.startsWith("WS ")).length;
    const run = runOf([ARRIVAL]);
    const running = run.run(never());
    while (server.there.size === 0 || again() === 0) await new Promise(setImmediate);
    server.loseEvents();
    await running;
    expect(run.failures).toEqual([
      { code: "ERR_ESTALO_EVENTS_GAP", count: 1, message: expect.any(String) },
    ]);
    expect(server.there.size).toBe(0);
  });
});
