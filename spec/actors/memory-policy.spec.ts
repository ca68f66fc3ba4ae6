/**
 * The policy with played pressure and played balloons, on a clock of its own: what is asked of whom, and when.
 */
import { Subject } from "rxjs";
import { afterEach, describe, expect, it } from "vitest";
import type { BalloonAmounts } from "../../src/actors/balloon-family.js";
import {
  type BalloonMember,
  type BalloonStep,
  balloonsOf,
  checkMemoryPolicy,
  type MemoryPolicyOptions,
  memoryPolicy,
} from "../../src/actors/memory-policy.js";
import type { MemoryPressure } from "../../src/actors/memory-pressure.js";

/** A guest that gives what it is asked for at once, unless it is deaf. */
class PlayedBalloon implements BalloonMember {
  state = "running";
  isDeaf = false;
  amounts: BalloonAmounts;

  constructor(
    readonly id: string,
    memoryMib: number,
    availableMib?: number,
  ) {
    this.amounts = { memoryMib, targetMib: 0, actualMib: 0, availableMib };
  }

  get balloon() {
    return {
      amounts: this.amounts,
      setTarget: (targetMib: number) => {
        const { actualMib, availableMib } = this.amounts;
        const given = this.isDeaf ? actualMib : targetMib;
        this.amounts = {
          ...this.amounts,
          targetMib,
          actualMib: given,
          availableMib: availableMib && availableMib - (given - actualMib),
        };
      },
    };
  }
}

/** A policy over these balloons, whose host is looked at once a second of its own time. */
function policyOver(members: BalloonMember[], options: MemoryPolicyOptions = {}) {
  const source = new Subject<MemoryPressure>();
  const steps: BalloonStep[] = [];
  const watching = source
    .pipe(memoryPolicy(() => members, options))
    .subscribe((step) => steps.push(step));
  watchings.push(watching);
  let atMs = 0;
  return {
    steps,
    watching,
    source,
    /** Time goes by at this pressure, a look at the end of each `everyMs`. */
    pass(seconds: number, somePercent: number, everyMs = 1000) {
      for (let left = seconds * 1000; left > 0; left -= everyMs) {
        atMs += everyMs;
        source.next({ atMs, somePercent, fullPercent: 0 });
      }
    },
  };
}

const watchings: { unsubscribe(): void }[] = [];
afterEach(() => {
  for (const watching of watchings.splice(0)) watching.unsubscribe();
});

