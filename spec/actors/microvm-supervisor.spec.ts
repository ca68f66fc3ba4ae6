/**
 * The supervisor's life without KVM: machine, vCPUs and boot are played by fakes whose steps the tests
 * hold back, so that calls can come at every moment between. Devices, drives and console are real.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { checkConfig, type MicroVmConfig } from "../../src/actors/config.js";
import type { DeviceBoard } from "../../src/actors/device-board.js";
import type { MicroVmState } from "../../src/actors/messages.js";
import { MicrovmSupervisor } from "../../src/actors/microvm-supervisor.js";
import { POWER_OFF, REPORT_BOOTED, REPORT_EXIT_STATUS } from "../../src/devices/events.js";
import { TransportBack } from "../../src/devices/virtio/transport-back.js";
import { EstaloError } from "../../src/errors.js";

type BoardEvents = ConstructorParameters<typeof DeviceBoard>[2];

/** What the fakes did, and what they are to do. */
const fake = vi.hoisted(() => ({
  log: [] as string[],
  held: [] as (() => void)[],
  /** Steps that wait until `release`. */
  holding: new Set<string>(),
  failing: new Map<string, Error>(),
  onShutdown: () => {},
  onFailed: (_error: unknown) => {},
  /** What the real board tells the supervisor. */
  board: undefined as BoardEvents | undefined,
  async step(name: string): Promise<void> {
    fake.log.push(name);
    if (fake.holding.has(name)) await new Promise<void>((resolve) => fake.held.push(resolve));
    const failure = fake.failing.get(name);
    if (failure !== undefined) throw failure;
  },
  now(name: string): void {
    fake.log.push(name);
    const failure = fake.failing.get(name);
    if (failure !== undefined) throw failure;
  },
}));

vi.mock("../../src/actors/machine.js", async () => {
  const { native } = await import("../../src/native/binding.js");
  const { GuestMemory } = await import("../../src/native/guest-memory.js");
  class Machine {
    readonly mapping: { close(): void; buffer: SharedArrayBuffer };
    readonly memory: unknown;
    readonly vm = { irqfd: () => {}, ioeventfd: () => {} };
    readonly vcpus = [];
    constructor({ regions }: { regions: never[] }) {
      fake.now("machine");
      this.mapping = new (native().GuestMapping)(regions);
      this.memory = new GuestMemory(this.mapping.buffer, regions);
    }
    createVcpus() {}
    dropMissedTicks() {
      fake.now("ticks");
    }
    close() {
      this.mapping.close();
      fake.now("machine.close");
    }
  }
  return { Machine, REQUIRED_CAPABILITIES: {} };
});

vi.mock("../../src/actors/vcpu-group.js", () => ({
  VcpuGroup: class {
    constructor(_count: number, onFailed: (error: unknown) => void) {
      fake.onFailed = onFailed;
    }
    connect() {}
    attach = () => fake.step("attach");
    run(onShutdown: () => void) {
      fake.log.push("run");
      fake.onShutdown = onShutdown;
    }
    kick = () => fake.now("kick");
    leave = () => fake.step("leave");
    trim = () => fake.step("trim");
    detach = () => fake.step("detach");
    close = () => fake.now("vcpus.close");
    counters = () => [];
    traceReaders = () => [];
  },
}));

vi.mock("../../src/actors/device-board.js", async (importOriginal) => {
  const real = await importOriginal<typeof import("../../src/actors/device-board.js")>();
  class DeviceBoard extends real.DeviceBoard {
    constructor(...args: ConstructorParameters<typeof real.DeviceBoard>) {
      super(...args);
      fake.board = args[2];
    }
  }
  return { ...real, DeviceBoard };
});

vi.mock("../../src/actors/cpu-setup.js", () => ({
  cpuTemplateOf: () => undefined,
  capabilitiesFor: () => new Map(),
  setUpVcpus: () => {},
}));

