/**
 * Code planted in a jailed process, which may make any system call, tries to get out: once past the seccomp
 * filters (as if there were none), and once under those of `estalo vmm`.
 */
import { chmodSync, closeSync, existsSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { makePlan } from "../../src/jail/plan.js";
import { syscallNumber } from "../../src/jail/seccomp/syscalls.js";
import {
  ATTEMPTS,
  errnoName,
  FORBIDDEN,
  helpers,
  type Outside,
  outsideOf,
  tryAll,
  unexpected,
} from "../support/escapes.js";
import {
  inJail,
  isRoot,
  jailOptions,
  makeBase,
  nodeProgram,
  startJail,
  startPlan,
  until,
} from "../support/jails.js";
import { canBuildPlant, Plant } from "../support/plant.js";

let plant: Plant | undefined;
beforeAll(() => {
  if (isRoot && canBuildPlant) plant = new Plant();
});
afterAll(() => plant?.[Symbol.dispose]());

const planted = (outside: Outside) => helpers(outside, "/node", "/estalo/dist/vmm.js");

/** A base folder with a jail that has the same user, and the plant in the root of another. */
async function setUp(): Promise<{ base: string; outside: Outside }> {
  const base = makeBase();
  const neighbour = startJail("setInterval(() => {}, 1000)", jailOptions(base, { id: "two" }));
  await until(() => existsSync(join(base, "node/two/root/node.pid")), "the neighbour");
  plant?.into(join(base, "node/one/root"));
  const jailPid = neighbour.child.pid as number;
  await until(() => readFileSync(`/proc/${jailPid}/comm`, "utf8") === "node\n", "the neighbour");
  return { base, outside: await outsideOf(jailPid, plant as Plant) };
}

describe.runIf(isRoot && canBuildPlant)("code in a jail (needs root and a C compiler)", () => {
  it("past the seccomp filters cannot get out", async () => {
    const { base, outside } = await setUp();
    const code = `${planted(outside)}
      console.log(JSON.stringify(${tryAll(ATTEMPTS)}));`;
    const results = await inJail<number[]>(code, jailOptions(base));
    expect(unexpected(ATTEMPTS, results)).toEqual([]);
    expect(results).toHaveLength(ATTEMPTS.length);
  });

  it("cannot write by a descriptor that it got for reading, nor open its file anew", async () => {
    const { base } = await setUp();
    const disk = join(base, "disk");
    writeFileSync(disk, "mine");
    // The jail's user may write it, if only it could be named.
    chmodSync(disk, 0o666);
    const fd = openSync(disk, "r");
    onTestFinished(() => closeSync(fd));
    const code = `const { call } = require("/plant.node");
      const s = (text) => Buffer.from(text + "\\0");
      const numbers = ${JSON.stringify(["pwrite64", "ftruncate", "openat", "linkat"].map(syscallNumber))};
      const [pwrite64, ftruncate, openat, linkat] = numbers;
      console.log(JSON.stringify([
        call(pwrite64, 3, s("theirs"), 6, 0), call(ftruncate, 3, 0),
        call(openat, -100, s("/proc/self/fd/3"), 2), call(openat, -100, s("/dev/fd/3"), 2),
        call(openat, 3, s(""), 2), call(linkat, 3, s(""), -100, s("/run/disk"), 0x1000),
      ]))`;
    const plan = makePlan(jailOptions(base, { kept: [3] }), nodeProgram(code));
    const { stdout, stderr } = await startPlan(plan, [fd]).ended;
    expect(stderr.replace(/^estalo jail: without .*\n/gm, "")).toBe("");
    const errnos = (JSON.parse(stdout) as number[]).map(errnoName);
    expect(errnos.slice(0, 5)).toEqual(["EBADF", "EINVAL", "ENOENT", "ENOENT", "ENOENT"]);
    expect(["ENOENT", "EXDEV", "EPERM"]).toContain(errnos[5]);
    expect(readFileSync(disk, "utf8")).toBe("mine");
  });

  it("in a process namespace of its own does not even see the others", async () => {
    const { base, outside } = await setUp();
    const code = `${planted(outside)}
      console.log(JSON.stringify([process.pid, call(n.kill, outside.jailPid, 0), call(n.kill, -1, 0)]))`;
    const options = jailOptions(base, { hasPidNamespace: true, isDaemon: false });
    const { stdout } = await startJail(code, options).ended;
    const [pid, neighbour, everybody] = JSON.parse(stdout) as number[];
    expect([pid, errnoName(neighbour), errnoName(everybody)]).toEqual([1, "ESRCH", "ESRCH"]);
  });

  it.each(FORBIDDEN)("under the filters dies when it tries to %s", async (_, attempt, name) => {
    const { base, outside } = await setUp();
    const code = `${planted(outside)}
      import("/estalo/dist/vmm.js").then(({ vmm }) => vmm(["--api-sock", "/run/api.sock"]));
      setInterval(() => fs.existsSync("/run/api.sock") && ${attempt}, 10)`;
    const { status, stderr } = await startJail(code, jailOptions(base)).ended;
    expect(stderr).toContain(`, ${name}, in thread node)`);
    expect(status).toBe(148);
  });
});
