/**
 * What the next server makes of a state, whatever happened before: the fleet beside a simple model of it,
 * through random lives with crashes and orderly ends.
 *
 * A crash is a copy of the state folder, opened as another fleet while the first one still runs: what a
 * kill -9 leaves. spec/guest/fleet.spec.ts has the real one.
 */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { Fleet, type FleetOptions } from "../../src/actors/fleet.js";
import type { FleetEvent, FleetRecord, FleetState } from "../../src/actors/fleet-messages.js";
import { isEstaloError } from "../../src/errors.js";
import { type PlayedSupervisor, Stage } from "../support/played-supervisor.js";

const root = mkdtempSync(join(tmpdir(), "estalo-recovery-"));
const fleets: Fleet[] = [];
let folders = 0;

afterEach(async () => {
  vi.useRealTimers();
  for (const fleet of fleets.splice(0)) await fleet.close({ timeoutMs: 0 });
  rmSync(root, { recursive: true, force: true });
});

const newFolder = () => join(root, String(folders++));
const turn = () => new Promise((resolve) => setImmediate(resolve));

async function open(stateDir: string, stage: Stage, more: Partial<FleetOptions> = {}) {
  const fleet = await Fleet.open({ stateDir, makeSupervisor: stage.make, ...more });
  fleets.push(fleet);
  return fleet;
}

/** As if the server was killed now. */
async function crash(stateDir: string, stage: Stage, more: Partial<FleetOptions> = {}) {
  await turn();
  const copy = newFolder();
  cpSync(stateDir, copy, { recursive: true });
  return { fleet: await open(copy, stage, more), stateDir: copy };
}

const config = { kernel: "vmlinux" };

describe("after a server died", () => {
  it("what lived is lost, with the reason, in an event, and cleaned up after, whatever a clean-up throws", async () => {
    const stateDir = newFolder();
    const first = await open(stateDir, new Stage());
    for (const name of ["ran", "paused", "ended", "configured"]) {
      await first.create({ name, config, start: name !== "configured" });
    }
    await first.pause("paused");
    await first.kill("ended");
    const cleaned: string[] = [];
    const stage = new Stage();
    const { fleet } = await crash(stateDir, stage, {
      cleanUp: [
        () => {
          throw new Error("mine");
        },
        async ({ name, state }) => void cleaned.push(`${name} ${state}`),
      ],
    });
    const reason = `its server, process ${process.pid}, died while it ran`;
    for (const name of ["ran", "paused"]) {
      expect(fleet.get(name)).toMatchObject({ state: "lost", lostReason: reason, exit: undefined });
    }
    expect(fleet.counts()).toMatchObject({ lost: 2, stopped: 1, configured: 1 });
    expect(fleet.counters).toMatchObject({ lost: 2, cleanupErrors: 2 });
    expect(cleaned).toEqual(["ran lost", "paused lost"]);
    expect(stage.made).toEqual([]);
    await turn();
    const lost = (fleet.events.since(0) as FleetEvent[]).filter(({ type }) => type === "lost");
    expect(lost).toMatchObject([
      { name: "ran", reason },
      { name: "paused", reason },
    ]);
    expect((await fleet.wait("ran")).state).toBe("lost");
    expect(await fleet.start("ran")).toMatchObject({ state: "running", lostReason: undefined });
  });

  it("what has the policy always is lost and then started; what was being stopped is not", async () => {
    const stateDir = newFolder();
    const stage = new Stage();
    const first = await open(stateDir, stage);
    const restart = { policy: "always" } as const;
    for (const name of ["on", "off", "due"]) await first.create({ name, config, restart });
    await first.create({ name: "failing", config, restart: { policy: "on-failure" } });
    stage.holding.add("tearDown");
    const stopped = first.kill("off");
    await turn();
    stage.holding.clear();
    await stage.made[2].end("poweroff");
    await stage.made[3].end("panic");
    const { fleet } = await crash(stateDir, new Stage());
    await turn();
    await vi.waitFor(() => expect(fleet.counts().running).toBe(2), 20_000);
    expect(fleet.get("on")).toMatchObject({ state: "running", restartCount: 1 });
    expect(fleet.get("due")).toMatchObject({ state: "running", restartCount: 1 });
    expect(fleet.get("off").state).toBe("lost");
    expect(fleet.get("failing")).toMatchObject({ state: "stopped", restartAtMs: undefined });
    const told = (fleet.events.since(0) as FleetEvent[])
      .filter(({ name }) => name === "on")
      .slice(-3);
    expect(told).toMatchObject([
      { type: "lost" },
      { type: "state", state: "starting" },
      { type: "state", state: "running" },
    ]);
    stage.release();
    await stopped;
  });

  it("what is removed at its end is removed, after its event", async () => {
    const stateDir = newFolder();
    const first = await open(stateDir, new Stage());
    await first.create({ name: "job", config, autoRemove: true });
    const { fleet } = await crash(stateDir, new Stage());
    expect(fleet.list().items).toEqual([]);
    await turn();
    const types = (fleet.events.since(0) as FleetEvent[]).map(({ type }) => type);
    expect(types.slice(-2)).toEqual(["lost", "deleted"]);
  });
});

