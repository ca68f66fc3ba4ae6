/** Limits of a jail hold: a fork bomb, a memory hog and a full disk harm nobody else. */
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { isDeepStrictEqual } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { launcherFile } from "../../src/jail/launch.js";
import { makePlan } from "../../src/jail/plan.js";
import {
  hostTraces,
  inJail,
  isRoot,
  jailOptions,
  makeBase,
  nodeProgram,
  removeJail,
  startJail,
  startPlan,
  until,
  waitUntilEmpty,
} from "../support/jails.js";
import { canBuildPlant, FORK_BOMB, Plant } from "../support/plant.js";

const hierarchies = readFileSync("/proc/mounts", "utf8");
const hasV1 =
  / cgroup [^\n]*\bpids\b/.test(hierarchies) && / cgroup [^\n]*\bmemory\b/.test(hierarchies);
const hasV2 = hierarchies.includes(" cgroup2 ");
const PARENT = "estalo-spec-limits";

/** Removes the parent group, which is empty by then. */
function forgetParent(): void {
  onTestFinished(async () => {
    await until(() => hostTraces().cgroups.length === 0, "no control groups left");
  });
}

describe.runIf(isRoot && hasV1)("a jail's control groups (need root and cgroup version 1)", () => {
  it.runIf(canBuildPlant)(
    "stop a fork bomb, and end what it made (needs a C compiler)",
    async () => {
      const base = makeBase();
      forgetParent();
      using plant = new Plant();
      plant.into(join(base, "node/one/root"));
      const options = { cgroups: ["pids.max=40"], parentCgroup: PARENT };
      const [made, result] = await inJail<number[]>(FORK_BOMB, jailOptions(base, options));
      expect(result).toBe(-11);
      expect(made).toBeGreaterThan(0);
      expect(made).toBeLessThan(40);
    },
  );

  it("are not touched by a start that comes too late", async () => {
    const base = makeBase();
    forgetParent();
    const more = { parentCgroup: PARENT, cleans: false };
    const waiting = "setInterval(() => {}, 1000)";
    const first = startJail(waiting, jailOptions(base, { ...more, cgroups: ["pids.max=40"] }));
    const file = join(base, "node/one/root/node.pid");
    await until(() => existsSync(file) && readFileSync(file, "utf8") !== "", "the first");
    const late = jailOptions(base, { ...more, cgroups: ["pids.max=30", "memory.swappiness=0"] });
    expect(() => startJail(waiting, late)).toThrow(/runs already in/);
    const [group] = hostTraces().cgroups;
    expect(readFileSync(join(group, "one/pids.max"), "utf8")).toBe("40\n");
    expect(hostTraces().cgroups).toEqual([group]);
    first.child.kill("SIGKILL");
    await first.ended;
    expect(removeJail(base, "one", false)).toMatchObject({ status: 0, stderr: "" });
  });

  it("with a shared parent go one by one, and the parent with the last", async () => {
    const base = makeBase();
    const more = { cgroups: ["pids.max=40"], parentCgroup: PARENT, sharesParentCgroup: true };
    const waiting = "console.log(1); setInterval(() => {}, 1000)";
    const jails = [];
    for (const id of ["one", "two"]) {
      const jail = startJail(waiting, jailOptions(base, { ...more, id }));
      await once(jail.child.stdout as Readable, "data");
      jails.push(jail);
    }
    const [parent] = hostTraces().cgroups;
    for (const [{ child }, left] of [
      [jails[0], ["two"]],
      [jails[1], undefined],
    ] as const) {
      child.kill("SIGKILL");
      await until(() => isDeepStrictEqual(foldersOf(parent), left), `${left ?? "nothing"} is left`);
    }
  });

  it.each([
    ["", {}],
    [" in the background", { isDaemon: true, hasPidNamespace: true }],
  ])("go when the way in fails%s after they were joined", async (_, more) => {
    const base = makeBase();
    const groups = { cgroups: ["pids.max=40"], parentCgroup: PARENT, cleans: false };
    const options = jailOptions(base, { ...groups, ...more });
    const plan = makePlan(options, { ...nodeProgram("1"), command: ["/nonsense"] });
    const { status, stderr } = await startPlan(plan).ended;
    expect([status, stderr]).toEqual([1, expect.stringMatching(/exec .*nonsense/)]);
    await waitUntilEmpty(base);
    const isLeft = () => hostTraces().cgroups.some((group) => group.endsWith(PARENT));
    await until(() => !isLeft(), "no control groups left");
  });

  it("end a memory hog, and nothing else", async () => {
    const base = makeBase();
    forgetParent();
    const code = "const all = []; for (;;) all.push(Buffer.alloc(1 << 20, 1))";
    const limit = "memory.limit_in_bytes=100663296";
    const jail = startJail(code, jailOptions(base, { cgroups: [limit], parentCgroup: PARENT }));
    const { status, signal } = await jail.ended;
    expect([status, signal]).toEqual([null, "SIGKILL"]);
  });
});

