/** From options to a configuration: which guest, which command line, which way of being attached. */
import { describe, expect, it } from "vitest";
import type { DefaultGuest } from "../../src/actors/default-guest.js";
import { parseRunOptions } from "../../src/cli/run-options.js";
import { encodeWords, planWithGuest, planWithKernel } from "../../src/cli/run-plan.js";

const GUEST: DefaultGuest = {
  version: "1",
  kernel: "/cache/vmlinux",
  rootfs: "/cache/rootfs.erofs",
  bootArgs: "console=ttyS0 quiet root=/dev/vda ro rootfstype=erofs",
};
const PIPE = { isTerminal: false, rows: 24, columns: 80, term: "xterm" };
const TERMINAL = { isTerminal: true, rows: 50, columns: 132, term: "xterm-256color" };

const plan = (words: string[], host = PIPE) => planWithGuest(parseRunOptions(words), host, GUEST);
const bootArgs = (words: string[], host = PIPE) => plan(words, host).config.bootArgs;

describe("planWithGuest", () => {
  it("gives a command pipes when we have no terminal", () => {
    expect(plan(["--", "sh", "-c", "exit 7"])).toEqual({
      mode: "pipes",
      config: {
        kernel: "/cache/vmlinux",
        bootArgs: `${GUEST.bootArgs} estalo.stdio=frames estalo.cmd=sh,-c,exit%207`,
        drives: [{ id: "rootfs", path: "/cache/rootfs.erofs", isRoot: true, readOnly: true }],
      },
    });
  });

  it("gives a command a terminal of our size and kind when we have one", () => {
    expect(plan(["top"], TERMINAL).mode).toBe("terminal");
    expect(bootArgs(["top"], TERMINAL)).toBe(
      `${GUEST.bootArgs} estalo.stdio=frames,tty,50,132 estalo.env=TERM=xterm-256color estalo.cmd=top`,
    );
  });

  it("leaves the shell to init on a terminal, and reads a script without one", () => {
    expect(bootArgs([], TERMINAL)).not.toContain("estalo.cmd");
    expect(bootArgs([])).toContain("estalo.cmd=sh");
  });

  it("writes JSON, not a terminal's picture, with --json", () => {
    expect(plan(["--json"], TERMINAL).mode).toBe("pipes");
  });

  it("connects the console when asked to", () => {
    expect(plan(["--console"], TERMINAL).mode).toBe("console");
    expect(bootArgs(["--console", "--", "ls"])).toContain("estalo.stdio=console estalo.cmd=ls");
  });

  it("passes name, folder, environment and further kernel arguments on", () => {
    const { config } = plan([
      ...["--name", "box", "-w", "/a b", "-e", "A=1,2", "--cmdline", "panic=0"],
      ...["-c", "2", "-m", "128", "--cpu-template", "t.json", "--", "id"],
    ]);
    expect(config).toMatchObject({
      id: "box",
      vcpuCount: 2,
      memoryMib: 128,
      cpuTemplate: "t.json",
    });
    expect(config.bootArgs).toBe(
      `${GUEST.bootArgs} panic=0 estalo.stdio=frames estalo.env=A=1%2C2 estalo.cwd=/a%20b estalo.hostname=box estalo.cmd=id`,
    );
  });

  it("lets the kernel talk with --verbose", () => {
    expect(bootArgs(["-v"])).not.toContain("quiet");
  });

  it("refuses more words than init has room for", () => {
    expect(() => plan(Array(300).fill("a"))).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CMDLINE_TOO_LONG" }),
    );
  });

  it("attaches drives after its own root", () => {
    expect(plan(["--drive", "a.img"]).config.drives).toHaveLength(2);
  });

  it("boots a root file system of the user's writable, of whatever kind, on the console", () => {
    expect(plan(["--rootfs", "r.ext4", "--drive", "a.img"], TERMINAL)).toEqual({
      mode: "console",
      config: {
        kernel: "/cache/vmlinux",
        bootArgs: "console=ttyS0 quiet",
        drives: [{ id: "rootfs", path: "r.ext4", isRoot: true }, { path: "a.img" }],
      },
    });
  });
});

describe("planWithKernel", () => {
  it("gives a kernel of the user's a console", () => {
    const { mode, config } = planWithKernel(parseRunOptions(["--kernel", "k"]), "k");
    expect(mode).toBe("console");
    expect(config).toEqual({
      kernel: "k",
      bootArgs: expect.stringMatching(/^console=ttyS0 reboot=k panic=1 /),
      drives: [],
    });
  });

  it("gives it the user's arguments alone", () => {
    const options = parseRunOptions(["--kernel", "k", "--initrd", "i", "--cmdline", "quiet"]);
    expect(planWithKernel(options, "k").config).toEqual({
      kernel: "k",
      initrd: "i",
      bootArgs: "quiet",
      drives: [],
    });
  });
});

describe("encodeWords", () => {
  it("leaves harmless characters, and encodes all others byte by byte", () => {
    expect(encodeWords(["a/b_c.d:e=f@g-h", "x y,z%\n\"'", "é"])).toBe(
      "a/b_c.d:e=f@g-h,x%20y%2Cz%25%0A%22%27,%C3%A9",
    );
  });

  it("keeps empty words", () => {
    expect(encodeWords(["a", "", "b"])).toBe("a,,b");
  });
});
