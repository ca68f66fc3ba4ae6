/**
 * The vCPUs of one microVM and the threads that run them: attach, run, leave, detach, together.
 *
 *     take threads ─▶ attach ─▶ run … every thread is in the guest … leave (pending, kick) ─▶ detach ─▶ give back
 *
 * The first vCPU's thread is asked for when the group is made, so that it starts while the machine is being built. Those of
 * the others come one by one behind it, a turn of the event loop for each: starting a thread costs more than making the
 * machine, the guest begins with one vCPU, and wakes the others when theirs may already be there (they wait for that in KVM).
 * A thread that dies, or a vCPU that cannot go on, is reported once; nothing waits for a dead thread.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { type ErrorRecord, EstaloError, toEstaloError } from "../errors.js";
import { VCPU_REGS } from "../native/binding.js";
import { KVM_REGS } from "../native/kvm-structs.js";
import * as k from "../native/layouts.js";
import { TraceReader } from "../native/trace-ring.js";
import { hex } from "../units.js";
import type { Machine } from "./machine.js";
import { type DeviceWindow, GO_HOME, LEAVE, type VcpuOutcome } from "./messages.js";
import type { SharedBlock } from "./shared-block.js";
import { type VcpuThreadHandle, vcpuThreads } from "./transport.js";

/** A kick that a vCPU did not notice is repeated after this: a front's wait does not see signals, ms. */
const KICK_AGAIN_MS = 20;
/** Exits shown when a vCPU fails. */
const LAST_EXITS = 16;

/** Exits of one vCPU since it was created; 32-bit counters that wrap. */
export interface VcpuCounters {
  readonly exitIoIn: number;
  readonly exitIoOut: number;
  readonly exitMmioRead: number;
  readonly exitMmioWrite: number;
  readonly exitOther: number;
  readonly kicks: number;
}

interface Connection {
  readonly machine: Machine;
  readonly block: SharedBlock;
  readonly windows: readonly DeviceWindow[];
  readonly hostFd: number;
}

/**
 * Groups with vCPUs in the guest. Node waits for its threads when a process ends, by `process.exit` or by an
 * exception nobody caught, and a thread in KVM_RUN never ends by itself.
 */
const inGuest = new Set<VcpuGroup>();

function sendHome(): void {
  for (const group of inGuest) group.kick(GO_HOME);
}

/** See the file's header. Thread: the supervisor's. */
export class VcpuGroup {
  readonly #onFailed: (error: EstaloError) => void;
  readonly #count: number;
  #threads: VcpuThreadHandle[] = [];
  /** So many of them have a vCPU. */
  #attachedCount = 0;
  /** Who hears of a triple fault while the vCPUs are in the guest. */
  #onShutdown: (() => void) | undefined;
  #running: Promise<void>[] = [];
  #connection: Connection | undefined;
  #control: Int32Array[] = [];

  constructor(count: number, onFailed: (error: EstaloError) => void) {
    this.#count = count;
    this.#onFailed = onFailed;
    this.#threads.push(vcpuThreads.take());
  }