describe("after an orderly close", () => {
  it("what ran with the policy always runs again, and nothing is lost", async () => {
    const stateDir = newFolder();
    const first = await open(stateDir, new Stage());
    const restart = { policy: "always" } as const;
    for (const name of ["on", "stopped"]) await first.create({ name, config, restart });
    await first.create({ name: "once", config });
    await first.stop("stopped", { timeoutMs: 0 });
    await first.close({ timeoutMs: 0 });
    expect(await first.create({ config }).catch((error) => error.code)).toBe("ERR_ESTALO_STATE");
    const fleet = await open(stateDir, new Stage());
    await vi.waitFor(() => expect(fleet.get("on").state).toBe("running"), 20_000);
    expect(fleet.counts()).toMatchObject({ running: 1, stopped: 2, lost: 0 });
    // Once is enough: who stops it now has stopped it.
    await fleet.stop("on", { timeoutMs: 0 });
    await fleet.close();
    expect((await open(stateDir, new Stage())).counts()).toMatchObject({ stopped: 3 });
  });

  it("of a microVM that does not end, says which, lets go of the folder, and the next one reports it", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const stateDir = newFolder();
    const stage = new Stage();
    const first = await Fleet.open({ stateDir, makeSupervisor: stage.make });
    await first.create({ name: "stuck", config: { ...config, id: "vm-1" } });
    stage.holding.add("tearDown");
    const closed = first.close({ timeoutMs: 0 }).catch((error) => error);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(await closed).toMatchObject({ code: "ERR_ESTALO_BUG", data: { microvms: ["vm-1"] } });
    const fleet = await open(stateDir, new Stage());
    expect(fleet.get("stuck").state).toBe("lost");
    stage.release();
  });
});

/** What the model knows of a microVM. */
interface Expected {
  state: FleetState;
  isDue: boolean;
  restartCount: number;
  readonly policy: "no" | "on-failure" | "always";
  readonly autoRemove: boolean;
}

type Model = Map<string, Expected>;
interface Real {
  fleet: Fleet;
  stage: Stage;
  stateDir: string;
}

const isAlive = ({ state }: Expected) => state === "running" || state === "paused";

function supervisorOf({ fleet }: Real, name: string): PlayedSupervisor {
  return fleet.supervisor(name) as unknown as PlayedSupervisor;
}

/** The fleet and the model are one, and so is what the events tell. */
function expectSame(model: Model, { fleet, stage }: Real): void {
  const view = ({ name, state, restartCount, restartAtMs }: FleetRecord) => ({
    name,
    state,
    restartCount,
    isDue: restartAtMs !== undefined,
  });
  const expected = [...model].map(([name, { state, restartCount, isDue }]) => ({
    name,
    state,
    restartCount,
    isDue,
  }));
  expect(fleet.list({ limit: 1000 }).items.map(view)).toEqual(expected);
  expect(stage.living.size).toBe([...model.values()].filter(isAlive).length);
  const events = fleet.events.since(0) as FleetEvent[];
  expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, index) => index + 1));
  const told = new Map<string, string>();
  for (const event of events) {
    if (event.type === "created") told.set(event.name, "configured");
    if (event.type === "state") told.set(event.name, event.state);
    if (event.type === "lost") told.set(event.name, "lost");
    if (event.type === "deleted") told.delete(event.name);
  }
  expect([...told].sort()).toEqual([...model].map(([name, { state }]) => [name, state]).sort());
}

/** What becomes of a microVM that ended and may be restarted. */
function end(model: Model, name: string, isFailure: boolean): void {
  const microvm = model.get(name) as Expected;
  microvm.state = "stopped";
  microvm.isDue = microvm.policy === "always" || (microvm.policy === "on-failure" && isFailure);
  if (!microvm.isDue && microvm.autoRemove) model.delete(name);
}

/** What becomes of one that its owner ended. */
function endForGood(model: Model, name: string): void {
  const microvm = model.get(name) as Expected;
  const wasOn = isAlive(microvm) || microvm.isDue;
  if (isAlive(microvm)) microvm.state = "stopped";
  microvm.isDue = false;
  if (wasOn && microvm.autoRemove) model.delete(name);
}

function reopen(model: Model, isCrash: boolean): void {
  for (const [name, microvm] of [...model]) {
    const wasOn = isAlive(microvm) || microvm.isDue;
    if (isCrash && isAlive(microvm)) microvm.state = "lost";
    if (wasOn && microvm.policy === "always") {
      microvm.state = "running";
      microvm.restartCount += 1;
      microvm.isDue = false;
    } else if (isCrash) {
      microvm.isDue = false;
      if (wasOn && microvm.autoRemove) model.delete(name);
    } else {
      endForGood(model, name);
    }
  }
}

type Step = (model: Model, real: Real) => Promise<void>;

/** A call that is right exactly when the model says so. */
async function expectCall(isRight: boolean, call: () => Promise<unknown>): Promise<void> {
  const outcome = await call().then(
    () => "right",
    (error) => (isEstaloError(error) ? (error as unknown as { code: string }).code : error),
  );
  if (isRight) expect(outcome).toBe("right");
  else expect(outcome).toMatch(/^ERR_ESTALO_(STATE|NOT_FOUND|NAME_TAKEN)$/);
}

