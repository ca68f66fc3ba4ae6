import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { findProgram, packageFolder } from "../../src/jail/program.js";

function folder(): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "estalo-program-")));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

describe("findProgram", () => {
  it("knows its own commands, also through a link, and brings what Node.js needs", () => {
    const link = join(folder(), "firecracker");
    symlinkSync(join(packageFolder(), "bin/firecracker"), link);
    const { name, binds, command, environment } = findProgram(link);
    expect(name).toBe("firecracker");
    expect(command).toEqual(["/firecracker", "/estalo/bin/firecracker"]);
    expect(environment).toEqual(["LD_LIBRARY_PATH=/estalo/lib"]);
    const targets = binds.map(({ target }) => target);
    expect(targets).toEqual(
      expect.arrayContaining(["/firecracker", "/estalo/dist", "/estalo/package.json"]),
    );
    expect(targets.some((target) => /^\/estalo\/lib\/libc\.|ld-musl/.test(target))).toBe(true);
    expect(binds.filter(({ isExecutable }) => isExecutable)).toHaveLength(2);
    expect(new Set(targets).size).toBe(targets.length);
  });

  it("starts estalo vmm by the other command", () => {
    const { command } = findProgram(join(packageFolder(), "bin/estalo.js"));
    expect(command).toEqual(["/estalo.js", "/estalo/bin/estalo.js", "vmm"]);
  });

  it("takes Node.js itself for Firecracker", () => {
    expect(findProgram(process.execPath).command[1]).toBe("/estalo/bin/firecracker");
  });

  it("takes any other file as it is", () => {
    const file = join(folder(), "monitor");
    writeFileSync(file, "");
    expect(findProgram(file)).toEqual({
      name: "monitor",
      binds: [{ source: file, target: "/monitor", isExecutable: true }],
      command: ["/monitor"],
      environment: [],
    });
  });

  it("refuses what is no file, or not there", () => {
    const path = folder();
    mkdirSync(join(path, "below"));
    expect(() => findProgram(join(path, "below"))).toThrowError(/is not a file/);
    expect(() => findProgram(join(path, "none"))).toThrowError(
      expect.objectContaining({
        code: "ERR_ESTALO_JAIL",
        message: expect.stringContaining("Failed to canonicalize path"),
      }),
    );
  });
});
