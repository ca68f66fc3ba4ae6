/** The launcher: what a program finds in its jail, and what is left of a jail. */
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { makePlan } from "../../src/jail/plan.js";
import { findProgram, packageFolder } from "../../src/jail/program.js";
import {
  hostTraces,
  inJail,
  isRoot,
  JAIL_USER,
  jailOptions,
  makeBase,
  nodeProgram,
  removeJail,
  startJail,
  startPlan,
  until,
  waitUntilEmpty,
} from "../support/jails.js";

const LOOK = `
const fs = require("node:fs"), os = require("node:os");
console.log(JSON.stringify({ pid: process.pid, uid: process.getuid(), gid: process.getgid(),
  groups: process.getgroups(), root: fs.readdirSync("/").sort(), dev: fs.readdirSync("/dev").sort(),
  host: os.hostname(), networks: os.networkInterfaces(), env: process.env, cwd: process.cwd(),
  words: process.argv.slice(1) }))`;

const WAIT = "setInterval(() => {}, 1000)";
const rootOf = (base: string) => join(base, "node/one/root");

describe.runIf(isRoot)("a jail (needs root)", () => {
  it("holds what it needs and nothing else, and is gone afterwards", async () => {
    const base = makeBase();
    const before = hostTraces();
    const seen = await inJail<Record<string, unknown>>(
      LOOK,
      jailOptions(base, { arguments: ["--api-sock", "s"] }),
    );
    expect(seen).toMatchObject({
      uid: JAIL_USER,
      gid: JAIL_USER,
      groups: [JAIL_USER],
      host: "one",
      networks: {},
      env: { LD_LIBRARY_PATH: "/estalo/lib" },
      cwd: "/",
      words: ["--id", "one", "--api-sock", "s"],
    });
    const loader = /^lib/;
    expect((seen.root as string[]).filter((name) => !loader.test(name))).toEqual([
      "dev",
      "estalo",
      "firecracker.pid",
      "node",
      "node.pid",
      "run",
    ]);
    expect(seen.dev).toEqual(expect.arrayContaining(["kvm", "net", "null", "urandom"]));
    await waitUntilEmpty(base);
    expect(hostTraces()).toEqual(before);
  });

  it("gets the descriptors that it is to keep, and no others", async () => {
    const base = makeBase();
    for (const name of ["kept", "other"]) writeFileSync(join(base, name), name);
    const files = ["other", "kept", "other", "kept"].map((name) => openSync(join(base, name), "r"));
    onTestFinished(() => files.forEach((fd) => void closeSync(fd)));
    const code = `const fs = require("node:fs");
      console.log(JSON.stringify([3, 4, 5, 6].map((fd) => {
        try { return fs.fstatSync(fd).ino } catch (error) { return error.code } })))`;
    const plan = makePlan(jailOptions(base, { kept: [6, 4] }), nodeProgram(code));
    const { stdout } = await startPlan(plan, files).ended;
    const seen = JSON.parse(stdout) as unknown[];
    const kept = statSync(join(base, "kept")).ino;
    expect([seen[1], seen[3]]).toEqual([kept, kept]);
    // Node.js may have opened something of its own there.
    expect(seen).not.toContain(statSync(join(base, "other")).ino);
    await waitUntilEmpty(base, ["kept", "other"]);
  });

  it("writes both PID files, and the process is the one that was started", async () => {
    const base = makeBase();
    const { child } = startJail(WAIT, jailOptions(base));
    const file = join(rootOf(base), "node.pid");
    await until(() => existsSync(file) && readFileSync(file, "utf8") !== "", "the PID file");
    expect(readFileSync(file, "utf8")).toBe(`${child.pid}`);
    expect(readFileSync(join(rootOf(base), "firecracker.pid"), "utf8")).toBe(`${child.pid}`);
    await until(() => statusOf(child.pid as number).Name === "node", "the program");
    const status = statusOf(child.pid as number);
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
      expect(status[set], set).toBe("0000000000000000");
    }
    expect(status.NoNewPrivs).toBe("1");
    expect(status.Groups).toBe("");
  });

  it("goes to the background in a process namespace of its own", async () => {
    const base = makeBase();
    const options = jailOptions(base, { isDaemon: true, hasPidNamespace: true, cleans: false });
    const outcome = await startJail(WAIT, options).ended;
    expect(outcome).toMatchObject({ status: 0, stderr: "" });
    const pid = Number(readFileSync(join(rootOf(base), "firecracker.pid"), "utf8"));
    onTestFinished(() => {
      if (existsSync(`/proc/${pid}/root/node.pid`)) process.kill(pid, "SIGKILL");
    });
    expect(statusOf(pid).NSpid.split("\t").at(-1)).toBe("1");
    expect(removeJail(base, "one", false)).toMatchObject({ status: 1 });
    expect(removeJail(base, "one", true)).toMatchObject({ status: 0 });
    expect(existsSync(`/proc/${pid}/root/node.pid`)).toBe(false);
    expect(readdirSync(base)).toEqual([]);
  });

  it("is no place for two at once", async () => {
    const base = makeBase();
    const first = startJail(WAIT, jailOptions(base));
    const file = join(rootOf(base), "node.pid");
    await until(
      () => existsSync(file) && statusOf(first.child.pid as number).Name === "node",
      "it",
    );
    expect(() => startJail(WAIT, jailOptions(base))).toThrowError(
      expect.objectContaining({
        code: "ERR_ESTALO_JAIL",
        message: expect.stringContaining("runs already in"),
      }),
    );
    expect(first.child.exitCode).toBe(null);
    expect(existsSync(file)).toBe(true);
  });

  it("of several that start at once holds one, and what they made goes with it", async () => {
    const base = makeBase();
    const options = jailOptions(base, { cleans: false });
    const code = "setTimeout(() => console.log(1), 300)";
    const plans = [1, 2, 3, 4].map(() => makePlan(options, nodeProgram(code)));
    const ends = await Promise.all(plans.map((plan) => startPlan(plan).ended));
    expect(ends.map(({ stdout }) => stdout).sort()).toEqual(["", "", "", "1\n"]);
    for (const { status, stderr } of ends.filter(({ stdout }) => stdout === "")) {
      expect([status, stderr]).toEqual([1, expect.stringMatching(/runs already in|lock/)]);
    }
    expect(removeJail(base, "one", false).status).toBe(0);
    expect(readdirSync(base)).toEqual([]);
  });

  it("shows what is linked and mounted into it while it lives, and keeps what was there before", async () => {
    const base = makeBase();
    const root = rootOf(base);
    mkdirSync(root, { recursive: true });
    // A client's mount on a host whose mounts are shared, as they are under systemd.
    execFileSync("mount", ["--bind", base, base]);
    onTestFinished(() => void execFileSync("umount", ["-l", base]));
    execFileSync("mount", ["--make-shared", base]);
    writeFileSync(join(base, "kernel"), "kernel");
    writeFileSync(join(base, "disk"), "disk");
    for (const name of ["before", "later"]) writeFileSync(join(root, name), "");
    execFileSync("mount", ["--bind", join(base, "disk"), join(root, "before")]);
    onTestFinished(() => void execFileSync("umount", ["-l", join(root, "before")]));
    const code = `const fs = require("node:fs"), read = (name) => { try {
      return fs.readFileSync(name, "utf8") } catch { return "" } };
      const timer = setInterval(() => { if (read("linked") && read("later")) {
      console.log(JSON.stringify([read("before"), read("linked"), read("later")]));
      clearInterval(timer) } }, 10)`;
    const jail = startJail(code, jailOptions(base));
    await until(() => existsSync(join(root, "node.pid")), "the jail");
    linkSync(join(base, "kernel"), join(root, "linked"));
    execFileSync("mount", ["--bind", join(base, "disk"), join(root, "later")]);
    onTestFinished(() => void execFileSync("umount", ["-l", join(root, "later")]));
    const { stdout, stderr } = await jail.ended;
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual(["disk", "kernel", "disk"]);
    expect(readFileSync(join(base, "disk"), "utf8")).toBe("disk");
  });

  it("keeps limits of files and descriptors", async () => {
    const seen = await inJail<string[]>(
      `const fs = require("node:fs"), seen = [];
      process.on("SIGXFSZ", () => {});
      try { fs.writeFileSync("/big", Buffer.alloc(100000)) } catch (e) { seen.push(e.code) }
      try { for (;;) fs.openSync("/dev/null") } catch (e) { seen.push(e.code) }
      console.log(JSON.stringify([...seen, fs.statSync("/big").size]))`,
      jailOptions(makeBase(), { resourceLimits: ["fsize=50000", "no-file=100"] }),
    );
    expect(seen).toEqual(["EFBIG", "EMFILE", 50_000]);
  });
});

