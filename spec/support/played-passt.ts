/** Programs that play passt, on its socket. */
import { chmodSync, existsSync, readFileSync } from "node:fs";
import { afterAll } from "vitest";
import { Scratch } from "./tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

/** A program with passt's socket, that notes how it was called. */
export function program(name: string, code: string): string {
  const calls = JSON.stringify(`${scratch.path}/${name}.calls`);
  const path = scratch.file(
    name,
    `#!${process.execPath}
require("node:fs").appendFileSync(${calls}, JSON.stringify(process.argv.slice(2)) + "\\n");
${code}`,
  );
  chmodSync(path, 0o755);
  return path;
}

/** Answers each frame with itself, in pieces. */
export const ECHO = `
  const socket = new (require("node:net").Socket)({ fd: 3 });
  socket.setNoDelay?.(true);
  socket.on("data", async (bytes) => {
    for (let at = 0; at < bytes.length; at += 7) {
      socket.write(bytes.subarray(at, at + 7));
      await new Promise(setImmediate);
    }
  });
  socket.on("end", () => process.exit(0));
`;

/** The words of each call. */
export const calls = (name: string) => {
  const path = `${scratch.path}/${name}.calls`;
  return existsSync(path)
    ? readFileSync(path, "utf8")
        .trim()
        .split("\n")
        .map((l) => JSON.parse(l))
    : [];
};
