/**
 * A jail's control groups of version 2 hold. Here, not beside the other limits, since the testbed runs these
 * specs and has every controller.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import {
  hostTraces,
  inJail,
  isRoot,
  jailOptions,
  makeBase,
  startJail,
  until,
} from "../support/jails.js";
import { canBuildPlant, FORK_BOMB, Plant } from "../support/plant.js";

const PARENT = "estalo-spec-limits2";

const mount = /^\S+ (\S+) cgroup2 /m.exec(readFileSync("/proc/mounts", "utf8"))?.[1];
const controllers =
  mount === undefined
    ? []
    : readFileSync(join(mount, "cgroup.controllers"), "utf8").trim().split(" ");
const has = (name: string) => isRoot && controllers.includes(name);
const missing = ["cpu", "memory", "io", "pids"].filter((name) => !has(name));
if (missing.length > 0) {
  console.warn(
    `spec/guest/jail-limits.spec.ts leaves out what needs root and cgroup2's ${missing}`,
  );
}

/** A jail's options with these settings; its groups are gone in the end. */
function limited(base: string, cgroups: readonly string[]) {
  onTestFinished(() => until(() => hostTraces().cgroups.length === 0, "no control groups left"));
  return jailOptions(base, { cgroups, cgroupVersion: "2", parentCgroup: PARENT });
}

const statOf = (file: string) =>
  Object.fromEntries(
    readFileSync(join(mount as string, PARENT, "one", file), "utf8")
      .trim()
      .split("\n")
      .map((line) => line.split(" "))
      .map(([name, value]) => [name, Number(value)]),
  );

describe("a jail's control group of version 2", () => {
  it.runIf(has("pids") && canBuildPlant)(
    "stops a fork bomb (needs root, cgroup2's pids, cc)",
    async () => {
      const base = makeBase();
      using plant = new Plant();
      plant.into(join(base, "node/one/root"));
      const [made, result] = await inJail<number[]>(FORK_BOMB, limited(base, ["pids.max=40"]));
      expect(result).toBe(-11);
      expect(made).toBeGreaterThan(0);
      expect(made).toBeLessThan(40);
    },
  );

  it.runIf(has("memory"))("ends a memory hog (needs root and cgroup2's memory)", async () => {
    const code = "const all = []; for (;;) all.push(Buffer.alloc(1 << 20, 1))";
    const options = limited(makeBase(), ["memory.max=100663296", "memory.swap.max=0"]);
    const { status, signal } = await startJail(code, options).ended;
    expect([status, signal]).toEqual([null, "SIGKILL"]);
  });

  it.runIf(has("cpu"))("bounds processor time (needs root and cgroup2's cpu)", async () => {
    const options = limited(makeBase(), ["cpu.max=20000 100000"]);
    const jail = startJail("for (;;);", options);
    const file = join(mount as string, PARENT, "one/cpu.stat");
    // Each period it has its 20 ms and then waits: counted, so that no clock decides.
    await until(() => existsSync(file) && statOf("cpu.stat").nr_throttled >= 10, "it is throttled");
    const { usage_usec: usedUs, nr_periods: periods } = statOf("cpu.stat");
    // A slice of the kernel's may be used beyond the quota once.
    expect(usedUs).toBeLessThan((periods + 2) * 25_000);
    jail.child.kill("SIGKILL");
    await jail.ended;
  });

  const disk = "/scratch";
  it.runIf(has("io") && existsSync(disk))(
    "bounds what goes to a disk (needs root, cgroup2's io, the testbed's disk)",
    async () => {
      const base = makeBase(disk);
      const { dev } = statSync(base);
      const device = `${(dev >> 8) & 0xfff}:${(dev & 0xff) | ((dev >> 12) & 0xfff00)}`;
      const code = `const fs = require("node:fs"), start = performance.now();
        const fd = fs.openSync("/run/file", fs.constants.O_CREAT | fs.constants.O_WRONLY);
        for (let i = 0; i < 4; i++) { fs.writeSync(fd, Buffer.alloc(1 << 20)); fs.fsyncSync(fd); }
        console.log(performance.now() - start)`;
      const options = limited(base, [`io.max=${device} wbps=1048576`]);
      // 4 MiB at 1 MiB a second, the first of which may go at once.
      expect(await inJail<number>(code, options)).toBeGreaterThan(2000);
    },
  );

  it.runIf(isRoot && mount !== undefined)(
    "refuses a controller that there is not, and a wrong value, with nothing left (needs root)",
    async () => {
      const base = makeBase();
      expect(() => startJail("1", limited(base, ["nonsense.max=1"]))).toThrow(/unavailable/);
      const { ended } = startJail("1", limited(base, ["cgroup.max.depth=nonsense"]));
      expect(await ended).toMatchObject({
        status: 1,
        stderr: expect.stringMatching(/write nonsense to .*cgroup\.max\.depth: Invalid argument/),
      });
      expect(hostTraces().cgroups).toEqual([]);
      expect(readdirSync(base)).toEqual([]);
    },
  );
});