  /** Joins the group to the machine it runs and to the devices its exits go to. */
  connect(
    machine: Machine,
    block: SharedBlock,
    devices: { readonly windows: readonly DeviceWindow[]; readonly hostFd: number },
  ): void {
    this.#connection = { machine, block, ...devices };
    this.#control = block.vcpus.map(
      ({ controlOffset }) => new Int32Array(block.buffer, controlOffset, k.VCPU_CONTROL_BYTES / 4),
    );
  }

  /**
   * Gives every vCPU a thread; fulfilled when all of them have it. `run` need not wait for that: a thread takes
   * both messages in one turn, which saves a start a wake-up of each thread. `leave` has to.
   */
  async attach(): Promise<void> {
    const replies: Promise<ErrorRecord | undefined>[] = [];
    while (this.#attachedCount < this.#count) {
      const vcpu = this.#attachedCount;
      if (vcpu > 0) await nextTurn();
      this.#threads[vcpu] ??= vcpuThreads.take();
      const reply = this.#attachOne(vcpu);
      replies.push(reply);
      // At once: before its `run` tells that there is no vCPU, and while others are still to attach.
      reply
        .then((failed) => failed && this.#onFailed(EstaloError.fromRecord(failed)))
        .catch(() => {});
      this.#attachedCount++;
      if (this.#onShutdown !== undefined) this.#runOne(vcpu, this.#onShutdown);
    }
    const failed = (await Promise.all(replies)).find((reply) => reply !== undefined);
    if (failed !== undefined) throw EstaloError.fromRecord(failed);
  }

  /** Lets all vCPUs into the guest. `onShutdown`: one of them met a triple fault. */
  run(onShutdown: () => void): void {
    for (const control of this.#control) {
      Atomics.store(control, k.VCPU_CONTROL_PENDING_OFFSET / 4, 0);
    }
    if (inGuest.size === 0) process.on("exit", sendHome);
    inGuest.add(this);
    this.#onShutdown = onShutdown;
    for (let vcpu = 0; vcpu < this.#attachedCount; vcpu++) this.#runOne(vcpu, onShutdown);
  }

  /** Makes every vCPU leave the guest; fulfilled when all have. */
  async leave(): Promise<void> {
    this.#onShutdown = undefined;
    const running = this.#running;
    if (running.length === 0) return;
    this.#running = [];
    this.kick();
    const again = setInterval(() => this.kick(), KICK_AGAIN_MS);
    try {
      await Promise.all(running);
    } finally {
      clearInterval(again);
      inGuest.delete(this);
      if (inGuest.size === 0) process.off("exit", sendHome);
    }
  }

  /** Asks every vCPU to leave the guest, without waiting. */
  kick(pending: typeof LEAVE | typeof GO_HOME = LEAVE): void {
    for (const [vcpu, control] of this.#control.entries()) {
      Atomics.store(control, k.VCPU_CONTROL_PENDING_OFFSET / 4, pending);
      if (Atomics.load(control, k.VCPU_CONTROL_TID_OFFSET / 4) !== 0) {
        this.#connected().machine.vcpus[vcpu].kick();
      }
    }
  }

  /** Gives back memory that the threads do not need. No vCPU runs. */
  async trim(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.trim()));
  }

  /** Takes the vCPUs from their threads, and gives the threads back. No vCPU runs. */
  async detach(): Promise<void> {
    const threads = this.#threads.splice(0);
    const attachedCount = this.#attachedCount;
    this.#attachedCount = 0;
    await Promise.all(
      threads.map(async (thread, vcpu) => {
        // A thread that died meanwhile has let go for good.
        if (vcpu < attachedCount && thread.alive) await thread.detach().catch(() => {});
        await vcpuThreads.giveBack(thread);
      }),
    );
  }

  /** Gives back threads that never got a vCPU. */
  close(): void {
    for (const thread of this.#threads.splice(0)) void vcpuThreads.giveBack(thread);
  }

  counters(): VcpuCounters[] {
    const first = k.VCPU_CONTROL_EXITS_IO_IN_OFFSET / 4;
    return this.#control.map((control) => ({
      exitIoIn: control[first] >>> 0,
      exitIoOut: control[first + 1] >>> 0,
      exitMmioRead: control[first + 2] >>> 0,
      exitMmioWrite: control[first + 3] >>> 0,
      exitOther: control[first + 4] >>> 0,
      kicks: control[k.VCPU_CONTROL_KICKS_OFFSET / 4] >>> 0,
    }));
  }

  /** The kernel's number of the thread that each vCPU runs on now; 0: none. */
  threadIds(): number[] {
    return this.#control.map((control) => Atomics.load(control, k.VCPU_CONTROL_TID_OFFSET / 4));
  }

  /** A reader per vCPU, from its oldest kept exit on. */
  traceReaders(): TraceReader[] {
    const { block } = this.#connected();
    return block.vcpus.map(
      ({ traceOffset }) => new TraceReader(block.buffer, traceOffset, k.TRACE_RECORDS),
    );
  }

  #attachOne(vcpu: number): Promise<ErrorRecord | undefined> {
    const { machine, block, windows, hostFd } = this.#connected();
    return this.#threads[vcpu].attach({
      vcpu,
      vcpuFd: machine.vcpus[vcpu].fd,
      mmapBytes: machine.vcpuMmapBytes,
      shared: block.buffer,
      block: block.vcpus[vcpu],
      hostFd,
      devices: windows,
    });
  }

  #runOne(vcpu: number, onShutdown: () => void): void {
    const outcome = this.#threads[vcpu].run();
    this.#running.push(
      outcome
        .then((it) => this.#returned(vcpu, it, onShutdown))
        .catch((error) => this.#onFailed(toEstaloError(error))),
    );
  }

  #connected(): Connection {
    if (this.#connection === undefined) {
      throw new EstaloError("ERR_ESTALO_BUG", "the vCPU group has no machine yet");
    }
    return this.#connection;
  }

  #returned(vcpu: number, outcome: VcpuOutcome, onShutdown: () => void): void {
    if (outcome.kind === "shutdown") onShutdown();
    else if (outcome.kind === "failed") this.#onFailed(this.#withLastExits(vcpu, outcome.error));
  }

  /** The failure with what the vCPU did last, for whoever has to find out why. */
  #withLastExits(vcpu: number, record: Parameters<typeof EstaloError.fromRecord>[0]): EstaloError {
    const { machine, block } = this.#connected();
    const reader = new TraceReader(block.buffer, block.vcpus[vcpu].traceOffset, LAST_EXITS);
    const lastExits = reader
      .read()
      .map(
        (exit) =>
          `${exit.isWrite ? "write" : "read"} ${hex(exit.address)} ${exit.sizeBytes} bytes: ${hex(exit.data)} (KVM_EXIT ${exit.reason})`,
      );
    const registers = registersOf(machine, vcpu);
    return EstaloError.fromRecord({ ...record, data: { ...record.data, registers, lastExits } });
  }
}

/** The vCPU's registers as text; none where KVM does not give them any more. */
function registersOf(machine: Machine, vcpu: number): Record<string, string> {
  try {
    const regs = KVM_REGS.read(machine.vcpus[vcpu].getStruct(VCPU_REGS));
    return Object.fromEntries(
      Object.entries(regs).map(([name, value]) => [name, `0x${BigInt(value).toString(16)}`]),
    );
  } catch {
    return {};
  }
}
