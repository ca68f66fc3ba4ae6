/** The completion scripts, run by the shells that are here. */
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { completionScript } from "../../src/cli/completion.js";
import { VERBS } from "../../src/cli/verbs.js";

const folder = mkdtempSync(join(tmpdir(), "estalo-completion-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Stands for the command: says what it is asked. */
const command = join(folder, "estalo");
writeFileSync(command, '#!/bin/sh\necho "asked:$*" | tr " " ,\necho web\n');
chmodSync(command, 0o755);

/** What bash would offer for these words, the last of which is being typed. */
function bashOffers(...words: string[]): string[] {
  const quoted = [command, ...words].map((word) => `'${word}'`).join(" ");
  const { stdout, stderr, status } = spawnSync("bash", [
    "--norc",
    "-c",
    `
    ${completionScript("bash")}
    COMP_WORDS=(${quoted}); COMP_CWORD=${words.length}
    _estalo
    printf '%s\\n' "\${COMPREPLY[@]}"`,
  ]);
  expect(String(stderr)).toBe("");
  expect(status).toBe(0);
  return String(stdout)
    .trim()
    .split("\n")
    .filter((line) => line !== "");
}

describe("in bash", () => {
  it("completes verbs", () => {
    expect(bashOffers("")).toEqual([...VERBS.map(({ name }) => name), "--help", "--version"]);
    expect(bashOffers("insp")).toEqual(["inspect"]);
  });

  it("completes options", () => {
    expect(bashOffers("ps", "--no")).toEqual(["--no-trunc"]);
    expect(bashOffers("logs", "--")).toContain("--follow");
  });

  it("asks the command for names of microVMs, with what was typed already", () => {
    expect(bashOffers("stop", "")).toEqual(["asked:__complete,stop", "web"]);
    expect(bashOffers("stop", "--host", "unix:///x", "db", "w")).toEqual(["web"]);
    expect(bashOffers("stop", "db", "a")).toEqual(["asked:__complete,stop,db"]);
  });

  it("offers nothing where there is nothing", () => {
    expect(bashOffers("ps", "")).not.toContain("web");
    expect(bashOffers("stop", "--time", "")).toEqual([]);
    expect(bashOffers("nonsense", "")).toEqual([]);
  });
});

describe("for other shells", () => {
  it.each(["zsh", "fish"])("%s asks the command for names of microVMs", (shell) => {
    const script = completionScript(shell) as string;
    expect(script).toContain("estalo __complete");
    for (const { name } of VERBS) expect(script).toContain(name);
  });

  it.runIf(spawnSync("zsh", ["--version"]).status === 0)(
    "zsh takes the script (where there is zsh)",
    () => {
      const { status, stderr } = spawnSync("zsh", ["-nf", "-c", completionScript("zsh") as string]);
      expect([status, String(stderr)]).toEqual([0, ""]);
    },
  );

  it.runIf(spawnSync("fish", ["--version"]).status === 0)(
    "fish takes the script (where there is fish)",
    () => {
      const { status, stderr } = spawnSync("fish", [
        "-n",
        "-c",
        completionScript("fish") as string,
      ]);
      expect([status, String(stderr)]).toEqual([0, ""]);
    },
  );

  it("there is none", () => expect(completionScript("tcsh")).toBeUndefined());
});