describe.runIf(isRoot && hasV2)("a jail's parent group (needs root and cgroup version 2)", () => {
  it("is joined when there is nothing to set", async () => {
    const base = makeBase();
    const mount = /^\S+ (\S+) cgroup2 /m.exec(hierarchies)?.[1] as string;
    const parent = join(mount, PARENT);
    mkdirSync(parent);
    onTestFinished(() => until(() => remove(parent), "the parent is empty"));
    const options = jailOptions(base, { cgroupVersion: "2", parentCgroup: PARENT });
    const { child } = startJail("setInterval(() => {}, 1000)", options);
    const procs = () => readFileSync(join(parent, "cgroup.procs"), "utf8").trim();
    await until(() => procs() === `${child.pid}`, "it is in the group");
    child.kill("SIGKILL");
  });
});

describe.runIf(isRoot)("a user's limit of processes (needs root to become that user)", () => {
  it("leaves nothing behind when it forbids the caretaker", async () => {
    const base = makeBase();
    // Nobody else's processes count.
    const user = 31_418;
    const file = join(base, "launcher");
    cpSync(launcherFile(), file);
    const jails = join(base, "jails");
    mkdirSync(jails);
    chownSync(jails, user, user);
    chmodSync(base, 0o755);
    const { words } = makePlan(jailOptions(jails));
    // The launcher is one process, and forks twice.
    const { status, stderr } = spawnSync("prlimit", ["--nproc=2", file, "start", ...words], {
      uid: user,
      gid: user,
      encoding: "utf8",
    });
    expect([status, stderr]).toEqual([1, expect.stringMatching(/fork caretaker: Resource/)]);
    expect(readdirSync(jails)).toEqual([]);
  });
});

describe.runIf(isRoot)("a jail's disk (needs root)", () => {
  it("may be full without harm", async () => {
    const base = makeBase();
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "estalo-jails", base]);
    onTestFinished(() => void execFileSync("umount", ["-l", base]));
    const code = `const fs = require("node:fs"); let error;
      try { for (let i = 0; ; i++) fs.writeFileSync("/run/" + i, Buffer.alloc(65536)) }
      catch (e) { error = e.code } console.log(JSON.stringify(error))`;
    const options = jailOptions(base, { cleans: false });
    expect(await inJail<string>(code, options)).toBe("ENOSPC");
    // Another start finds no room either, says so, and the first can be taken away.
    const second = await inJail<string>(code, options).catch((error: Error) => error.message);
    expect(second).toMatch(/ENOSPC|No space left/);
  });
});

/** Undefined when it is gone. */
function foldersOf(group: string): string[] | undefined {
  if (!existsSync(group)) return undefined;
  const entries = readdirSync(group, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

function remove(folder: string): boolean {
  try {
    execFileSync("rmdir", [folder], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
