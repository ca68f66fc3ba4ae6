/** What an attachment does with our terminal. */
import { spawnSync } from "node:child_process";
import { PassThrough } from "node:stream";
import { expect, it, vi } from "vitest";
import { attach } from "../../src/cli/attachment.js";

vi.mock("node:child_process", () => ({ spawnSync: vi.fn() }));

const CONSOLE = { read: () => () => {}, send: async () => {}, holdOutput: () => () => {} };

/** Attaches a terminal, and gives it back. */
async function joinTerminal(startsPrograms: boolean) {
  const setRawMode = vi.fn();
  const stdin = Object.assign(new PassThrough(), { setRawMode }) as unknown as NodeJS.ReadStream;
  const attachment = attach(CONSOLE as never, "console", {
    stdin,
    isTerminal: true,
    startsPrograms,
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    text: undefined,
    size: () => ({ rows: 24, columns: 80 }),
    onFirstOutput: () => {},
    onDetach: () => {},
  });
  await vi.dynamicImportSettled();
  attachment.close();
  return setRawMode.mock.calls;
}

it("is raw, without stty(1) where no program may be started", async () => {
  expect(await joinTerminal(false)).toEqual([[true], [false]]);
  expect(spawnSync).not.toHaveBeenCalled();
  expect(await joinTerminal(true)).toEqual([[true], [false]]);
  expect(spawnSync).toHaveBeenCalledExactlyOnceWith("stty", ["-opost"], expect.anything());
});