describe.runIf(isRoot)("a way into a jail that fails (needs root)", () => {
  const cases: [string, (root: string, base: string) => void, RegExp][] = [
    [
      "a link where the program goes",
      (root) => symlinkSync("/etc", join(root, "estalo")),
      /ELOOP|symbolic/,
    ],
    ["a link where a device goes", (root) => symlinkSync("/dev", join(root, "dev")), /symbolic/],
    ["a link where /run goes", (root, base) => symlinkSync(base, join(root, "run")), /symbolic/],
    [
      "a file where a device goes",
      (root) => {
        mkdirSync(join(root, "dev"));
        writeFileSync(join(root, "dev/kvm"), "");
      },
      /exists/,
    ],
    [
      "a hard link where a PID file goes",
      (root, base) => linkSync(join(base, "victim"), join(root, "node.pid")),
      /Too many links/,
    ],
  ];
  it.each(cases)("because of %s says so and touches nothing else", async (_, prepare, text) => {
    const base = makeBase();
    const root = rootOf(base);
    writeFileSync(join(base, "victim"), "mine");
    mkdirSync(root, { recursive: true });
    prepare(root, base);
    const before = hostTraces();
    const { status, stderr } = await startJail(LOOK, jailOptions(base)).ended;
    expect(status).toBe(1);
    expect(stderr).toMatch(/^Error: estalo jail: /);
    expect(stderr).toMatch(text);
    expect(readFileSync(join(base, "victim"), "utf8")).toBe("mine");
    expect(statSync(base).uid).toBe(0);
    expect(hostTraces()).toEqual(before);
  });

  it.each([
    ["a program that is none", {}],
    ["a network namespace that is not there", { netns: "/nonsense" }],
    ["a file that is no network namespace", { netns: "/etc/passwd" }],
    ["the same in the background", { isDaemon: true, hasPidNamespace: true }],
  ])("because of %s leaves nothing behind", async (_, more) => {
    const base = makeBase();
    const before = hostTraces();
    const program = nodeProgram("1");
    const plan = makePlan(jailOptions(base, { ...more, cleans: false }), {
      ...program,
      command: ["/nonsense"],
    });
    const { status, stderr } = await startPlan(plan).ended;
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringMatching(/^Error: estalo jail: .+\n$/),
    });
    await waitUntilEmpty(base);
    expect(hostTraces()).toEqual(before);
  });

  it.each([
    ["a setting that no controller has", "a/b/cpu.nonsense", /write 1 to .*nonsense: No such file/],
    ["a value that is refused", "full", /write 1 to .*full: No space left/],
  ])("because of %s takes its control groups away again", async (_, name, text) => {
    const base = makeBase();
    const groups = join(base, "groups");
    mkdirSync(groups);
    symlinkSync("/dev/full", join(groups, "full"));
    const plan = makePlan(jailOptions(base, { cleans: false }));
    const made = ["a", "a/b"].flatMap((folder) => ["cgroup", join(groups, folder)]);
    const words = [...made, "cgroup-setting", join(groups, name), "1", ...plan.words];
    const { status, stderr } = await startPlan({ ...plan, words }).ended;
    expect([status, stderr]).toEqual([1, expect.stringMatching(text)]);
    await waitUntilEmpty(base, ["groups"]);
    expect(readdirSync(groups)).toEqual(["full"]);
  });

  it("because its record would go through a link stops there", async () => {
    const base = makeBase();
    writeFileSync(join(base, "victim"), "mine");
    mkdirSync(join(base, "node/one"), { recursive: true });
    symlinkSync(join(base, "victim"), join(base, "node/one/estalo-jail.json"));
    const { status, stderr } = await startJail(LOOK, jailOptions(base)).ended;
    expect([status, stderr]).toEqual([1, expect.stringMatching(/write the record of .*symbolic/)]);
    expect(readFileSync(join(base, "victim"), "utf8")).toBe("mine");
  });

  it.each(["elsewhere/root", "elsewhere"])(
    "because somebody moves the folder stops there (%s)",
    async (found) => {
      const base = makeBase();
      const plan = makePlan(jailOptions(base));
      mkdirSync(join(base, found), { recursive: true });
      mkdirSync(join(base, "node"));
      symlinkSync(join(base, "elsewhere"), plan.folder);
      const { status, stderr } = await startPlan(plan).ended;
      expect([status, stderr]).toEqual([1, expect.stringContaining("symbolic")]);
      expect(readdirSync(join(base, "elsewhere"), { recursive: true })).toEqual(
        found === "elsewhere" ? [] : ["root"],
      );
    },
  );
});

