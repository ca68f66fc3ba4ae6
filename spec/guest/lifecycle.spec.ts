/**
 * The life of a microVM, with guests of a few instructions: every end, every change of state, and what is
 * left afterwards.
 */
import { spawnSync } from "node:child_process";
import { type ExitReason, MicroVm, type MicroVmConfig } from "estalo";
import { afterAll, describe, expect, it } from "vitest";
import { holdings, threadNames } from "../support/guest-host.js";
import { expectEnd, GUEST_PATIENCE_MS, guestReport, untilGuest } from "../support/guest-report.js";
import { print, Scratch, TINY_GUESTS } from "../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

function create(code: readonly number[], more: MicroVmConfig = {}): Promise<MicroVm> {
  const kernel = scratch.guest("guest", code);
  return MicroVm.create({ kernel, bootArgs: "", memoryMib: 64, ...more });
}

async function runToEnd(code: readonly number[], more: MicroVmConfig = {}) {
  await using vm = await create(code, more);
  let text = "";
  vm.console.read((bytes) => {
    text += Buffer.from(bytes).toString();
  });
  await vm.start();
  return { exit: await expectEnd(vm, {}), text, vm };
}

describe("the end of a microVM", () => {
  const ends: [keyof typeof TINY_GUESTS, ExitReason, number][] = [
    ["poweroff", "poweroff", 0],
    ["reboot", "reboot", 0],
    ["panic", "panic", 121],
    ["tripleFault", "triple-fault", 122],
  ];
  it.each(ends)(
    "of a guest that does %s has the reason %s and exit code %i",
    async (guest, reason, code) => {
      const { exit, vm } = await runToEnd(TINY_GUESTS[guest]);
      expect(exit, guestReport(vm)).toMatchObject({
        reason,
        exitCode: code,
        guestStatus: undefined,
        error: undefined,
      });
    },
  );

  it("by kill has the reason killed, while it spins and while it sleeps", async () => {
    for (const code of [TINY_GUESTS.spin, TINY_GUESTS.halt]) {
      await using vm = await create(code);
      await vm.start();
      expect(await vm.kill()).toMatchObject({ reason: "killed", exitCode: 137 });
    }
  });

  it("by a vCPU that cannot go on is failed, with registers and last exits", async () => {
    // jmp to 768 MiB, mapped by the boot page tables, where there is no memory to fetch from.
    const toNowhere = [...print("x", []), 0xb8, 0, 0, 0, 0x30, 0xff, 0xe0];
    const { exit, vm } = await runToEnd(toNowhere);
    expect(exit, guestReport(vm)).toMatchObject({ reason: "failed", exitCode: 125 });
    expect(exit.error).toMatchObject({
      code: "ERR_ESTALO_VCPU_STOPPED",
      data: { vcpu: 0, registers: { rip: "0x30000000" } },
    });
    expect(String(exit.error?.data?.lastExits)).toContain("write 0x3f8 1 bytes: 0x78");
    expect(vm.state).toBe("failed");
  });

  it("comes after everything the guest wrote to its console", async () => {
    const line = "0123456789".repeat(300);
    const { text } = await runToEnd(print(line, TINY_GUESTS.poweroff));
    expect(text).toBe(line);
  });

  it("brings the last output to a reader that had held it back", async () => {
    await using vm = await create(print("abc".repeat(1000), TINY_GUESTS.poweroff));
    vm.console.holdOutput();
    let text = "";
    vm.console.read((bytes) => {
      text += Buffer.from(bytes).toString();
    });
    await vm.start();
    await expectEnd(vm, { reason: "poweroff" });
    expect(text).toBe("abc".repeat(1000));
  });

  it("stop kills a guest that ignores Ctrl-Alt-Delete when its time is over", async () => {
    await using vm = await create(TINY_GUESTS.spin);
    await vm.start();
    expect(await vm.stop({ timeoutMs: 50 })).toMatchObject({ reason: "killed" });
  });

  it("comes when the block that uses it is left", async () => {
    let kept: MicroVm;
    {
      await using vm = await create(TINY_GUESTS.spin);
      await vm.start();
      kept = vm;
    }
    expect(kept.state).toBe("stopped");
  });

  it("may come before the start, during it, and while paused", async () => {
    const unstarted = await create(TINY_GUESTS.spin);
    expect(await unstarted.kill()).toMatchObject({ reason: "killed" });

    const starting = await create(TINY_GUESTS.spin);
    const started = starting.start();
    expect(await starting.kill()).toMatchObject({ reason: "killed" });
    await started;

    const paused = await create(TINY_GUESTS.spin);
    await paused.start();
    await paused.pause();
    expect(await paused.kill()).toMatchObject({ reason: "killed" });

    const pausing = await create(TINY_GUESTS.spin);
    await pausing.start();
    const pause = pausing.pause();
    expect(await pausing.kill()).toMatchObject({ reason: "killed" });
    await pause;
  });
});

