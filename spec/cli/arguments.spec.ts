/** Words to options: what is taken, what is refused and what the refusal advises. */
import { describe, expect, it } from "vitest";
import { nearest, parseArguments } from "../../src/cli/arguments.js";
import { parseDrive, parseRunOptions } from "../../src/cli/run-options.js";
import { DOCTOR_VERB, RUN_VERB, VERBS } from "../../src/cli/verbs.js";

const PLAIN = {
  jail: false,
  drives: [],
  nets: [],
  env: [],
  console: false,
  timings: false,
  json: false,
  verbose: false,
  command: [],
};

describe("parseRunOptions", () => {
  it.each<[string, string[], object]>([
    ["nothing", [], {}],
    ["a command after --", ["--", "ls", "-l"], { command: ["ls", "-l"] }],
    ["a command without --", ["ls", "-l", "--json"], { command: ["ls", "-l", "--json"] }],
    [
      "a command with its own --",
      ["-v", "--", "a", "--", "b"],
      { verbose: true, command: ["a", "--", "b"] },
    ],
    ["an empty argument", ["--", "echo", ""], { command: ["echo", ""] }],
    ["vCPUs and memory", ["--vcpus", "4", "--memory=1024"], { vcpuCount: 4, memoryMib: 1024 }],
    ["short options", ["-c2", "-m", "1G", "-v"], { vcpuCount: 2, memoryMib: 1024, verbose: true }],
    ["memory with a suffix", ["-m", "512MiB"], { memoryMib: 512 }],
    ["the last of two", ["-c", "1", "-c", "3"], { vcpuCount: 3 }],
    ["a time below a second", ["--timeout", "0.25"], { timeoutMs: 250 }],
    ["an environment", ["-e", "A=1", "--env", "B=x=y,z"], { env: ["A=1", "B=x=y,z"] }],
    ["a folder", ["-w", "/tmp"], { workdir: "/tmp" }],
    ["a value that begins with a dash", ["--cmdline=-x"], { cmdline: "-x" }],
    [
      "a system of the user's",
      ["--kernel", "k", "--initrd", "i", "--rootfs", "r.img:ro", "--cmdline", "console=ttyS0 ro"],
      {
        kernel: "k",
        initrd: "i",
        rootfs: { id: "rootfs", path: "r.img", readOnly: true, isRoot: true },
        cmdline: "console=ttyS0 ro",
      },
    ],
    [
      "a configuration file",
      ["--config-file", "vm.json", "--name", "a"],
      { configFile: "vm.json", name: "a" },
    ],
  ])("takes %s", (_, words, expected) => {
    expect(parseRunOptions(words)).toEqual({ ...PLAIN, ...expected });
  });

  it.each<[string, string[], string, string]>([
    [
      "an option that does not exist",
      ["--memroy", "3"],
      "no option --memroy",
      "did you mean --memory?",
    ],
    ["an option like no other", ["--frobnicate"], "no option --frobnicate", "estalo help run"],
    ["an option without its value", ["--kernel"], "--kernel needs a value", "estalo help run"],
    ["an option in the place of a value", ["--kernel", "--json"], "--kernel needs a value", "help"],
    ["a value for a switch", ["--json=yes"], "--json takes no value", "help"],
    ["vCPUs that are no number", ["-c", "two"], "--vcpus is a whole number, not two", "help"],
    ["memory that is no size", ["-m", "lots"], "--memory is MiB", "help"],
    ["a timeout of nothing", ["--timeout", "0"], "--timeout is a number of seconds", "help"],
    ["a timeout beyond a timer's reach", ["--timeout", "9999999"], "--timeout", "help"],
    ["an environment without a value", ["-e", "PATH"], "--env is KEY=VALUE", "help"],
    [
      "a kernel beside a configuration file",
      ["--config-file", "f", "--kernel", "k"],
      "--kernel",
      "say it in the file",
    ],
    ["a command for a foreign kernel", ["--kernel", "k", "--", "ls"], "a command is for", "init="],
    ["an environment for a foreign root", ["--rootfs", "r", "-e", "A=1"], "--env is for", "init="],
  ])("refuses %s", (_, words, message, hint) => {
    expect(() => parseRunOptions(words)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_USAGE",
        message: expect.stringContaining(message),
        hint: expect.stringContaining(hint),
      }),
    );
  });
});

describe("parseDrive", () => {
  it.each<[string, object]>([
    ["disk.img", { path: "disk.img" }],
    ["disk.img:ro", { path: "disk.img", readOnly: true }],
    ["disk.img:rw", { path: "disk.img" }],
    ["a:b.img", { path: "a:b.img" }],
    [
      "disk.img:ro,id=data,cache=unsafe,io=libuv",
      { path: "disk.img", readOnly: true, id: "data", cacheType: "Unsafe", ioEngine: "libuv" },
    ],
    ["disk.img,cache=writeback", { path: "disk.img", cacheType: "Writeback" }],
  ])("takes %s", (value, drive) => {
    expect(parseDrive("--drive", value)).toEqual(drive);
  });

  it.each(["", ":ro", "d.img,size=3", "d.img,cache=none", "d.img,id", "d.img,cache=toString"])(
    "refuses %j",
    (value) => {
      expect(() => parseDrive("--drive", value)).toThrow(
        expect.objectContaining({ code: "ERR_ESTALO_USAGE" }),
      );
    },
  );
});

describe("parseArguments", () => {
  it.each(VERBS)("takes --help of $name", (verb) => {
    expect([...parseArguments(verb, ["--help"]).switches]).toEqual(["help"]);
  });

  it("keeps what is no option, in a verb that takes no command", () => {
    const parsed = parseArguments(DOCTOR_VERB, ["a", "--json", "b"]);
    expect(parsed.operands).toEqual(["a", "b"]);
    expect(parsed.switches).toEqual(new Set(["json"]));
  });

  it("has every option of run's table once", () => {
    const names = RUN_VERB.options.flatMap(({ name, short }) => [name, ...(short ? [short] : [])]);
    expect(new Set(names).size).toBe(names.length);
  });
});

describe("nearest", () => {
  it.each([
    ["rnu", "run"],
    ["doctr", "doctor"],
    ["demos", "demo"],
    ["start", undefined],
    ["x", undefined],
  ])("of %s is %s", (word, expected) => {
    expect(nearest(word, ["run", "doctor", "demo"])).toBe(expected);
  });
});
