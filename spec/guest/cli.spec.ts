/**
 * The built command as a user meets it: `node bin/estalo.js …` as a child process, with guests of a few
 * instructions where those will do, and with the default guest for all that its init has a part in.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { type Doing, execute } from "../support/guest-child.js";
import { reasonToSkip } from "../support/guest-host.js";
import { isRoot } from "../support/jails.js";
import { print, Scratch, SPIN, TINY_GUESTS } from "../support/tiny-guest.js";

const COMMAND = fileURLToPath(new URL("../../bin/estalo.js", import.meta.url));
const IMAGES = fileURLToPath(new URL("../../guest/images/manifest.json", import.meta.url));

const reason = reasonToSkip("spec/guest/cli.spec.ts");

const estalo = (words: readonly string[], doing?: Doing) =>
  execute(process.execPath, [COMMAND, ...words], doing);

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

/** A folder of its own for what a command may leave behind. */
function emptyFolder(name: string): string {
  const path = join(scratch.path, name);
  mkdirSync(path);
  return path;
}

const hello = scratch.guest("hello", print("hello\n", TINY_GUESTS.poweroff));
const waiting = scratch.guest("waiting", print("waiting\n", SPIN));

describe.skipIf(reason !== undefined)("estalo run with a kernel of the user's", () => {
  it("writes the guest's console to standard output and nothing else", async () => {
    expect(await estalo(["run", "--kernel", hello])).toEqual({
      status: 0,
      stdout: "hello\n",
      stderr: "",
    });
  });

  it("ends with standard input still open", async () => {
    const outcome = await estalo(["run", "--kernel", hello], { keepsInput: true });
    expect(outcome).toMatchObject({ status: 0, stderr: "" });
  });

  it.each([
    ["reboot", 0, ""],
    ["panic", 121, "the guest's kernel panicked"],
    ["tripleFault", 122, "the guest met a triple fault"],
  ] as const)("ends a guest that does %s with status %i", async (guest, status, message) => {
    const outcome = await estalo(["run", "--kernel", scratch.guest(guest, TINY_GUESTS[guest])]);
    expect(outcome).toMatchObject({ status, stderr: expect.stringContaining(message) });
  });

  it("takes Firecracker's configuration file", async () => {
    const file = join(scratch.path, "vm.json");
    writeFileSync(
      file,
      JSON.stringify({
        "boot-source": { kernel_image_path: hello, boot_args: "" },
        drives: [],
        "machine-config": { vcpu_count: 1, mem_size_mib: 64 },
      }),
    );
    expect(await estalo(["run", "--config-file", file])).toMatchObject({
      status: 0,
      stdout: "hello\n",
    });
  });

  it("says where the milliseconds went", async () => {
    const { stderr } = await estalo(["run", "--timings", "--kernel", hello]);
    expect(stderr).toMatch(
      /^estalo: process [\d.]+ ms, machine [\d.]+ ms, kernel [\d.]+ ms, vcpus [\d.]+ ms, threads [\d.]+ ms = ours \d+ ms; total \d+ ms\n$/,
    );
  });

  it("tells everything as JSON Lines", async () => {
    const { stdout, stderr } = await estalo(["run", "--json", "--kernel", hello]);
    const lines = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    const text = lines.filter(({ type }) => type === "console").map((line) => line.text);
    expect(text.join("")).toBe("hello\n");
    const states = lines.filter(({ type }) => type === "state").map((line) => line.state);
    expect(states).toEqual(["created", "starting", "running", "stopping", "stopped"]);
    expect(lines.at(-1)).toMatchObject({
      type: "exited",
      exit: { reason: "poweroff", exitCode: 0 },
      timings: { oursMs: expect.any(Number) },
      metrics: { serial: { transmittedBytes: 6 } },
      atMs: expect.any(Number),
    });
    expect(stderr).toBe("");
  });

  it("ends with 124 when the time is over", async () => {
    const outcome = await estalo(["run", "--kernel", waiting, "--timeout", "0.3"]);
    expect(outcome).toMatchObject({
      status: 124,
      stderr: "estalo: timed out after 0.3 s [ERR_ESTALO_TIMEOUT]\n",
    });
  });

  it.each([
    ["SIGTERM", 143],
    ["SIGINT", 130],
  ] as const)(
    "asks the guest at the first %s, and kills it at the second",
    async (signal, status) => {
      let askedAtMs = 0;
      const outcome = await estalo(["run", "--kernel", waiting], {
        when: [
          "waiting",
          (child) => {
            askedAtMs = performance.now();
            child.kill(signal);
            setTimeout(() => child.kill(signal), 300);
          },
        ],
      });
      expect(performance.now() - askedAtMs).toBeGreaterThan(290);
      expect(outcome).toMatchObject({ status, stderr: "" });
    },
  );

  it("leaves nothing behind when it is killed itself", async () => {
    let pid = 0;
    const folder = emptyFolder("killed");
    const outcome = await estalo(["run", "--kernel", waiting], {
      env: { TMPDIR: folder },
      when: [
        "waiting",
        (child) => {
          pid = child.pid as number;
          child.kill("SIGKILL");
        },
      ],
    });
    expect(outcome.status).toBeNull();
    expect(existsSync(`/proc/${pid}`)).toBe(false);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("ends quietly when nobody reads its output any more", async () => {
    const loop = [...print("again\n", []), 0xe9, 0, 0, 0, 0];
    // jmp back to the first byte
    loop.splice(-4, 4, ...new Uint8Array(Int32Array.of(-loop.length).buffer));
    const outcome = await estalo(["run", "--kernel", scratch.guest("loop", loop)], {
      when: ["again", (child) => child.stdout.destroy()],
    });
    expect(outcome).toMatchObject({ status: 141, stderr: "" });
  });

  it.each<[string, string[], string]>([
    ["a kernel that is missing", ["--kernel", "/nowhere/vmlinux"], "ERR_ESTALO_KERNEL_FILE"],
    [
      "a configuration file that is missing",
      ["--config-file", "/nowhere"],
      "ERR_ESTALO_CONFIG_FILE",
    ],
    ["too many vCPUs", ["--vcpus", "33"], "ERR_ESTALO_CONFIG_INVALID"],
    ["a name with blanks", ["--name", "a b"], "ERR_ESTALO_CONFIG_INVALID"],
    ["a command that is too long", ["--", "echo", "a".repeat(3000)], "ERR_ESTALO_CMDLINE_TOO_LONG"],
    ["an option that does not exist", ["--frob"], "ERR_ESTALO_USAGE"],
  ])("refuses %s with status 125 and a code", async (_, words, code) => {
    const outcome = await estalo(["run", ...words]);
    expect(outcome).toMatchObject({ status: 125, stdout: "" });
    expect(outcome.stderr).toMatch(new RegExp(`^estalo: .* \\[${code}\\]\n`));
  });
});

const hasImages = existsSync(IMAGES);
if (!hasImages)
  console.warn("spec/guest/cli.spec.ts: no default guest, npm run guest:build makes it");

describe.skipIf(reason !== undefined || !hasImages)("estalo run with the default guest", () => {
  it("is a filter", async () => {
    const input = Array.from({ length: 1000 }, (_, index) => `line ${index}\n`).join("");
    expect(await estalo(["run", "--", "cat"], { input })).toEqual({
      status: 0,
      stdout: input,
      stderr: "",
    });
  });

  it("parts standard output and error, and ends with the command's status", async () => {
    const script = "echo $GREETING; pwd; hostname; echo err >&2; exit 7";
    const words = ["-e", "GREETING=hello, world", "-w", "/tmp", "--name", "box"];
    expect(await estalo(["run", ...words, "--", "sh", "-c", script])).toEqual({
      status: 7,
      stdout: "hello, world\n/tmp\nbox\n",
      stderr: "err\n",
    });
  });

  it("ends with 127 when there is no such command", async () => {
    const outcome = await estalo(["run", "--", "no-such-command"]);
    expect(outcome).toMatchObject({ status: 127, stdout: "" });
  });

  it("passes a signal on to the command", async () => {
    const outcome = await estalo(["run", "--", "sh", "-c", "echo ready; exec sleep 1000"], {
      when: ["ready", (child) => child.kill("SIGTERM")],
    });
    expect(outcome).toEqual({ status: 143, stdout: "ready\n", stderr: "" });
  });

  it("can be interrupted before the guest is up", async () => {
    const outcome = await estalo(["run", "-v", "--", "true"], {
      when: ["Linux version", (child) => child.kill("SIGINT")],
    });
    expect(outcome).toMatchObject({ status: 130, stdout: "" });
  });

  /** The command's own terminal; script(1) makes one, and ends with the status of its command. */
  async function expectTerminal(words: string): Promise<void> {
    const session = `stty rows 41 cols 111; before=$(stty -g); ${process.execPath} ${COMMAND} ${words}; status=$?; test "$before" = "$(stty -g)" && echo restored; exit $status`;
    const outcome = await execute("script", ["-qec", session, "/dev/null"], {
      keepsInput: true,
      env: { TERM: "xterm-256color", SHELL: "/bin/sh" },
      when: ["# ", (child) => child.stdin.write("stty size; echo $TERM; exit 3\n")],
    });
    expect(outcome).toMatchObject({ status: 3, stdout: expect.stringContaining("restored") });
    expect(outcome.stdout).toMatch(/41 111\r+\nxterm-256color\r+\n/);
  }

  it("gives the command our terminal, and gives it back as it was", () => expectTerminal("run"));

  it.skipIf(!isRoot)("does so in a jail, too (needs root)", () => expectTerminal("run --jail"));

  it("stops the guest at ctrl-p ctrl-q", async () => {
    const session = `${process.execPath} ${COMMAND} run; echo status $?`;
    const outcome = await execute("script", ["-qec", session, "/dev/null"], {
      keepsInput: true,
      env: { SHELL: "/bin/sh" },
      when: ["# ", (child) => child.stdin.write("\x10\x11")],
    });
    expect(outcome.stdout).toContain("left the guest, stopping it");
    expect(outcome.stdout).toContain("status 0");
  });
});

describe.skipIf(reason !== undefined || !hasImages)("estalo demo without a terminal", () => {
  it("says what the guest is, uses its disk, and leaves nothing behind", async () => {
    const folder = emptyFolder("demo");
    const { status, stdout, stderr } = await estalo(["demo"], { env: { TMPDIR: folder } });
    expect(stdout).toMatch(/^kernel: +Linux 6\.1/m);
    expect(stdout).toMatch(/^disk: +vdb, 64 MiB$/m);
    expect(stdout).toMatch(/^wrote: .*read the same back$/m);
    expect(stderr).toMatch(/^estalo: process .*guest to init .* total \d+ ms\n$/);
    expect(status, stderr).toBe(0);
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("estalo", () => {
  it("shows its version, help and the verbs it does not have", async () => {
    expect((await estalo(["--version"])).stdout).toMatch(/^estalo \d+\.\d+\.\d+\n$/);
    expect((await estalo([])).stdout).toContain("Usage: estalo VERB");
    expect((await estalo(["run", "--help"])).stdout).toContain("--config-file FILE");
    expect(await estalo(["rnu"])).toEqual({
      status: 125,
      stdout: "",
      stderr: "estalo: estalo has no verb rnu [ERR_ESTALO_USAGE]\nhint: did you mean estalo run?\n",
    });
  });

  it.each(["bash", "zsh", "fish"])("completes in %s", async (shell) => {
    const { status, stdout } = await estalo(["completion", shell]);
    expect(status).toBe(0);
    expect(stdout).toContain("config-file");
  });

  it("diagnoses this host as JSON", async () => {
    const { status, stdout } = await estalo(["doctor", "--json"]);
    const { ok, checks } = JSON.parse(stdout);
    expect(ok).toBe(status === 0);
    expect(checks.find(({ name }: { name: string }) => name === "node").status).toBe("ok");
  });
});
