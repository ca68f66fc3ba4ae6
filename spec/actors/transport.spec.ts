import { describe, expect, it } from "vitest";
import type { VcpuSetup } from "../../src/actors/messages.js";
import { createSharedBlock } from "../../src/actors/shared-block.js";
import { VcpuThreadHandle, VcpuThreadPool } from "../../src/actors/transport.js";
import { runAlone } from "../support/threads.js";

/** A set-up that reaches the thread and fails there: there is no such vCPU. */
function badSetup(): VcpuSetup {
  const block = createSharedBlock(1, []);
  return {
    vcpu: 3,
    vcpuFd: -1,
    mmapBytes: 4096,
    shared: block.buffer,
    block: block.vcpus[0],
    hostFd: -1,
    devices: [],
  };
}

const DIED = { code: "ERR_ESTALO_THREAD_DIED" };

describe("VcpuThreadHandle", () => {
  it("answers, and answers again: an error on the thread comes back as a record", async () => {
    const thread = new VcpuThreadHandle();
    for (let i = 0; i < 2; i++) {
      expect(await thread.attach(badSetup())).toMatchObject({
        code: "ERR_ESTALO_HOST",
        message: "attach vCPU 3: EBADF",
      });
    }
    await thread.detach();
    expect(thread.alive).toBe(true);
    await thread.terminate();
  });

  it("says that a thread without a vCPU cannot run one", async () => {
    const thread = new VcpuThreadHandle();
    expect(await thread.run()).toMatchObject({ kind: "failed", error: { code: "ERR_ESTALO_BUG" } });
    await thread.terminate();
  });

  it("rejects the calls that wait when its thread ends, and every later one", async () => {
    const thread = new VcpuThreadHandle();
    const waiting = [thread.attach(badSetup()), thread.run(), thread.detach()];
    const outcomes = Promise.allSettled(waiting);
    await thread.terminate();
    for (const outcome of await outcomes) expect(outcome).toMatchObject({ reason: DIED });
    expect(thread.alive).toBe(false);
    await expect(thread.attach(badSetup())).rejects.toMatchObject(DIED);
  });
});

describe("VcpuThreadPool", () => {
  it("gives a thread that came back to the next who asks", async () => {
    const pool = new VcpuThreadPool();
    const first = pool.take();
    await pool.giveBack(first);
    const second = pool.take();
    expect(second).toBe(first);
    expect(pool.take()).not.toBe(first);
    await pool.giveBack(second);
    await pool.close();
    expect(first.alive).toBe(false);
  });

  it("keeps four idle threads, and ends the others", async () => {
    const pool = new VcpuThreadPool();
    const threads = Array.from({ length: 6 }, () => pool.take());
    for (const thread of threads) await pool.giveBack(thread);
    expect(threads.filter(({ alive }) => alive)).toHaveLength(4);
    await pool.close();
    expect(threads.some(({ alive }) => alive)).toBe(false);
  });

  it("neither keeps nor gives out a thread that died", async () => {
    const pool = new VcpuThreadPool();
    const [idle, taken] = [pool.take(), pool.take()];
    await pool.giveBack(idle);
    await idle.terminate();
    await taken.terminate();
    await pool.giveBack(taken);
    const next = pool.take();
    expect([idle, taken]).not.toContain(next);
    expect(next.alive).toBe(true);
    await pool.giveBack(next);
    await pool.close();
  });

  it("starts threads ahead, no more than it would keep", async () => {
    const pool = new VcpuThreadPool();
    pool.prepare(2);
    pool.prepare(100);
    const started = performance.now();
    const threads = Array.from({ length: 4 }, () => pool.take());
    expect(performance.now() - started).toBeLessThan(5);
    for (const thread of threads) await pool.giveBack(thread);
    await pool.close();
  });

  it("keeps its process alive while a thread is taken, and only then", async () => {
    const program = (end: string) => `
      import { VcpuThreadPool } from "./src/actors/transport.js";
      const pool = new VcpuThreadPool();
      pool.prepare(2);
      const thread = pool.take();
      await thread.detach();
      setTimeout(() => { console.log("alive"); process.exit(); }, 500).unref();
      ${end}
    `;
    expect(await runAlone(program(""))).toBe("alive\n");
    expect(await runAlone(program("await pool.giveBack(thread);"))).toBe("");
  });
});
