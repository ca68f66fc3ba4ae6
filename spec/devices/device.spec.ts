import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { LOCK_WORD, lockState, unlockState } from "../../src/devices/device.js";

// The other thread's side of the same protocol, spelt out: a worker cannot import TypeScript here.
const CONTENDER = `
  const { workerData } = require("node:worker_threads");
  const state = workerData;
  for (let round = 0; round < 20000; round++) {
    if (Atomics.compareExchange(state, 0, 0, 1) !== 0) {
      while (Atomics.exchange(state, 0, 2) !== 0) Atomics.wait(state, 0, 2);
    }
    state[1] = state[1] + 1;
    if (Atomics.exchange(state, 0, 0) === 2) Atomics.notify(state, 0, 1);
  }
`;

describe("lockState and unlockState", () => {
  it("let one thread in at a time", async () => {
    const state = new Int32Array(new SharedArrayBuffer(8));
    const worker = new Worker(CONTENDER, { eval: true, workerData: state });
    const ended = new Promise((resolve, reject) => {
      worker.once("exit", resolve);
      worker.once("error", reject);
    });
    await new Promise((resolve) => worker.once("online", resolve));
    for (let round = 0; round < 20_000; round++) {
      lockState(state);
      state[1] = state[1] + 1;
      unlockState(state);
    }
    await ended;
    expect(state[1]).toBe(40_000);
    expect(state[LOCK_WORD]).toBe(0);
  });
});
