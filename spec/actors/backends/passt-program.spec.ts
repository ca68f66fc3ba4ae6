import { readdirSync } from "node:fs";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { PasstBackend } from "../../../src/actors/backends/passt.js";
import { startPasst } from "../../../src/actors/backends/passt-program.js";
import { HEADER_BYTES } from "../../../src/devices/virtio/net.regs.js";
import { createMemory } from "../../support/fake-memory.js";
import { ECHO, program } from "../../support/played-passt.js";

describe("startPasst", () => {
  const network = { forwards: [], hostLoopback: false };
  // As passt does: it answers when it is ready, and a child of its own goes on.
  const forking = (name: string) =>
    program(
      name,
      `const { spawn } = require("node:child_process");
      if (process.env.IS_CHILD) {${ECHO}} else {
        const stdio = ["ignore", "ignore", "ignore", 3];
        spawn(process.execPath, [__filename], { detached: true, stdio, env: { IS_CHILD: "1" } }).unref();
        process.exit(0);
      }`,
    );

  it("gives the socket of one that is ready, for a backend that only uses it", async () => {
    const socket = startPasst(network, forking("ready"));
    const errors: unknown[] = [];
    const memory = createMemory();
    const backend = new PasstBackend(network, { socket });
    onTestFinished(() => backend.close());
    backend.connect({ memory, onError: (error) => errors.push(error) });
    const frame = Uint8Array.from({ length: HEADER_BYTES + 60 }, (_, index) =>
      index < HEADER_BYTES ? 0 : index,
    );
    backend.sendBytes(frame);
    let answer: Uint8Array | undefined;
    await vi.waitUntil(
      () => {
        answer = backend.receiveBytes();
        return answer !== undefined;
      },
      { timeout: 30_000 },
    );
    expect(answer).toEqual(frame);
    expect(errors).toEqual([]);
    expect(() => backend.setForwards([])).toThrow(/forwards stay as they are/);
  });

  it("says what one that cannot be ready said, and leaves no descriptor", () => {
    const before = readdirSync("/proc/self/fd").length;
    const sad = program("sad", 'console.error("Failed to bind port"); process.exit(1)');
    expect(() => startPasst(network, sad)).toThrow(/status 1: Failed to bind port/);
    expect(readdirSync("/proc/self/fd")).toHaveLength(before);
  });
});
