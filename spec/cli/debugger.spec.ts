/** SIGUSR1, at which Node.js opens a debugger to every user of the host. No guest runs. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it, onTestFinished } from "vitest";

const COMMAND = fileURLToPath(new URL("../../bin/estalo.js", import.meta.url));

/** Starts the command, and sends the signals when it has said `text`; how it ended and all that it said. */
async function signalled(words: readonly string[], text: string, signals: NodeJS.Signals[]) {
  const child: ChildProcess = spawn(process.execPath, [COMMAND, ...words]);
  onTestFinished(() => void child.kill("SIGKILL"));
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (part: string) => {
      said += part;
      if (said.includes(text)) for (const signal of signals.splice(0)) child.kill(signal);
    });
  }
  const end = await new Promise((resolve) => {
    child.on("close", (status, signal) => resolve(status ?? signal));
  });
  return { end, said };
}

function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), "estalo-debugger-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

it("leaves a server as it is", async () => {
  const folder = scratch();
  const words = ["serve", "--state", join(folder, "state"), "--listen", join(folder, "socket")];
  const { end, said } = await signalled(words, "listening on", ["SIGUSR1", "SIGTERM"]);
  expect(said).not.toContain("Debugger");
  expect(end).toBe(0);
});

it("ends estalo vmm, as Firecracker", async () => {
  const words = ["vmm", "--api-sock", join(scratch(), "socket")];
  const { end, said } = await signalled(words, "Running Firecracker", ["SIGUSR1"]);
  expect(said).not.toContain("Debugger");
  expect(end).toBe("SIGUSR1");
});
