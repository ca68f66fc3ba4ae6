/**
 * The calls of one microVM in every order: each moment of its life is held still, and every call is made
 * there, alone and together with another one.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Fleet } from "../../src/actors/fleet.js";
import type { FleetEvent, FleetRecord } from "../../src/actors/fleet-messages.js";
import { EstaloError } from "../../src/errors.js";
import { Stage } from "../support/played-supervisor.js";

let folder: string;
let stage: Stage;
let fleet: Fleet;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "estalo-member-"));
  stage = new Stage();
  fleet = await Fleet.open({ stateDir: folder, makeSupervisor: stage.make });
  await fleet.create({ name: "a", config: { kernel: "vmlinux" }, start: false });
});

afterEach(async () => {
  stage.release();
  await fleet.close({ timeoutMs: 0 });
  rmSync(folder, { recursive: true });
});

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A call's outcome: the state of the record it gives, "ok", or the code of its error. */
function outcomeOf(call: () => unknown): Promise<string> {
  return (async () => call())().then(
    (value) => (value as FleetRecord | undefined)?.state ?? "ok",
    (error: EstaloError) => error.code,
  );
}

const CALLS = {
  start: () => fleet.start("a"),
  pause: () => fleet.pause("a"),
  resume: () => fleet.resume("a"),
  stop: () => fleet.stop("a", { timeoutMs: 0 }),
  kill: () => fleet.kill("a"),
  remove: () => fleet.remove("a"),
  "remove by force": () => fleet.remove("a", { force: true }),
  configure: () => fleet.configure("a", (config) => config),
  "change devices": () => fleet.changeDevices("a", { drives: { d: {} } }),
  "send Ctrl-Alt-Delete": () => void fleet.sendCtrlAltDelete("a"),
} as const;
type Call = keyof typeof CALLS;

/** Brings the microVM to a moment and holds it there. */
const MOMENTS = {
  configured: async () => {},
  "starting, before its kernel is there": async () => {
    fleet.start("a").catch(() => {});
  },
  starting: async () => {
    stage.holding.add("start");
    fleet.start("a").catch(() => {});
    await turn();
  },
  running: async () => {
    await fleet.start("a");
  },
  pausing: async () => {
    await fleet.start("a");
    stage.holding.add("pause");
    fleet.pause("a").catch(() => {});
  },
  paused: async () => {
    await fleet.start("a");
    await fleet.pause("a");
  },
  "stopping politely": async () => {
    await fleet.start("a");
    fleet.stop("a", { timeoutMs: 3_600_000 }).catch(() => {});
  },
  "being killed": async () => {
    await fleet.start("a");
    stage.holding.add("tearDown");
    fleet.kill("a").catch(() => {});
  },
  "ending by itself": async () => {
    await fleet.start("a");
    stage.holding.add("tearDown");
    void stage.last.end("poweroff");
  },
  "being removed by force": async () => {
    await fleet.start("a");
    stage.holding.add("tearDown");
    fleet.remove("a", { force: true }).catch(() => {});
    await turn();
  },
  stopped: async () => {
    await fleet.start("a");
    await stage.last.end("poweroff");
  },
  failed: async () => {
    stage.failing.set("make", new EstaloError("ERR_ESTALO_KERNEL_FILE", "no"));
    await fleet.start("a").catch(() => {});
    stage.failing.clear();
  },
} as const;
type Moment = keyof typeof MOMENTS;

const STATE = "ERR_ESTALO_STATE";
const ENDED = ["configured", "stopped", "failed"];

/** What a call made at a moment comes to, when all that was held goes on. */
function expected(moment: Moment, call: Call): string {
  const isGone = moment === "being removed by force";
  const isEnded = ENDED.includes(moment);
  const isRunning = moment === "running";
  const isPaused = moment === "paused" || moment === "pausing";
  if (call === "remove by force") return "ok";
  if (call === "remove") return isEnded || isGone ? "ok" : STATE;
  if (call === "stop" || call === "kill") return isEnded ? moment : "stopped";
  if (call === "start") return isEnded ? "running" : STATE;
  if (call === "configure") return isEnded ? moment : STATE;
  if (call === "pause") return isRunning ? "paused" : STATE;
  if (call === "resume") return isPaused ? "running" : STATE;
  if (call === "change devices") return isRunning ? "running" : isPaused ? "paused" : STATE;
  return isRunning ? "ok" : STATE;
}

const cases = (Object.keys(MOMENTS) as Moment[]).flatMap((moment) =>
  (Object.keys(CALLS) as Call[]).map((call) => [moment, call] as const),
);

