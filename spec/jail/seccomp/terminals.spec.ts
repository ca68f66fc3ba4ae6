/** Terminals of a process that is put under filters. */
import { expect, it, onTestFinished, vi } from "vitest";
import { confine } from "../../../src/jail/seccomp/confine.js";
import { native } from "../../../src/native/binding.js";

const STREAMS = ["stdin", "stdout", "stderr"] as const;

vi.mock("node:tty", async (original) => ({
  ...(await original<typeof import("node:tty")>()),
  isatty: (fd: number) => fd !== 1,
}));

it("are opened before, and other standard streams are not", () => {
  const order: string[] = [];
  const spy = vi.spyOn(native(), "confine").mockImplementation(() => void order.push("filters"));
  onTestFinished(() => spy.mockRestore());
  for (const name of STREAMS) {
    const known = Object.getOwnPropertyDescriptor(process, name) as PropertyDescriptor;
    onTestFinished(() => void Object.defineProperty(process, name, known));
    Object.defineProperty(process, name, { ...known, get: () => void order.push(name) });
  }
  confine();
  expect(order).toEqual(["stdin", "stderr", "filters"]);
});