class Command implements fc.AsyncCommand<Model, Real> {
  readonly #label: string;
  readonly #step: Step;

  constructor(label: string, step: Step) {
    this.#label = label;
    this.#step = step;
  }

  check = () => true;
  toString = () => this.#label;

  async run(model: Model, real: Real): Promise<void> {
    await this.#step(model, real);
    await turn();
    await turn();
    expectSame(model, real);
  }
}

const name = fc.constantFrom("a", "b", "c");

const create = fc
  .record({
    name,
    policy: fc.constantFrom("no", "on-failure", "always"),
    autoRemove: fc.boolean(),
    start: fc.boolean(),
  })
  .map(
    ({ name, policy, autoRemove, start }) =>
      new Command(`create ${name} ${policy} ${autoRemove} ${start}`, async (model, { fleet }) => {
        const isFree = !model.has(name);
        const spec = { name, config, restart: { policy }, autoRemove, start } as const;
        await expectCall(isFree, () => fleet.create(spec));
        if (!isFree) return;
        const state = start ? "running" : "configured";
        model.set(name, { state, policy, autoRemove, isDue: false, restartCount: 0 });
      }),
  );

const call = (label: string, step: (name: string, model: Model, real: Real) => Promise<void>) =>
  name.map((name) => new Command(`${label} ${name}`, (...state) => step(name, ...state)));

const commands = [
  create,
  call("start", async (name, model, { fleet }) => {
    const microvm = model.get(name);
    const isRight = microvm !== undefined && !isAlive(microvm);
    await expectCall(isRight, () => fleet.start(name));
    if (isRight) Object.assign(microvm, { state: "running", isDue: false, restartCount: 0 });
  }),
  call("pause", async (name, model, { fleet }) => {
    const microvm = model.get(name);
    const isRight = microvm?.state === "running";
    await expectCall(isRight, () => fleet.pause(name));
    if (isRight) microvm.state = "paused";
  }),
  call("resume", async (name, model, { fleet }) => {
    const microvm = model.get(name);
    const isRight = microvm?.state === "paused";
    await expectCall(isRight, () => fleet.resume(name));
    if (isRight) microvm.state = "running";
  }),
  call("stop", async (name, model, { fleet }) => {
    await expectCall(model.has(name), () => fleet.stop(name, { timeoutMs: 0 }));
    if (model.has(name)) endForGood(model, name);
  }),
  call("kill", async (name, model, { fleet }) => {
    await expectCall(model.has(name), () => fleet.kill(name));
    if (model.has(name)) endForGood(model, name);
  }),
  call("remove", async (name, model, { fleet }) => {
    const microvm = model.get(name);
    const isRight = microvm !== undefined && !isAlive(microvm);
    await expectCall(isRight, () => fleet.remove(name));
    if (isRight) model.delete(name);
  }),
  call("remove by force", async (name, model, { fleet }) => {
    await expectCall(model.has(name), () => fleet.remove(name, { force: true }));
    model.delete(name);
  }),
  call("power off", async (name, model, real) => {
    const microvm = model.get(name);
    if (microvm === undefined || !isAlive(microvm)) return;
    await supervisorOf(real, name).end("poweroff", 0);
    end(model, name, false);
  }),
  call("panic", async (name, model, real) => {
    const microvm = model.get(name);
    if (microvm === undefined || !isAlive(microvm)) return;
    await supervisorOf(real, name).end("panic");
    end(model, name, true);
  }),
  fc.constant(
    new Command("a minute passes", async (model) => {
      await vi.advanceTimersByTimeAsync(60_000);
      for (const microvm of model.values()) {
        if (!microvm.isDue) continue;
        Object.assign(microvm, { state: "running", isDue: false });
        microvm.restartCount += 1;
      }
    }),
  ),
  fc.constant(
    new Command("crash", async (model, real) => {
      const stage = new Stage();
      const dead = real.fleet;
      Object.assign(real, await crash(real.stateDir, stage), { stage });
      await dead.close({ timeoutMs: 0 });
      reopen(model, true);
    }),
  ),
  fc.constant(
    new Command("close", async (model, real) => {
      await real.fleet.close({ timeoutMs: 0 });
      real.fleet = await open(real.stateDir, real.stage);
      reopen(model, false);
    }),
  ),
];

describe("a fleet", () => {
  it("is what a simple model of it says, through every life, crash and close", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    await fc.assert(
      fc.asyncProperty(fc.commands(commands, { size: "+1", maxCommands: 40 }), async (steps) => {
        const stage = new Stage();
        const stateDir = newFolder();
        const real: Real = { fleet: await open(stateDir, stage), stage, stateDir };
        try {
          await fc.asyncModelRun(() => ({ model: new Map() as Model, real }), steps);
        } finally {
          for (const fleet of fleets.splice(0)) await fleet.close({ timeoutMs: 0 });
        }
      }),
      { numRuns: 40 },
    );
  }, 300_000);
});
