/** The command whose output nobody reads any more, or that finds no room; as it is typed, without a server. */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";

const COMMAND = fileURLToPath(new URL("../../bin/estalo.js", import.meta.url));

/** Its status, and what it said on the stream that is left. */
async function estalo(words: readonly string[], lost: "stdout" | "stderr", file?: string) {
  const fd = file === undefined ? undefined : openSync(file, "w");
  const child = spawn(process.execPath, [COMMAND, ...words], {
    stdio: ["ignore", fd ?? "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  if (fd !== undefined) closeSync(fd);
  // Before it has written anything.
  else child[lost]?.destroy();
  let said = "";
  const other = lost === "stdout" ? child.stderr : child.stdout;
  other?.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const status = await new Promise((resolve) => {
    child.on("close", resolve);
  });
  return { status, said };
}

const COMMANDS = ["--help", "--version", "run --help", "help ps", "completion zsh"];

describe("output that is lost", () => {
  it.each(COMMANDS)("ends %s without a word when nobody reads it", async (command) => {
    expect(await estalo(command.split(" "), "stdout")).toEqual({ status: 141, said: "" });
  });

  it.each(COMMANDS)("ends %s with the reason when there is no room", async (command) => {
    expect(await estalo(command.split(" "), "stdout", "/dev/full")).toEqual({
      status: 125,
      said: "estalo: write to standard output: ENOSPC [ERR_ESTALO_HOST]\n",
    });
  });

  it("keeps the status of an error that nobody reads", async () => {
    expect(await estalo(["nonsense"], "stderr")).toEqual({ status: 125, said: "" });
    const words = ["run", "--kernel", "/does/not/exist"];
    expect((await estalo(words, "stderr")).status).toBe(125);
  });
});
