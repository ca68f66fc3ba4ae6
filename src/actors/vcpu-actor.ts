/**
 * A vCPU on its worker thread: enters the guest, and answers its exits from the device fronts, here.
 *
 *     run() ──▶ native KVM_RUN ──▶ exit ──▶ bus ──▶ front (shared words, under the device's lock)
 *       ▲                                              │ post
 *       └──────────────────────────────────────────────┴──▶ exit ring ──▶ device host
 *
 * While `run` runs, the thread is outside its event loop: the supervisor reaches it by `pending` and a kick
 * only. One exit costs no promise and no allocation.
 */
import { Bus } from "../devices/bus.js";
import { createFront } from "../devices/fronts.js";
import { EstaloError, hostError, toEstaloError } from "../errors.js";
import { type NativeVcpuRunner, native } from "../native/binding.js";
import { EXIT_RING_BYTES, ExitRingProducer } from "../native/exit-ring.js";
import * as k from "../native/layouts.js";
import { hex } from "../units.js";
import {
  type DeviceWindow,
  GO_HOME,
  type VcpuOutcome,
  type VcpuSetup,
  type VcpuThread,
} from "./messages.js";

/** How long a front's wait sleeps before it looks whether the vCPU has to leave, ms. */
const WAIT_SLICE_MS = 10;
/** How long a front sleeps before it asks a user's device again, ms. */
const ANSWER_SLICE_MS = 100;

/** What a vCPU thread holds while it has a vCPU. */
interface Attachment {
  readonly setup: VcpuSetup;
  readonly runner: NativeVcpuRunner;
  readonly page: DataView;
  readonly bytes: Uint8Array;
  readonly pio: Bus;
  readonly mmio: Bus;
}

/** The logic of a vCPU thread; `vcpu.worker.ts` puts it behind Comlink. */
export class VcpuActor implements VcpuThread {
  #attached: Attachment | undefined;

  attach(setup: VcpuSetup) {
    try {
      const { shared, block } = setup;
      const control = new Uint32Array(shared, block.controlOffset, k.VCPU_CONTROL_BYTES / 4);
      const trace = new Uint32Array(shared, block.traceOffset, k.TRACE_BYTES / 4);
      const runner = new (native().VcpuRunner)(
        setup.vcpuFd,
        setup.mmapBytes,
        control,
        trace,
        `fc_vcpu ${setup.vcpu}`,
      );
      const pending = () => Atomics.load(control, k.VCPU_CONTROL_PENDING_OFFSET / 4);
      const leaving = () => pending() !== 0;
      const ring = new ExitRingProducer(
        new Int32Array(shared, block.ringOffset, EXIT_RING_BYTES / 4),
        () => native().signalEventFd(setup.hostFd),
        () => pending() === GO_HOME,
      );
      const page = runner.runPage;
      this.#attached = {
        setup,
        runner,
        page: new DataView(page),
        bytes: new Uint8Array(page),
        pio: buildBus(setup, "pio", ring, leaving),
        mmio: buildBus(setup, "mmio", ring, leaving),
      };
      return undefined;
    } catch (error) {
      return hostError("attach", `vCPU ${setup.vcpu}`, error).toRecord();
    }
  }

  run(): VcpuOutcome {
    const attached = this.#attached;
    if (attached === undefined) {
      const error = new EstaloError("ERR_ESTALO_BUG", "a vCPU thread was run without a vCPU");
      return { kind: "failed", error: error.toRecord() };
    }
    try {
      return this.#loop(attached);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).syscall === undefined ? undefined : "KVM_RUN";
      const failure =
        code === undefined
          ? toEstaloError(error)
          : hostError(code, `vCPU ${attached.setup.vcpu}`, error, "ERR_ESTALO_VCPU_STOPPED");
      return { kind: "failed", error: failure.toRecord() };
    }
  }

  detach(): void {
    this.#attached?.runner.release();
    this.#attached = undefined;
  }

  #loop(attached: Attachment): VcpuOutcome {
    const { runner } = attached;
    for (;;) {
      const reason = runner.run();
      if (reason === k.KVM_EXIT_IO) portIo(attached);
      else if (reason === k.KVM_EXIT_MMIO) memoryIo(attached);
      else if (reason === k.EXIT_KICKED) return { kind: "kicked" };
      else if (reason === k.KVM_EXIT_SHUTDOWN) return { kind: "shutdown" };
      else return { kind: "failed", error: unexpectedExit(attached, reason).toRecord() };
    }
  }
}