vi.mock("../../src/boot/prepare-boot.js", () => ({
  prepareBoot: () => {
    fake.now("boot");
    return { commandLine: "console=ttyS0", registers: {} };
  },
}));

const folder = mkdtempSync(join(tmpdir(), "estalo-supervisor-"));
afterAll(() => rmSync(folder, { recursive: true }));
const disk = join(folder, "disk");
writeFileSync(disk, Buffer.alloc(4096));

function create(config: Partial<MicroVmConfig> = {}): MicrovmSupervisor {
  const checked = checkConfig({ kernel: "vmlinux", drives: [{ path: disk, id: "d" }], ...config });
  return new MicrovmSupervisor(checked);
}

async function running(): Promise<MicrovmSupervisor> {
  const vm = create();
  await vm.start();
  return vm;
}

/** All states it has been in, in order. */
function statesOf(vm: MicrovmSupervisor): MicroVmState[] {
  const states: MicroVmState[] = [];
  vm.events.stream.subscribe((event) => {
    if (event.type === "state") states.push(event.state);
  });
  return states;
}

function release(): void {
  fake.holding.clear();
  for (const go of fake.held.splice(0)) go();
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const STATE_ERROR = expect.objectContaining({ code: "ERR_ESTALO_STATE" });
const FREED = ["detach", "machine.close", "vcpus.close"];

afterEach(() => {
  release();
  fake.log.length = 0;
  fake.failing.clear();
});

/** A call's outcome, whether it throws or rejects. */
async function outcomeOf(call: () => unknown): Promise<unknown> {
  try {
    return await call();
  } catch (error) {
    return error;
  }
}

describe("MicrovmSupervisor", () => {
  it("goes through its states, each told once, and ends with what was asked for", async () => {
    const vm = create();
    const states = statesOf(vm);
    expect(vm.state).toBe("created");
    await vm.start();
    await vm.pause();
    await vm.resume();
    await vm.kill();
    expect(states).toEqual([
      "created",
      "starting",
      "running",
      "paused",
      "running",
      "stopping",
      "stopped",
    ]);
    expect(await vm.exited).toEqual({
      reason: "killed",
      guestStatus: undefined,
      error: undefined,
      exitCode: 137,
    });
    expect(fake.log).toEqual([
      ...["machine", "boot", "attach", "run", "leave", "ticks", "detach", "attach", "run"],
      ...["kick", "leave", "detach", "machine.close", "vcpus.close"],
    ]);
  });

  const CALLS = {
    start: (vm: MicrovmSupervisor) => vm.start(),
    pause: (vm: MicrovmSupervisor) => vm.pause(),
    resume: (vm: MicrovmSupervisor) => vm.resume(),
    sendCtrlAltDelete: (vm: MicrovmSupervisor) => vm.sendCtrlAltDelete(),
    updateDrive: (vm: MicrovmSupervisor) => vm.updateDrive("d"),
  };
  /** How to get to each state, and the calls that are legal there. */
  const LEGAL: Record<string, [reach: (vm: MicrovmSupervisor) => unknown, calls: string[]]> = {
    created: [() => {}, ["start"]],
    starting: [
      (vm) => {
        fake.holding.add("attach");
        void vm.start();
      },
      [],
    ],
    running: [(vm) => vm.start(), ["pause", "sendCtrlAltDelete", "updateDrive"]],
    paused: [
      (vm) => vm.start().then(() => vm.pause()),
      ["resume", "sendCtrlAltDelete", "updateDrive"],
    ],
    stopping: [
      async (vm) => {
        await vm.start();
        fake.holding.add("leave");
        void vm.kill();
      },
      [],
    ],
    stopped: [(vm) => vm.kill(), []],
    failed: [
      async (vm) => {
        await vm.start();
        fake.onFailed(new EstaloError("ERR_ESTALO_VCPU_STOPPED", "no more"));
        await vm.exited;
      },
      [],
    ],
  };
  const pairs = Object.entries(LEGAL).flatMap(([state, [reach, legal]]) =>
    Object.entries(CALLS).map(([name, call]) => ({
      state,
      reach,
      name,
      call,
      ok: legal.includes(name),
    })),
  );

  it.each(pairs)("$state: $name is legal: $ok", async ({ state, reach, call, ok }) => {
    const vm = create();
    await reach(vm);
    expect(vm.state).toBe(state);
    const outcome = await outcomeOf(() => call(vm));
    if (ok) expect(outcome).not.toBeInstanceOf(Error);
    else expect(outcome).toEqual(STATE_ERROR);
    release();
    await vm.kill();
    expect(["stopped", "failed"]).toContain(vm.state);
  });

  it.each(["attach", "leave", "detach"])(
    "can be killed while %s is under way, and frees everything once",
    async (step) => {
      const vm = create();
      const starting = vm.start();
      if (step === "attach") fake.holding.add(step);
      else {
        await starting;
        fake.holding.add(step);
        void vm.pause();
      }
      await turn();
      const killed = vm.kill();
      await turn();
      expect(fake.log).not.toContain("machine.close");
      release();
      await killed;
      await vm.kill();
      expect((await vm.exited).reason).toBe("killed");
      expect(fake.log.filter((name) => name === "machine.close")).toHaveLength(1);
      expect(fake.log.slice(-3)).toEqual(FREED);
    },
  );

  it("turns its vCPUs back at once when it is killed while its threads start", async () => {
    const vm = create();
    fake.holding.add("attach");
    const started = vm.start();
    await turn();
    const killed = vm.kill();
    expect(fake.log.slice(-3)).toEqual(["attach", "run", "kick"]);
    release();
    await Promise.all([started, killed]);
    const events = [];
    for await (const event of vm.events.iterate()) events.push(event);
    expect(events).not.toContainEqual(expect.objectContaining({ state: "running" }));
  });

  it("does not enter the guest when it is killed in the turn that starts it", async () => {
    const vm = create();
    const started = vm.start();
    const killed = vm.kill();
    await Promise.all([started, killed]);
    expect(fake.log).not.toContain("run");
  });

  it("resumes after a pause that is still under way, never before", async () => {
    const vm = await running();
    fake.log.length = 0;
    fake.holding.add("leave");
    const done = [vm.pause(), vm.resume()];
    await turn();
    expect(fake.log).toEqual(["leave"]);
    release();
    await Promise.all(done);
    expect(fake.log).toEqual(["leave", "ticks", "detach", "attach", "run"]);
    await vm.kill();
  });

  it("keeps the order of changes that are asked for by who hears of the one before", async () => {
    const vm = await running();
    fake.log.length = 0;
    let resumed: Promise<void> | undefined;
    const subscription = vm.events.stream.subscribe((event) => {
      if (event.type !== "state" || event.state !== "paused") return;
      subscription.unsubscribe();
      resumed = vm.resume();
    });
    await vm.pause();
    await resumed;
    expect(fake.log).toEqual(["leave", "ticks", "detach", "attach", "run"]);
    expect(vm.state).toBe("running");
    await vm.kill();
  });

  it("ends once when who hears of the end kills it again", async () => {
    const vm = await running();
    const states = statesOf(vm);
    vm.events.stream.subscribe((event) => {
      if (event.type === "state" && event.state === "stopping") void vm.kill();
    });
    await vm.kill();
    expect(states.filter((state) => state === "stopping")).toHaveLength(1);
    expect(fake.log.filter((name) => name === "machine.close")).toHaveLength(1);
  });

  it("keeps the first reason when several come together", async () => {
    const vm = await running();
    fake.onShutdown();
    fake.onFailed(new EstaloError("ERR_ESTALO_VCPU_STOPPED", "later"));
    await vm.kill();
    expect(await vm.exited).toMatchObject({ reason: "triple-fault", exitCode: 122 });
  });

  it("fails with what a vCPU or its thread died of", async () => {
    const vm = await running();
    fake.onFailed(new EstaloError("ERR_ESTALO_THREAD_DIED", "a vCPU thread ended: exit code 1"));
    expect(await vm.exited).toMatchObject({
      reason: "failed",
      exitCode: 125,
      error: { code: "ERR_ESTALO_THREAD_DIED" },
    });
    expect(vm.state).toBe("failed");
  });

  it.each(["attach", "leave", "detach"])(
    "rejects the call whose %s fails, and fails",
    async (step) => {
      const vm = create();
      const error = new EstaloError("ERR_ESTALO_HOST", step);
      fake.failing.set(step, error);
      await expect(step === "attach" ? vm.start() : vm.start().then(() => vm.pause())).rejects.toBe(
        error,
      );
      expect(await vm.exited).toMatchObject({ reason: "failed", error: { message: step } });
      expect(fake.log.slice(-3)).toEqual(FREED);
    },
  );

  it.each(["leave", "detach", "machine.close", "vcpus.close"])(
    "frees all else, and says so, when %s fails at the end",
    async (step) => {
      const vm = await running();
      fake.failing.set(step, new EstaloError("ERR_ESTALO_HOST", step));
      await vm.kill();
      expect(await vm.exited).toMatchObject({ reason: "failed", error: { message: step } });
      expect(fake.log.slice(-3)).toEqual(FREED);
    },
  );

  it.each(["machine", "boot"])("leaves nothing behind when its %s cannot be made", (step) => {
    fake.failing.set(step, new EstaloError("ERR_ESTALO_HOST", step));
    expect(() => create()).toThrow(step);
    expect(fake.log).toContain("vcpus.close");
    expect(fake.log.includes("machine.close")).toBe(step === "boot");
  });

  it("has its threads collected once, when what their vCPUs waited for is done", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const settle = vi.spyOn(TransportBack.prototype, "settle");
    settle.mockImplementation(() => fake.step("settle"));
    onTestFinished(() => settle.mockRestore());
    const vm = await running();
    fake.log.length = 0;
    fake.holding.add("settle");
    vi.advanceTimersByTime(3000);
    await turn();
    expect(fake.log).toEqual(["leave", "ticks", "settle", "settle"]);
    release();
    await turn();
    expect(fake.log.slice(4)).toEqual(["trim", "run"]);
    await vm.kill();
  });

  it("lets who sends to the console go on at the end", async () => {
    const vm = await running();
    const sent = vm.console.send(new TextEncoder().encode("never read"));
    await vm.kill();
    await sent;
  });

  it("tells every event in order, with times that do not run back, and the exit last", async () => {
    const vm = await running();
    await vm.updateDrive("d");
    await vm.kill();
    const events = [];
    for await (const event of vm.events.iterate()) events.push(event);
    const types = events.map(({ type }) => type);
    expect(types).toEqual(["state", "state", "state", "drive-changed", "state", "state", "exited"]);
    const times = events.map(({ atMs }) => atMs);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  it("tells what its guest can cause so often, and the first status for the command's", async () => {
    const vm = await running();
    const counts = new Map<string, number>();
    vm.events.stream.subscribe(({ type }) => counts.set(type, (counts.get(type) ?? 0) + 1));
    for (let count = 0; count < 500; count++) {
      fake.board?.onSignal(REPORT_BOOTED, 0);
      fake.board?.onSignal(REPORT_EXIT_STATUS, 300 - count);
      fake.board?.onNeedsReset("block0", "its queue");
    }
    fake.board?.onSignal(POWER_OFF, 0);
    expect(await vm.exited).toMatchObject({ reason: "poweroff", guestStatus: 255, exitCode: 255 });
    const told = ["booted", "command-exited", "device-needs-reset"].map((type) => counts.get(type));
    expect(told).toEqual([1, 1, 100]);
  });

  it("refuses to change a drive it does not have", async () => {
    const vm = await running();
    await expect(vm.updateDrive("x")).rejects.toMatchObject({ code: "ERR_ESTALO_DRIVE_UNKNOWN" });
    await vm.kill();
  });
});
