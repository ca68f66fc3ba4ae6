/** What the library's face does on its own: aborts, patience, disposal. The supervisor behind it is played. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { MicroVmState } from "../src/actors/messages.js";
import { EstaloError } from "../src/errors.js";
import { MicroVm } from "../src/microvm.js";

const EXIT = { reason: "killed", exitCode: 137, guestStatus: undefined, error: undefined };

const played = vi.hoisted(() => ({
  calls: [] as string[],
  state: "running" as string,
  end: () => {},
  start: async () => {},
  pressed: true,
  /** What the host refuses while a microVM is made. */
  refused: undefined as Error | undefined,
  released: async () => {},
}));

vi.mock("../src/actors/machine.js", () => ({ machinesReleased: () => played.released() }));

vi.mock("../src/actors/microvm-supervisor.js", () => ({
  MicrovmSupervisor: class {
    readonly exited = new Promise((resolve) => {
      played.end = () => resolve(EXIT);
    });
    constructor(readonly config: unknown) {
      if (played.refused !== undefined) throw played.refused;
      played.calls.push("created");
    }
    get state() {
      return played.state;
    }
    start = () => played.start();
    async kill() {
      played.calls.push("kill");
      played.end();
    }
    sendCtrlAltDelete() {
      played.calls.push("ctrl-alt-delete");
      return played.pressed;
    }
  },
}));

const create = () => MicroVm.create({ kernel: "vmlinux", id: "a" });
const inState = (state: MicroVmState) => {
  played.state = state;
};

describe("MicroVm", () => {
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => unhandled.push(reason);
  beforeEach(() => {
    played.calls.length = 0;
    played.start = async () => {};
    inState("running");
    process.on("unhandledRejection", note);
  });
  afterEach(async () => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    process.off("unhandledRejection", note);
    expect(unhandled.splice(0)).toEqual([]);
  });

  it("checks its configuration before anything is made", async () => {
    await expect(MicroVm.create({ kernel: "vmlinux", vcpuCount: 0 })).rejects.toMatchObject({
      code: "ERR_ESTALO_CONFIG_INVALID",
      data: { field: "vcpuCount" },
    });
    expect(played.calls).toEqual([]);
  });

  it("is refused when nothing of what was made of it is left, which takes KVM a while", async () => {
    const refused = new EstaloError("ERR_ESTALO_KERNEL_FILE", "no such file");
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    played.refused = refused;
    played.released = () => released;
    let rejected = false;
    const attempt = create().finally(() => {
      rejected = true;
    });
    attempt.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(rejected).toBe(false);
    release();
    await expect(attempt).rejects.toBe(refused);
    played.refused = undefined;
  });

  it("is not made when the call is aborted before", async () => {
    const reason = new Error("changed my mind");
    const aborted = MicroVm.create({ kernel: "vmlinux" }, { signal: AbortSignal.abort(reason) });
    await expect(aborted).rejects.toMatchObject({ code: "ERR_ESTALO_ABORTED", cause: reason });
    expect(played.calls).toEqual([]);
  });

  it("gives up waiting when the signal aborts, and goes on", async () => {
    const vm = await create();
    const abort = new AbortController();
    const waiting = vm.wait({ signal: abort.signal });
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ code: "ERR_ESTALO_ABORTED" });
    await expect(vm.wait({ signal: AbortSignal.abort() })).rejects.toBeInstanceOf(EstaloError);
    played.end();
    expect(await vm.wait()).toBe(EXIT);
  });

  it("leaves no rejection unseen when a call fails after it was given up", async () => {
    const vm = await create();
    const abort = new AbortController();
    played.start = async () => {
      // As a subscriber to the first event may do.
      abort.abort();
      throw new EstaloError("ERR_ESTALO_HOST", "too late to matter");
    };
    await expect(vm.start({ signal: abort.signal })).rejects.toMatchObject({
      code: "ERR_ESTALO_ABORTED",
    });
  });

  it("rejects, and does not throw, what the state does not allow", async () => {
    const vm = await create();
    const error = new EstaloError("ERR_ESTALO_STATE", "not now");
    played.start = () => {
      throw error;
    };
    await expect(vm.start()).rejects.toBe(error);
    await expect(vm.start({ signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "ERR_ESTALO_ABORTED",
    });
  });

  it("stops by asking the guest first, and takes its end for the answer", async () => {
    const vm = await create();
    const stopped = vm.stop();
    expect(played.calls).toEqual(["created", "ctrl-alt-delete"]);
    played.end();
    expect(await stopped).toBe(EXIT);
  });

  it("kills a guest that does not stop in time, or when the signal aborts", async () => {
    const vm = await create();
    await vm.stop({ timeoutMs: 10 });
    expect(played.calls).toEqual(["created", "ctrl-alt-delete", "kill"]);
    const other = await create();
    const abort = new AbortController();
    const stopped = other.stop({ signal: abort.signal });
    abort.abort();
    expect(await stopped).toBe(EXIT);
  });

  it.each<MicroVmState>(["created", "paused", "starting"])(
    "kills at once when it is %s: nobody could hear the keys",
    async (state) => {
      const vm = await create();
      inState(state);
      await vm.stop();
      expect(played.calls).toEqual(["created", "kill"]);
    },
  );

  it("is killed by the end of its scope", async () => {
    const vm = await create();
    await vm[Symbol.asyncDispose]();
    expect(played.calls).toContain("kill");
  });
});