describe("a call", () => {
  it.each(cases)("while %s: %s", async (moment, call) => {
    await MOMENTS[moment]();
    const outcome = outcomeOf(CALLS[call]);
    await turn();
    stage.release();
    expect(await outcome).toBe(expected(moment, call));
  });

  const lifeCalls: Call[] = ["start", "pause", "resume", "stop", "kill", "remove by force"];
  const pairs = lifeCalls.flatMap((first) => lifeCalls.map((second) => [first, second] as const));

  it.each(pairs)(
    "of two at once, %s and %s, leaves one whole microVM or none",
    async (...calls) => {
      for (const moment of Object.keys(MOMENTS) as Moment[]) {
        const name = "a";
        if (fleet.list({ name }).items.length === 0) {
          await fleet.create({ name, config: { kernel: "vmlinux" }, start: false });
        }
        await MOMENTS[moment]();
        const outcomes = calls.map((call) => outcomeOf(CALLS[call]));
        await turn();
        stage.release();
        for (const outcome of await Promise.all(outcomes)) {
          expect(outcome).toMatch(
            /^(ok|configured|running|paused|stopping|stopped|failed|ERR_ESTALO_(STATE|NOT_FOUND))$/,
          );
        }
        await fleet.remove(name, { force: true }).catch(() => {});
        expect(fleet.list().items).toEqual([]);
        expect(stage.living.size).toBe(0);
      }
      await turn();
      expectWholeLives(fleet.events.since(0) as FleetEvent[]);
    },
  );
});

/** Every run begins once, ends once, and says in between only what can be. */
function expectWholeLives(events: readonly FleetEvent[]): void {
  const states = new Map<string, string>();
  const next: Record<string, readonly string[]> = {
    configured: ["starting", "deleted"],
    starting: ["running", "stopping", "stopped", "failed"],
    running: ["paused", "stopping"],
    paused: ["running", "stopping"],
    stopping: ["stopped", "failed"],
    stopped: ["starting", "deleted"],
    failed: ["starting", "deleted"],
  };
  for (const event of events) {
    const to = event.type === "state" ? event.state : event.type;
    if (to === "created") {
      states.set(event.microvm, "configured");
    } else if (event.type === "state" || to === "deleted") {
      const from = states.get(event.microvm) ?? "nothing";
      expect(next[from], `${from} to ${to}`).toContain(to);
      states.set(event.microvm, to);
    }
  }
}

describe("stop", () => {
  it("asks first, and is content when the guest obeys", async () => {
    await fleet.start("a");
    stage.last.isPolite = true;
    const record = await fleet.stop("a");
    expect(record.exit?.reason).toBe("poweroff");
    expect(stage.last.ctrlAltDeletes).toBe(1);
  });

  it("kills when its time is over, and when its signal aborts", async () => {
    await fleet.start("a");
    expect((await fleet.stop("a", { timeoutMs: 20 })).exit?.reason).toBe("killed");
    await fleet.start("a");
    const gone = new AbortController();
    const stopped = fleet.stop("a", { signal: gone.signal, timeoutMs: 3_600_000 });
    expect(fleet.get("a").state).toBe("stopping");
    gone.abort();
    expect((await stopped).exit?.reason).toBe("killed");
  });

  it.each([-1, 3_600_001, 0.5, Number.NaN, "5"])("refuses a time of %s", async (timeoutMs) => {
    await fleet.start("a");
    expect(await outcomeOf(() => fleet.stop("a", { timeoutMs: timeoutMs as number }))).toBe(
      "ERR_ESTALO_CONFIG_INVALID",
    );
    expect(fleet.get("a").state).toBe("running");
  });

  it("does not end the run that begins after the one it stopped", async () => {
    await fleet.start("a");
    const [first] = stage.made;
    const stopped = fleet.stop("a", { timeoutMs: 100 });
    await first.end("poweroff");
    await fleet.start("a");
    await stopped;
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(fleet.get("a").state).toBe("running");
  });
});

describe("a run", () => {
  it("that is killed before its supervisor is made has none", async () => {
    const started = fleet.start("a");
    expect((await fleet.kill("a")).exit?.reason).toBe("killed");
    expect((await started).state).toBe("stopped");
    await turn();
    expect(stage.made).toEqual([]);
  });

  it("whose start fails has ended before its caller hears of it", async () => {
    stage.failing.set("start", new EstaloError("ERR_ESTALO_HOST", "no threads"));
    stage.holding.add("tearDown");
    const outcome = outcomeOf(() => fleet.start("a"));
    await turn();
    expect(fleet.get("a").state).toBe("stopping");
    stage.release();
    expect(await outcome).toBe("ERR_ESTALO_HOST");
    expect(fleet.get("a")).toMatchObject({ state: "failed", exit: { exitCode: 125 } });
  });

  it("has a drive as it was changed, the next one too", async () => {
    fleet.configure("a", (config) => ({
      ...config,
      drives: [{ path: "/x" }, { id: "d", path: "/y" }],
    }));
    await fleet.start("a");
    const limit = { bandwidth: { size: 1000, refillTimeMs: 10 } };
    await fleet.changeDevices("a", {
      drives: { drive0: { path: "/z" }, d: { rateLimiter: limit } },
    });
    expect(stage.last.drives).toEqual([
      ["drive0", { path: "/z" }],
      ["d", { rateLimiter: limit }],
    ]);
    await fleet.kill("a");
    await fleet.start("a");
    expect(stage.last.config.drives).toMatchObject([
      { id: "drive0", path: "/z" },
      { id: "d", path: "/y", rateLimiter: limit },
    ]);
  });
});
