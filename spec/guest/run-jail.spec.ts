/**
 * `estalo run --jail` as a user meets it: everything as without, from a process that has nothing but descriptors.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it, onTestFinished } from "vitest";
import { execute } from "../support/guest-child.js";
import { isRoot, until } from "../support/jails.js";
import { print, Scratch, SPIN, TINY_GUESTS } from "../support/tiny-guest.js";

const COMMAND = fileURLToPath(new URL("../../bin/estalo.js", import.meta.url));
const JAILS = "/srv/jailer/estalo.js";
const ip = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].find((path) => existsSync(path));

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const hello = scratch.guest("hello", print("hello\n", TINY_GUESTS.poweroff));
const waiting = scratch.guest("waiting", print("waiting\n", SPIN));

const estalo = (words: readonly string[], doing?: Parameters<typeof execute>[2]) =>
  execute(process.execPath, [COMMAND, ...words], doing);

const jails = () => (existsSync(JAILS) ? readdirSync(JAILS) : []);

/** Runs; afterwards no jail is left that was not there before. */
async function jailed(words: readonly string[], doing?: Parameters<typeof execute>[2]) {
  const before = jails();
  const outcome = await estalo(["run", "--jail", ...words], doing);
  await until(() => jails().every((name) => before.includes(name)), "the jail is gone");
  return { ...outcome, stderr: withoutWarnings(outcome.stderr) };
}

/** What the host has not, which is said. */
function withoutWarnings(text: string): string {
  return text.replace(/^estalo jail: without .*\n/gm, "");
}

describe.runIf(isRoot)("estalo run --jail (needs root)", () => {
  it("writes what the guest does to standard output and nothing else", async () => {
    const outcome = await jailed(["--kernel", hello]);
    expect(outcome).toEqual({ status: 0, stdout: "hello\n", stderr: "" });
  });

  it.each([
    ["panic", 121, "the guest's kernel panicked"],
    ["tripleFault", 122, "the guest met a triple fault"],
  ] as const)("ends a guest that does %s with status %i", async (guest, status, message) => {
    const outcome = await jailed(["--kernel", scratch.guest(guest, TINY_GUESTS[guest])]);
    expect(outcome).toMatchObject({ status, stderr: expect.stringContaining(message) });
  });

  it("ends by --timeout, and says where the time went with the jail's share", async () => {
    const outcome = await jailed(["--timeout", "1", "--timings", "--kernel", waiting]);
    expect(outcome.status).toBe(124);
    expect(outcome.stderr).toMatch(/^estalo: jail [0-9.]+ m?s, process /m);
  });

  it("is the process that was started, confined, with descriptors and nothing else", async () => {
    let status = "";
    let root: string[] = [];
    let links: string[] = [];
    let pid = 0;
    const drive = scratch.file("disk", "");
    writeFileSync(drive, Buffer.alloc(4096));
    // Its owner alone may open it: the jail's user is another.
    chmodSync(drive, 0o600);
    const outcome = await jailed(["--kernel", waiting, "--drive", drive], {
      when: [
        "waiting",
        (child) => {
          pid = child.pid as number;
          status = readFileSync(`/proc/${pid}/status`, "utf8");
          root = readdirSync(`/proc/${pid}/root`);
          links = execFileSync("ls", ["-l", `/proc/${pid}/fd`], { encoding: "utf8" }).split("\n");
          child.kill("SIGHUP");
        },
      ],
    });
    expect(outcome.status).toBe(129);
    expect(status).toMatch(/^Name:\testalo\.js$/m);
    expect(status).toMatch(new RegExp(`^Uid:\t${0x7000_0000 + pid}\t`, "m"));
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
      expect(status).toMatch(new RegExp(`^${set}:\t0000000000000000$`, "m"));
    }
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    expect(root).not.toContain("etc");
    expect(links.filter((line) => line.endsWith(`-> ${drive}`))).toHaveLength(1);
  });

  it("opens files as without a jail: bad ones are told in the same words, and nothing is made", async () => {
    const missing = join(scratch.path, "missing");
    for (const words of [
      ["--kernel", missing],
      ["--kernel", hello, "--drive", missing],
      ["--kernel", hello, "--net", "tap=nonsense0"],
      ["--kernel", hello, "--vcpus", "99"],
    ]) {
      const plain = await estalo(["run", ...words]);
      expect(plain.status).toBe(125);
      expect(await jailed(words)).toEqual(plain);
    }
  });

  it("writes JSON Lines", async () => {
    const { stdout, status } = await jailed(["--json", "--kernel", hello]);
    const types = stdout
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { type: string }).type);
    expect([status, types.at(-1)]).toEqual([0, "exited"]);
    expect(types).toContain("console");
  });

  it("refuses a vsock device, whose socket nobody could reach", async () => {
    const file = join(scratch.path, "vsock.json");
    const config = {
      "boot-source": { kernel_image_path: hello },
      drives: [],
      vsock: { guest_cid: 3, uds_path: join(scratch.path, "v.sock") },
    };
    writeFileSync(file, JSON.stringify(config));
    const outcome = await jailed(["--config-file", file]);
    expect(outcome).toMatchObject({ status: 125, stdout: "" });
    expect(outcome.stderr).toContain("vsock");
  });

  it.runIf(ip)("has a tap on a bridge, which goes with the process (needs ip)", async () => {
    const name = `estalo-rb-${process.pid}`;
    execFileSync("ip", ["netns", "add", name]);
    onTestFinished(() => void execFileSync("ip", ["netns", "del", name]));
    const inside = ["netns", "exec", name, process.execPath, COMMAND];
    execFileSync("ip", [...inside, "net", "up", "--name", "rb0"], { stdio: "pipe" });
    const taps = () =>
      execFileSync("ip", ["-n", name, "-br", "link", "show", "master", "rb0"], {
        encoding: "utf8",
      });
    const words = ["run", "--jail", "--kernel", waiting, "--net", "bridge=rb0"];
    for (const signal of ["SIGHUP", "SIGKILL"] as const) {
      let during = "";
      await execute("ip", [...inside, ...words], {
        when: [
          "waiting",
          (child) => {
            during = taps();
            child.kill(signal);
          },
        ],
      });
      expect(during).toMatch(/^rb0\.\d+\s+UP/);
      await until(() => taps() === "", "the tap is gone");
    }
    const missing = [...words.slice(0, 3), join(scratch.path, "missing"), ...words.slice(4)];
    expect((await execute("ip", [...inside, ...missing])).status).toBe(125);
    expect(taps()).toBe("");
  });

  it.runIf(ip)("has the caller's tap, opened before (needs ip)", async () => {
    const name = `estalo-rj-${process.pid}`;
    execFileSync("ip", ["netns", "add", name]);
    onTestFinished(() => void execFileSync("ip", ["netns", "del", name]));
    execFileSync("ip", ["-n", name, "tuntap", "add", "tap0", "mode", "tap", "vnet_hdr"]);
    let networks = "";
    const words = ["netns", "exec", name, process.execPath, COMMAND, "run", "--jail"];
    const outcome = await execute("ip", [...words, "--kernel", waiting, "--net", "tap=tap0"], {
      when: [
        "waiting",
        (child) => {
          networks = readFileSync(`/proc/${child.pid}/net/dev`, "utf8");
          child.kill("SIGHUP");
        },
      ],
    });
    expect(outcome.status).toBe(129);
    expect(networks).toContain("lo:");
    expect(networks).not.toContain("tap0");
  });
});