/** One bus of this thread, with a front of its own for every window in `space`. */
function buildBus(
  setup: VcpuSetup,
  space: DeviceWindow["space"],
  ring: ExitRingProducer,
  leaving: () => boolean,
): Bus {
  const bus = new Bus();
  for (const window of setup.devices) {
    if (window.space !== space) continue;
    const state = new Int32Array(setup.shared, window.stateOffset, window.stateWords);
    const front = createFront(window.kind, {
      state,
      post: (event, value) => ring.post(window.device, event, value),
      raiseIrq: () => native().signalEventFd(window.irqFd),
      waitWhile: (word, value) => {
        while (Atomics.load(state, word) === value && !leaving()) {
          Atomics.wait(state, word, value, WAIT_SLICE_MS);
        }
      },
      waitAnswer: (word, value) => {
        Atomics.wait(state, word, value, ANSWER_SLICE_MS);
        return Atomics.load(state, word) !== value;
      },
    });
    bus.add({ start: window.start, sizeBytes: window.sizeBytes, front, state });
  }
  return bus;
}

/** KVM_EXIT_IO: one access, or `count` of them for a string instruction. */
function portIo({ page, bytes, pio }: Attachment): void {
  const sizeBytes = bytes[k.KVM_RUN_IO_SIZE_OFFSET];
  const port = page.getUint16(k.KVM_RUN_IO_PORT_OFFSET, true);
  const count = page.getUint32(k.KVM_RUN_IO_COUNT_OFFSET, true);
  // KVM keeps the data within the run mapping; its offset fits in 32 bits.
  let at = page.getUint32(k.KVM_RUN_IO_DATA_OFFSET_OFFSET, true);
  const isWrite = bytes[k.KVM_RUN_IO_DIRECTION_OFFSET] === 1;
  for (let i = 0; i < count; i++, at += sizeBytes) {
    if (isWrite) pio.write(port, sizeBytes, load(page, at, sizeBytes));
    else store(page, at, sizeBytes, pio.read(port, sizeBytes));
  }
}

/** KVM_EXIT_MMIO; eight bytes are two accesses of four, the low one first. */
function memoryIo({ page, bytes, mmio }: Attachment): void {
  const sizeBytes = page.getUint32(k.KVM_RUN_MMIO_LEN_OFFSET, true);
  const address =
    page.getUint32(k.KVM_RUN_MMIO_PHYS_ADDR_OFFSET, true) +
    page.getUint32(k.KVM_RUN_MMIO_PHYS_ADDR_OFFSET + 4, true) * 2 ** 32;
  const isWrite = bytes[k.KVM_RUN_MMIO_IS_WRITE_OFFSET] !== 0;
  const step = sizeBytes === 8 ? 4 : sizeBytes;
  for (let done = 0; done < sizeBytes; done += step) {
    const at = k.KVM_RUN_MMIO_DATA_OFFSET + done;
    if (isWrite) mmio.write(address + done, step, load(page, at, step));
    else store(page, at, step, mmio.read(address + done, step));
  }
}

function load(page: DataView, at: number, sizeBytes: number): number {
  switch (sizeBytes) {
    case 1:
      return page.getUint8(at);
    case 2:
      return page.getUint16(at, true);
    default:
      return page.getUint32(at, true);
  }
}

function store(page: DataView, at: number, sizeBytes: number, value: number): void {
  if (sizeBytes === 1) page.setUint8(at, value);
  else if (sizeBytes === 2) page.setUint16(at, value, true);
  else page.setUint32(at, value, true);
  // A part of an access across a page, which no device answers.
  if (sizeBytes > 4) page.setUint32(at + 4, 0, true);
}

/** An exit that ends the vCPU, with what KVM says about it. */
function unexpectedExit({ setup, page }: Attachment, reason: number): EstaloError {
  const who = `vCPU ${setup.vcpu}`;
  if (reason === k.KVM_EXIT_INTERNAL_ERROR) {
    const suberror = page.getUint32(k.KVM_RUN_INTERNAL_SUBERROR_OFFSET, true);
    const count = Math.min(page.getUint32(k.KVM_RUN_INTERNAL_NDATA_OFFSET, true), 16);
    const data = Array.from({ length: count }, (_, i) =>
      hex(page.getBigUint64(k.KVM_RUN_INTERNAL_DATA_OFFSET + 8 * i, true)),
    );
    const what = suberror === 1 ? "could not emulate an instruction" : `suberror ${suberror}`;
    return new EstaloError("ERR_ESTALO_VCPU_STOPPED", `${who}: KVM_EXIT_INTERNAL_ERROR, ${what}`, {
      data: { vcpu: setup.vcpu, reason, suberror, internal: data },
    });
  }
  if (reason === k.KVM_EXIT_FAIL_ENTRY) {
    const hardware = hex(page.getBigUint64(k.KVM_RUN_FAIL_ENTRY_REASON_OFFSET, true));
    return new EstaloError("ERR_ESTALO_VCPU_STOPPED", `${who}: KVM_EXIT_FAIL_ENTRY ${hardware}`, {
      data: { vcpu: setup.vcpu, reason, hardware },
    });
  }
  return new EstaloError(
    "ERR_ESTALO_VCPU_STOPPED",
    `${who}: unexpected exit ${reason} of KVM_RUN`,
    {
      data: { vcpu: setup.vcpu, reason },
    },
  );
}
