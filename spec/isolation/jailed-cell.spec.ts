/**
 * A cell as a process: how it starts, that its server's death takes it along, and that nothing is left. No guest
 * runs; needs root.
 */
import { spawn } from "node:child_process";
import { existsSync, fstatSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { checkNothing } from "../../src/isolation/cell-checks.js";
import { CellLink } from "../../src/isolation/cell-link.js";
import { removeOldCells, startCell } from "../../src/isolation/jailed-cell.js";
import { native } from "../../src/native/binding.js";
import {
  hostTraces,
  isRoot,
  JAIL_USER,
  makeBase,
  until,
  waitUntilEmpty,
} from "../support/jails.js";

const USER = { uid: JAIL_USER, gid: JAIL_USER };
const jailsIn = (folder: string) => ({
  folder,
  cgroups: [],
  cgroupVersion: "1",
});

function isRunning(pid: number | undefined): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return false;
  }
}

describe.skipIf(!isRoot)("a cell (needs root)", () => {
  it("answers from its jail as a user of its own without rights, and is gone when it is closed", async () => {
    const base = makeBase();
    const process = startCell(jailsIn(base), "one", USER);
    const link = new CellLink(process);
    await link.ready;
    const status = readFileSync(`/proc/${process.pid}/status`, "latin1");
    expect(status).toMatch(new RegExp(`^Uid:\\t${JAIL_USER}\\t`, "m"));
    expect(status).toMatch(/^CapEff:\t0+$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    await expect(link.call(1, "pause", {}, checkNothing)).rejects.toMatchObject({
      code: "ERR_ESTALO_STATE",
    });
    const { pid } = process;
    await link.close();
    expect(isRunning(pid)).toBe(false);
    await waitUntilEmpty(base);
    expect(hostTraces().mounts).toEqual([]);
  });

  it("ends with its launcher, and says how", async () => {
    const base = makeBase();
    const process = startCell(jailsIn(base), "one", USER);
    const link = new CellLink(process);
    await link.ready;
    const { pid } = process;
    process.kill();
    expect(await process.ended).toContain("SIGKILL");
    await until(() => !isRunning(pid), "the cell has ended");
    await waitUntilEmpty(base);
  });

  it("ends with its server, however that ended", async () => {
    const base = makeBase();
    const server = spawn(
      process.execPath,
      [
        ...["bin/estalo.js", "serve", "--isolate", "--state", join(base, "state")],
        ...["--listen", join(base, "s")],
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    onTestFinished(() => {
      server.kill("SIGKILL");
    });
    await new Promise((resolve) => server.stdout.once("data", resolve));
    const cells = join(base, "state", "cells", "cell");
    const [id] = readdirSync(cells);
    const pid = Number(readFileSync(join(cells, id, "root", "cell.pid"), "latin1"));
    expect(isRunning(pid)).toBe(true);
    server.kill("SIGKILL");
    await until(() => !isRunning(pid), "the cell has ended");
    await until(() => !existsSync(join(cells, id)), "its jail is gone");
  });

  it("has its folder removed by the next server when nobody else did", async () => {
    const base = makeBase();
    const process = startCell(jailsIn(base), "left", USER);
    const link = new CellLink(process);
    await link.ready;
    // As if its caretaker had died: the folder with a living cell in it.
    const { pid } = process;
    removeOldCells(jailsIn(base));
    expect(existsSync(join(base, "cell", "left"))).toBe(false);
    await until(() => !isRunning(pid), "the cell has ended");
    await process.ended;
  });

  it("has its folder removed by the next server when it has no record yet", () => {
    const base = makeBase();
    mkdirSync(join(base, "cell", "half", "root"), { recursive: true });
    removeOldCells(jailsIn(base));
    expect(readdirSync(base)).toEqual([]);
  });
});

describe("startCell", () => {
  it("leaves no descriptor open where there is none for the second pair", () => {
    const { socketPair } = native();
    const opened: number[] = [];
    const spy = vi.spyOn(native(), "socketPair");
    onTestFinished(() => spy.mockRestore());
    spy.mockImplementationOnce(() => {
      const pair = socketPair();
      opened.push(...pair);
      return pair;
    });
    spy.mockImplementationOnce(() => {
      throw Object.assign(new Error("socketpair"), { code: "EMFILE" });
    });
    const own = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
    expect(() => startCell(jailsIn(makeBase()), "one", own)).toThrowError(
      expect.objectContaining({
        code: "ERR_ESTALO_JAIL",
        message: "make a cell's sockets: EMFILE",
      }),
    );
    expect(opened).toHaveLength(2);
    for (const fd of opened) expect(() => fstatSync(fd)).toThrowError("EBADF");
  });
});