describe("memoryPolicy", () => {
  it("takes memory from every guest at its rate while the host waits for memory, down to the bound", () => {
    const [large, small] = [new PlayedBalloon("large", 1024), new PlayedBalloon("small", 200)];
    const { pass, steps } = policyOver([large, small], { rateMibPerS: 50, minMib: 150 });
    pass(1, 0);
    pass(2, 30);
    expect([large.amounts.targetMib, small.amounts.targetMib]).toEqual([100, 50]);
    pass(60, 30);
    expect([large.amounts.targetMib, small.amounts.targetMib]).toEqual([1024 - 150, 50]);
    expect(steps[0]).toMatchObject({ id: "large", direction: "inflate", fromMib: 0, toMib: 50 });
    expect(steps[0].pressure.somePercent).toBe(30);
    expect(steps.filter(({ id }) => id === "small")).toHaveLength(1);
  });

  it("leaves each guest half of its memory when nothing else is said", () => {
    const member = new PlayedBalloon("a", 301);
    policyOver([member]).pass(60, 100);
    expect(member.amounts.targetMib).toBe(150);
  });

  it("gives it back when it has been calm for a while, and not in between", () => {
    const member = new PlayedBalloon("a", 1000);
    const { pass, steps } = policyOver([member], { rateMibPerS: 100, calmMs: 5000 });
    pass(1, 0);
    pass(3, 50);
    expect(member.amounts.targetMib).toBe(300);
    // Neither high nor low, or low for less than that.
    pass(30, 5);
    pass(4, 0.5);
    pass(1, 5);
    pass(5, 0.5);
    expect(member.amounts.targetMib).toBe(300);
    pass(2, 0.5);
    expect(member.amounts.targetMib).toBeLessThan(300);
    pass(10, 0);
    expect(member.amounts.targetMib).toBe(0);
    expect(steps.map(({ direction }) => direction).join(" ")).toMatch(
      /^(inflate ){3}(deflate ?)+$/,
    );
  });

  it("goes back to what the owner had set, also when that changes meanwhile", () => {
    const member = new PlayedBalloon("a", 1000);
    member.balloon.setTarget(40);
    const { pass } = policyOver([member], { rateMibPerS: 100, calmMs: 0 });
    pass(3, 50);
    expect(member.amounts.targetMib).toBe(240);
    pass(20, 0);
    expect(member.amounts.targetMib).toBe(40);
    member.balloon.setTarget(90);
    pass(2, 50);
    expect(member.amounts.targetMib).toBe(290);
    pass(20, 0);
    expect(member.amounts.targetMib).toBe(90);
  });

  it("goes back to what the owner had set after a pause", () => {
    const member = new PlayedBalloon("a", 1000);
    member.balloon.setTarget(40);
    const { pass, steps } = policyOver([member], { rateMibPerS: 100, calmMs: 0 });
    pass(3, 50);
    member.state = "paused";
    const before = steps.length;
    pass(5, 50);
    expect(steps.length).toBe(before);
    member.state = "running";
    pass(20, 0);
    expect(member.amounts.targetMib).toBe(40);
  });

  it("keeps to its rate however often or seldom it looks", () => {
    const [often, seldom] = [new PlayedBalloon("often", 8000), new PlayedBalloon("seldom", 8000)];
    const one = policyOver([often], { rateMibPerS: 3 });
    one.pass(60, 50, 100);
    const other = policyOver([seldom], { rateMibPerS: 3 });
    other.pass(60, 50, 5000);
    for (const { amounts } of [often, seldom]) {
      expect(amounts.targetMib).toBeGreaterThan(150);
      expect(amounts.targetMib).toBeLessThanOrEqual(180);
    }
  });

  it("does not save its rate up while nothing is to be done", () => {
    const member = new PlayedBalloon("a", 8000);
    const { pass } = policyOver([member], { rateMibPerS: 10 });
    pass(100, 0);
    pass(1, 50);
    expect(member.amounts.targetMib).toBe(10);
  });

  it("asks no more of a guest that does not give, and leaves it what it needs", () => {
    const [deaf, busy] = [new PlayedBalloon("deaf", 1000), new PlayedBalloon("busy", 1000, 100)];
    deaf.isDeaf = true;
    const { pass } = policyOver([deaf, busy], { rateMibPerS: 50, spareMib: 30 });
    pass(60, 50);
    expect(deaf.amounts.targetMib).toBe(50);
    expect(busy.amounts).toMatchObject({ targetMib: 70, availableMib: 30 });
  });

  it("leaves those alone that do not run, and takes up what comes", () => {
    const paused = new PlayedBalloon("paused", 1000);
    const members = [paused];
    paused.state = "paused";
    const { pass, steps } = policyOver(members);
    pass(10, 50);
    expect(steps).toEqual([]);
    members.push(new PlayedBalloon("new", 1000));
    pass(10, 50);
    expect(new Set(steps.map(({ id }) => id))).toEqual(new Set(["new"]));
  });

  it("changes nothing once nobody watches it, and passes the source's failure on", () => {
    const member = new PlayedBalloon("a", 1000);
    const ended = policyOver([member]);
    ended.watching.unsubscribe();
    ended.pass(10, 50);
    expect(member.amounts.targetMib).toBe(0);
    const failing = new Subject<MemoryPressure>();
    let seen: unknown;
    failing.pipe(memoryPolicy(() => [])).subscribe({
      error: (error) => {
        seen = error;
      },
    });
    failing.error("no pressure");
    expect(seen).toBe("no pressure");
  });

  it.each([
    [{ inflatePercent: 101 }, "inflatePercent"],
    [{ inflatePercent: Number.NaN }, "inflatePercent"],
    [{ deflatePercent: 10 }, "deflatePercent"],
    [{ minMib: -1 }, "minMib"],
    [{ rateMibPerS: 0 }, "rateMibPerS"],
    [{ calmMs: 0.5 }, "calmMs"],
    [{ speed: 1 } as never, "speed"],
  ])("refuses %j", (options, field) => {
    expect(() => checkMemoryPolicy(options)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CONFIG_INVALID",
        data: expect.objectContaining({ field: `memoryPolicy.${field}` }),
      }),
    );
  });
});

describe("balloonsOf", () => {
  it("goes through all pages of a fleet, and leaves out what has no balloon", () => {
    const pages = [["a", "b"], ["c"], []];
    const balloon = new PlayedBalloon("", 100).balloon;
    const fleet = {
      list: ({ after }: { after?: string }) => {
        const page = after === undefined ? 0 : Number(after);
        const next = page + 1 < pages.length ? String(page + 1) : undefined;
        return { items: pages[page].map((id) => ({ id })), next };
      },
      supervisor: (id: string) =>
        id === "b" ? { state: "running", devices: {} } : { state: "running", devices: { balloon } },
    };
    const members = [...balloonsOf(fleet as never)];
    expect(members.map(({ id }) => id)).toEqual(["a", "c"]);
  });

  it("names those that are paused as well, whose own targets are to be remembered", () => {
    const states = { a: "running", b: "paused", c: "stopped" } as Record<string, string>;
    const { balloon } = new PlayedBalloon("", 100);
    const fleet = {
      list: (query: { states: string[] }) => ({
        items: Object.keys(states)
          .filter((id) => query.states.includes(states[id]))
          .map((id) => ({ id })),
      }),
      supervisor: (id: string) => ({ state: states[id], devices: { balloon } }),
    };
    const members = [...balloonsOf(fleet as never)];
    expect(members.map(({ id, state }) => [id, state])).toEqual([
      ["a", "running"],
      ["b", "paused"],
    ]);
  });
});