describe.runIf(isRoot)("bin/jailer (needs root)", () => {
  const bin = (name: string) => new URL(`../../bin/${name}`, import.meta.url).pathname;

  it("becomes firecracker, with the caller's standard streams", async () => {
    const base = makeBase();
    const words = ["--id", "one", "--exec-file", bin("firecracker"), "--uid", `${JAIL_USER}`];
    const more = ["--gid", `${JAIL_USER}`, "--chroot-base-dir", base, "--clean", "--", "--version"];
    const text = execFileSync(process.execPath, [bin("jailer"), ...words, ...more], {
      encoding: "utf8",
    });
    expect(text).toMatch(/^Firecracker v\d+\.\d+\.\d+\n/);
    await waitUntilEmpty(base);
  });

  it("says what is wrong with its command line", () => {
    const run = () =>
      execFileSync(process.execPath, [bin("jailer"), "--id", "a"], { stdio: "pipe" });
    expect(run).toThrowError(/Argument 'exec-file' required, but not found/);
  });
});

describe.runIf(isRoot)("a jail without root (the spec needs root to become nobody)", () => {
  const NOBODY = 65_534;

  it("has what its user may use, says what not, and leaves nothing", async () => {
    const base = makeBase();
    const home = join(base, "package");
    for (const name of ["bin", "dist", "package.json"]) {
      cpSync(join(packageFolder(), name), join(home, name), { recursive: true });
    }
    const server = findProgram(process.execPath).binds.at(-1)?.source as string;
    cpSync(server, join(home, "node_modules/uWebSockets.js"), { recursive: true });
    const jails = join(base, "jails");
    mkdirSync(jails);
    chownSync(jails, NOBODY, NOBODY);
    chmodSync(base, 0o755);
    const words = ["jail", "--id", "one", "--exec-file", join(home, "bin/firecracker")];
    const user = ["--uid", `${NOBODY}`, "--gid", `${NOBODY}`, "--chroot-base-dir", jails];
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [
        join(home, "bin/estalo.js"),
        ...words,
        ...user,
        "--new-pid-ns",
        "--clean",
        "--",
        "--version",
      ],
      { uid: NOBODY, gid: NOBODY, encoding: "utf8" },
    );
    // A host may forbid namespaces to users: that is said, and nothing stays either.
    if (status === 0) expect(stdout).toMatch(/^Firecracker v/);
    else expect(stderr).toMatch(/Error: estalo jail: unshare user namespace/);
    await waitUntilEmpty(jails);
  });
});

describe.runIf(isRoot)("taking a jail away (needs root)", () => {
  it("follows no link out of it", async () => {
    const base = makeBase();
    const outside = join(base, "outside");
    mkdirSync(outside);
    writeFileSync(join(outside, "file"), "mine");
    await inJail(
      `require("node:fs").symlinkSync(${JSON.stringify(outside)}, "/run/link");
      require("node:fs").mkdirSync("/run/a/b/c", { recursive: true }); console.log(1)`,
      jailOptions(base, { cleans: false }),
    );
    expect(removeJail(base, "one", false).status).toBe(0);
    expect(existsSync(join(base, "node"))).toBe(false);
    expect(readFileSync(join(outside, "file"), "utf8")).toBe("mine");
  });
});

function statusOf(pid: number): Record<string, string> {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  return Object.fromEntries(
    text.split("\n").map((line) => {
      const [name, value] = line.split(/:\s*/);
      return [name, (value ?? "").trim()];
    }),
  );
}