describe("pause and resume", () => {
  it("stop the guest and let it go on, any number of times", async () => {
    // Counts by writing to the serial port for ever.
    const loop = [...print(".", []), 0xeb, 0xf7];
    await using vm = await create(loop, { vcpuCount: 2 });
    let bytes = 0;
    vm.console.read((chunk) => {
      bytes += chunk.length;
    });
    await vm.start();
    for (let round = 0; round < 5; round++) {
      const before = bytes;
      await untilGuest(vm, () => bytes > before);
      await vm.pause();
      const atPause = bytes;
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(bytes).toBe(atPause);
      expect(vm.state).toBe("paused");
      await vm.resume();
    }
  });

  it("hold no thread in between", async () => {
    await using vm = await create(TINY_GUESTS.spin, { vcpuCount: 8 });
    await vm.start();
    const vcpuThreads = () => threadNames().filter((name) => name.startsWith("fc_vcpu"));
    await untilGuest(vm, () => vcpuThreads().length === 8);
    await vm.pause();
    expect(vcpuThreads()).toEqual([]);
    await vm.resume();
    await vm.pause();
  });

  it("are refused where they make no sense", async () => {
    await using vm = await create(TINY_GUESTS.spin);
    await expect(async () => vm.pause()).rejects.toMatchObject({ code: "ERR_ESTALO_STATE" });
    await vm.start();
    await expect(async () => vm.start()).rejects.toMatchObject({ code: "ERR_ESTALO_STATE" });
    await expect(async () => vm.resume()).rejects.toMatchObject({ code: "ERR_ESTALO_STATE" });
  });
});

describe("a microVM's shape", () => {
  it("has one thread per vCPU, named as Firecracker names them", async () => {
    await using vm = await create(TINY_GUESTS.spin, { vcpuCount: 4 });
    await vm.start();
    for (const name of ["fc_vcpu 0", "fc_vcpu 1", "fc_vcpu 2", "fc_vcpu 3"]) {
      expect(threadNames()).toContain(name);
    }
  });

  it("goes from 32 MiB to 16 GiB of memory, and to 32 vCPUs", async () => {
    for (const memoryMib of [32, 3072, 3073, 16384]) {
      const { exit, vm } = await runToEnd(TINY_GUESTS.poweroff, { memoryMib });
      expect(exit.reason, guestReport(vm)).toBe("poweroff");
    }
    const { exit, vm } = await runToEnd(TINY_GUESTS.poweroff, { vcpuCount: 32 });
    expect(exit.reason, guestReport(vm)).toBe("poweroff");
  });

  it("tells its life as events, from the beginning to whoever comes late", async () => {
    const { vm } = await runToEnd(TINY_GUESTS.poweroff);
    const told: string[] = [];
    for await (const event of vm.events())
      told.push(event.type === "state" ? event.state : event.type);
    expect(told).toEqual(["created", "starting", "running", "stopping", "stopped", "exited"]);
  });

  it("shows its exits in the trace ring", async () => {
    await using vm = await create(print("AB", TINY_GUESTS.halt));
    await vm.start();
    await untilGuest(vm, () => vm.metrics.vcpus[0].exitIoOut >= 2);
    await vm.pause();
    const [reader] = vm.traceReaders();
    const writes = reader.read().filter((exit) => exit.address === 0x3f8 && exit.isWrite);
    expect(writes.map((exit) => exit.data)).toEqual([65n, 66n]);
  });
});

describe("waiting with a signal", () => {
  it("gives up when it aborts, with the reason as cause, and leaves the microVM alone", async () => {
    await using vm = await create(TINY_GUESTS.spin);
    await vm.start();
    const reason = new Error("enough");
    const wait = vm.wait({ signal: AbortSignal.timeout(10) });
    await expect(wait).rejects.toMatchObject({ code: "ERR_ESTALO_ABORTED" });
    await expect(vm.wait({ signal: AbortSignal.abort(reason) })).rejects.toMatchObject({
      cause: reason,
    });
    expect(vm.state).toBe("running");
  });
});

describe("a program given on Node's command line", () => {
  function program(code: readonly number[], rest: string) {
    const kernel = scratch.guest("inline", code);
    const script = `import { MicroVm } from "estalo";
      const vm = await MicroVm.create({ kernel: ${JSON.stringify(kernel)}, bootArgs: "", vcpuCount: 2 });
      await vm.start();
      ${rest}`;
    const args = ["--input-type=module", "-e", script];
    return spawnSync(process.execPath, args, {
      encoding: "utf8",
      killSignal: "SIGKILL",
      timeout: GUEST_PATIENCE_MS,
    });
  }

  it("runs a microVM: its threads do not take over the options of its main module", () => {
    const { stdout } = program(TINY_GUESTS.poweroff, "console.log((await vm.wait()).reason);");
    expect(stdout).toBe("poweroff\n");
  });

  it("ends with its own status when it exits, or fails, while a guest runs", () => {
    expect(program(TINY_GUESTS.spin, "process.exit(3);")).toMatchObject({
      status: 3,
      signal: null,
    });
    const failed = program(TINY_GUESTS.spin, "setTimeout(() => { throw new Error('ours'); }, 50);");
    expect(failed).toMatchObject({ status: 1, signal: null });
    expect(failed.stderr).toContain("Error: ours");
  });
});

describe("a hundred microVMs one after another in one process", () => {
  it("leave descriptors, threads and memory as they were", async () => {
    for (let i = 0; i < 40; i++) await runToEnd(TINY_GUESTS.poweroff, { memoryMib: 128 });
    const before = holdings();
    for (let i = 0; i < 100; i++) await runToEnd(TINY_GUESTS.poweroff, { memoryMib: 128 });
    const after = holdings();
    expect(after.descriptors).toBeLessThanOrEqual(before.descriptors);
    expect(after.threads).toBeLessThanOrEqual(before.threads);
    // Collections come when V8 wants them: flat within what one of them gives back.
    expect(after.pssMib - before.pssMib).toBeLessThan(24);
  });
});
