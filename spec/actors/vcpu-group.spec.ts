/** The group over threads that are played: what it does when they fail, die or do not notice. */
import { beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import type { Machine } from "../../src/actors/machine.js";
import { GO_HOME, type VcpuOutcome } from "../../src/actors/messages.js";
import { createSharedBlock } from "../../src/actors/shared-block.js";
import { VcpuGroup } from "../../src/actors/vcpu-group.js";
import { EstaloError } from "../../src/errors.js";
import { KVM_REGS } from "../../src/native/kvm-structs.js";
import * as k from "../../src/native/layouts.js";

class FakeThread {
  alive = true;
  readonly calls: string[] = [];
  attachReply: unknown;
  end: (outcome: VcpuOutcome) => void = () => {};
  die: (error: EstaloError) => void = () => {};

  async attach() {
    this.calls.push("attach");
    return this.attachReply;
  }
  run() {
    this.calls.push("run");
    return new Promise<VcpuOutcome>((resolve, reject) => {
      this.end = resolve;
      this.die = (error) => {
        this.alive = false;
        reject(error);
      };
    });
  }
  async detach() {
    this.calls.push("detach");
  }
}

const pool = vi.hoisted(() => ({ threads: [] as unknown[], back: [] as unknown[] }));
vi.mock("../../src/actors/transport.js", () => ({
  vcpuThreads: {
    take: () => {
      const thread = new FakeThread();
      pool.threads.push(thread);
      return thread;
    },
    giveBack: async (thread: unknown) => {
      pool.back.push(thread);
    },
  },
}));

/** A group of two vCPUs on a machine whose vCPUs count their kicks. */
function createGroup() {
  const failures: EstaloError[] = [];
  const shutdowns: string[] = [];
  const group = new VcpuGroup(2, (error) => failures.push(error));
  const block = createSharedBlock(2, []);
  const controls = block.vcpus.map(
    ({ controlOffset }) => new Int32Array(block.buffer, controlOffset, k.VCPU_CONTROL_BYTES / 4),
  );
  const kicks = [0, 0];
  const vcpus = [0, 1].map((id) => ({
    fd: 100 + id,
    kick: () => {
      kicks[id] += 1;
    },
    getStruct: () => KVM_REGS.encode({ rip: 0xfff0n }),
  }));
  const machine = { vcpus, vcpuMmapBytes: 4096 } as unknown as Machine;
  group.connect(machine, block, { windows: [], hostFd: 7 });
  for (const control of controls) control[k.VCPU_CONTROL_TID_OFFSET / 4] = 1;
  const threads = pool.threads as FakeThread[];
  const run = () => group.run(() => shutdowns.push("shutdown"));
  const pending = () => controls.map((control) => control[k.VCPU_CONTROL_PENDING_OFFSET / 4]);
  return { group, threads, failures, shutdowns, kicks, vcpus, controls, run, pending };
}

const DIED = new EstaloError("ERR_ESTALO_THREAD_DIED", "a vCPU thread ended: exit code 1");
const turn = () => new Promise((resolve) => setImmediate(resolve));

beforeEach(() => {
  pool.threads.length = 0;
  pool.back.length = 0;
});

describe("VcpuGroup", () => {
  it("asks for its first thread when it is made, and gives it back unused", () => {
    const { group, threads } = createGroup();
    expect(threads).toHaveLength(1);
    group.close();
    expect(pool.back).toEqual(threads);
    expect(threads.map(({ calls }) => calls)).toEqual([[]]);
  });

  it("lets the first vCPU in before the others have threads, and each of them when it has one", async () => {
    const { group, threads, run } = createGroup();
    const attached = group.attach();
    run();
    expect(threads.map(({ calls }) => calls)).toEqual([["attach", "run"]]);
    await attached;
    expect(threads.map(({ calls }) => calls)).toEqual([
      ["attach", "run"],
      ["attach", "run"],
    ]);
    const left = group.leave();
    for (const thread of threads) thread.end({ kind: "kicked" });
    await left;
  });

  it("attaches, runs, makes all leave, detaches and gives back, in this order", async () => {
    const { group, threads, run, kicks, pending, failures } = createGroup();
    await group.attach();
    run();
    expect(pending()).toEqual([0, 0]);
    const left = group.leave();
    expect(pending()).toEqual([1, 1]);
    expect(kicks).toEqual([1, 1]);
    for (const thread of threads) thread.end({ kind: "kicked" });
    await left;
    await group.detach();
    expect(threads.map(({ calls }) => calls)).toEqual([
      ["attach", "run", "detach"],
      ["attach", "run", "detach"],
    ]);
    expect(pool.back).toEqual(threads);
    expect(failures).toEqual([]);
    await group.leave();
    await group.detach();
    expect(pool.back).toHaveLength(2);
  });

  it("sends all home when the process ends, as long as they are in the guest", async () => {
    const others = process.listeners("exit");
    const heard = () => process.listeners("exit").filter((listener) => !others.includes(listener));
    const { group, threads, run, kicks, pending } = createGroup();
    await group.attach();
    run();
    for (const listener of heard()) listener(0);
    expect([pending(), kicks]).toEqual([
      [GO_HOME, GO_HOME],
      [1, 1],
    ]);
    const left = group.leave();
    for (const thread of threads) thread.end({ kind: "kicked" });
    await left;
    expect(heard()).toEqual([]);
  });

  it("takes fresh threads after it gave its first ones back", async () => {
    const { group } = createGroup();
    await group.attach();
    await group.detach();
    await group.attach();
    expect(pool.threads).toHaveLength(4);
  });

  it("kicks again who does not notice, and stops when all have left", async () => {
    const { group, threads, run, kicks } = createGroup();
    await group.attach();
    run();
    const left = group.leave();
    threads[0].end({ kind: "kicked" });
    await vi.waitFor(() => expect(kicks[1]).toBeGreaterThan(2));
    threads[1].end({ kind: "kicked" });
    await left;
    const before = [...kicks];
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(kicks).toEqual(before);
  });

  it("kicks nobody whose thread is not in the run loop", async () => {
    const { group, threads, run, kicks, controls } = createGroup();
    await group.attach();
    run();
    controls[1][k.VCPU_CONTROL_TID_OFFSET / 4] = 0;
    const left = group.leave();
    expect(kicks).toEqual([1, 0]);
    for (const thread of threads) thread.end({ kind: "kicked" });
    await left;
  });

  it("reports a thread that dies once, and does not wait for it when the others leave", async () => {
    const { group, threads, run, failures } = createGroup();
    await group.attach();
    run();
    threads[0].die(DIED);
    await turn();
    expect(failures).toEqual([DIED]);
    const left = group.leave();
    threads[1].end({ kind: "kicked" });
    await left;
    await group.detach();
    expect(threads[0].calls).not.toContain("detach");
    expect(threads[1].calls).toContain("detach");
    expect(failures).toHaveLength(1);
  });

  it("leaves also when a thread dies of the kick", async () => {
    const { group, threads, run } = createGroup();
    await group.attach();
    run();
    const left = group.leave();
    threads[0].die(DIED);
    threads[1].end({ kind: "kicked" });
    await left;
  });

  it("tells of a triple fault", async () => {
    const { group, threads, run, shutdowns, failures } = createGroup();
    await group.attach();
    run();
    threads[1].end({ kind: "shutdown" });
    await turn();
    expect(shutdowns).toEqual(["shutdown"]);
    expect(failures).toEqual([]);
  });

  it("adds registers and last exits to what a vCPU failed of", async () => {
    const { group, threads, run, failures } = createGroup();
    await group.attach();
    run();
    const error = new EstaloError("ERR_ESTALO_VCPU_STOPPED", "no", { data: { vcpu: 1 } });
    threads[1].end({ kind: "failed", error: error.toRecord() });
    await turn();
    expect(failures[0]).toMatchObject({
      code: "ERR_ESTALO_VCPU_STOPPED",
      data: { vcpu: 1, lastExits: [], registers: { rip: "0xfff0", rax: "0x0" } },
    });
  });

  it("still reports a failure whose registers cannot be read, and rejects nothing unseen", async () => {
    const { group, threads, run, failures, vcpus } = createGroup();
    vcpus[0].getStruct = () => {
      throw Object.assign(new Error("KVM_GET vCPU state: EIO"), { code: "EIO" });
    };
    await group.attach();
    run();
    const error = new EstaloError("ERR_ESTALO_VCPU_STOPPED", "the reason");
    threads[0].end({ kind: "failed", error: error.toRecord() });
    await turn();
    expect(failures).toMatchObject([{ code: "ERR_ESTALO_VCPU_STOPPED", message: "the reason" }]);
  });

  it("rejects when a thread cannot attach, with its reason", async () => {
    const { group, threads } = createGroup();
    const refused = new EstaloError("ERR_ESTALO_HOST", "attach vCPU 0: ENOMEM");
    threads[0].attachReply = refused.toRecord();
    await expect(group.attach()).rejects.toMatchObject({ message: refused.message });
    await group.detach();
    expect(pool.back).toHaveLength(2);
  });

  it("tells why a thread cannot attach before its vCPU is told of as missing", async () => {
    const { group, threads, run, failures } = createGroup();
    const refused = new EstaloError("ERR_ESTALO_HOST", "attach vCPU 0: ENOMEM");
    threads[0].attachReply = refused.toRecord();
    const attached = group.attach();
    run();
    const missing = new EstaloError("ERR_ESTALO_BUG", "a vCPU thread was run without a vCPU");
    threads[0].end({ kind: "failed", error: missing.toRecord() });
    await expect(attached).rejects.toMatchObject({ message: refused.message });
    expect(failures[0]).toMatchObject({ message: refused.message });
  });

  it("leaves no rejection unheard when a thread dies while others are still to attach", async () => {
    const { group, threads, run, failures } = createGroup();
    const unheard: unknown[] = [];
    const onUnheard = (error: unknown) => unheard.push(error);
    process.on("unhandledRejection", onUnheard);
    onTestFinished(() => void process.off("unhandledRejection", onUnheard));
    threads[0].attach = async () => Promise.reject(DIED);
    const attached = group.attach();
    run();
    await expect(attached).rejects.toBe(DIED);
    await turn();
    expect(unheard).toEqual([]);
    expect(failures).toEqual([]);
  });

  it("counts exits as unsigned numbers", () => {
    const { group, controls } = createGroup();
    controls[1][k.VCPU_CONTROL_EXITS_IO_IN_OFFSET / 4] = -1;
    controls[1][k.VCPU_CONTROL_KICKS_OFFSET / 4] = 3;
    expect(group.counters()[1]).toEqual({
      exitIoIn: 2 ** 32 - 1,
      exitIoOut: 0,
      exitMmioRead: 0,
      exitMmioWrite: 0,
      exitOther: 0,
      kicks: 3,
    });
  });
});
