/**
 * All devices of one microVM on its device host: which windows they answer, who is woken by what.
 *
 *     fronts (vCPU threads) ─ exit rings ─▶ DeviceBoard ─▶ back of the device that posted
 *     queue notifications ─── ioeventfd ──▶ DeviceBoard ─▶ transport.notifyQueue
 *     backs ─ KVM_IRQ_LINE, irqfd ─▶ KVM's interrupt chips
 *
 * Order of life: `describe` the devices, allocate the shared block, `attach` the backs, run, `close`.
 * A back that throws is reset (its driver sees DEVICE_NEEDS_RESET) and reported; a second time within
 * FAILURE_WINDOW_MS it takes the microVM with it.
 */

import type { GenerationGsis } from "../boot/acpi/dsdt.js";
import type { VirtioMmioWindow } from "../boot/command-line.js";
import * as layout from "../boot/layout.js";
import type { IrqLine } from "../devices/device.js";
import { STATE_WORDS } from "../devices/fronts.js";
import { I8042Back } from "../devices/i8042.js";
import { i8042Counters } from "../devices/i8042.state.js";
import type { MailboxBack } from "../devices/mailbox-back.js";
import { serialCounters } from "../devices/serial-16550.state.js";
import { SerialBack, type SerialBackOptions } from "../devices/serial-16550-back.js";
import type { VirtioBack, VirtioHost } from "../devices/virtio/device.js";
import { QUEUE_NOTIFY_OFFSET } from "../devices/virtio/mmio-transport.regs.js";
import { TransportBack } from "../devices/virtio/transport-back.js";
import { EstaloError, toEstaloError } from "../errors.js";
import { type NativeEventFd, type NativeVm, native } from "../native/binding.js";
import { EXIT_RING_BYTES, EXIT_RING_ENTRIES, ExitRingConsumer } from "../native/exit-ring.js";
import type { GuestMemory } from "../native/guest-memory.js";
import type { Gsi } from "../units.js";
import type { DeviceHost, Watch } from "./device-host.js";
import type { ExitWindow } from "./exit-decoder.js";
import type { Doorbell } from "./exit-source.js";
import {
  type CreateMailbox,
  type DescribedDevice,
  I8042,
  LEGACY_DEVICES,
  SERIAL,
} from "./legacy-devices.js";
import type { DeviceWindow } from "./messages.js";
import type { SharedBlock } from "./shared-block.js";

/** Output of the serial port waits this long for more of it, unless the port was quiet for longer than that. */
const SERIAL_DELAY_MS = 1;
const SERIAL_QUIET_MS = 10;
/** Two failures of one device within this end the microVM. */
const FAILURE_WINDOW_MS = 10_000;

/** Posts of the devices that have no back: they concern the whole machine. */
export type GuestSignal = (event: number, value: number) => void;

/** What happens on a board, for its supervisor. */
export interface BoardEvents {
  readonly onSignal: GuestSignal;
  readonly onDeviceFailed: (device: string, error: EstaloError) => void;
  readonly onNeedsReset: (device: string, reason: string) => void;
  /** A device failed twice, or the board itself did: the microVM cannot go on. */
  readonly onFatal: (error: EstaloError) => void;
}

/** Where the serial port's output goes, and how much of it. */
export type SerialWiring = Pick<SerialBackOptions, "sink" | "limit">;

/** A virtio device as the supervisor asks for it. */
export interface VirtioDeviceRequest {
  /** In events and errors, `drive root` for example. */
  readonly name: string;
  readonly create: (host: VirtioHost) => VirtioBack;
}

/** A user's device on a bus as the supervisor asks for it. */
export interface BusDeviceRequest {
  readonly name: string;
  readonly space: "pio" | "mmio";
  readonly start: number;
  readonly sizeBytes: number;
  readonly hasIrq: boolean;
  readonly createMailbox: CreateMailbox;
}

/** All devices that are not every microVM's. */
export interface BoardRequests {
  readonly virtio: readonly VirtioDeviceRequest[];
  readonly bus: readonly BusDeviceRequest[];
}

/** See the file's header. Thread: the device host's. */
export class DeviceBoard {
  /** The virtio windows in attach order, for the boot tables. */
  readonly virtioWindows: readonly VirtioMmioWindow[];
  /** Shared words of each device, for the shared block. */
  readonly deviceWords: readonly number[];
  /** The interrupts after the last device's. */
  readonly generationGsis: GenerationGsis;
  readonly transports: TransportBack[] = [];

  /** Backs of the user's devices on buses, by index. */
  readonly #mailboxes = new Map<number, MailboxBack>();
  readonly #described: readonly DescribedDevice[];
  readonly #host: DeviceHost;
  readonly #events: BoardEvents;
  /** Of every queue; each is told to `onDoorbell` when it rings. */
  readonly doorbells: Doorbell[] = [];
  onDoorbell: (doorbell: Doorbell) => void = () => {};

  readonly #eventFds: NativeEventFd[] = [];
  /** Of all exit rings. */
  #news: NativeEventFd | undefined;
  readonly #watches: Watch[] = [];
  readonly #failedAtMs = new Map<string, number>();
  #serialAtMs = Number.NEGATIVE_INFINITY;
  #isSerialRunning = false;
  #rings: ExitRingConsumer[] = [];
  #states: readonly Int32Array[] = [];
  #serial: SerialBack | undefined;
  #i8042: I8042Back | undefined;

  /** Lays the devices out; raises ERR_ESTALO_DEVICE_LIMIT when there are more than interrupts. */
  constructor(host: DeviceHost, { virtio, bus }: BoardRequests, events: BoardEvents) {
    this.#host = host;
    this.#events = events;
    // Two interrupts are left for the VM generation id and VMClock.
    const most = layout.DEVICE_GSI_LAST - layout.DEVICE_GSI_FIRST - 1;
    const asked = virtio.length + bus.filter(({ hasIrq }) => hasIrq).length;
    if (asked > most) {
      throw new EstaloError(
        "ERR_ESTALO_DEVICE_LIMIT",
        `a microVM has at most ${most} virtio devices and others with an interrupt, not ${asked}`,
        { data: { most, asked } },
      );
    }
    const placed = virtio.map(
      ({ name, create }, index): DescribedDevice => ({
        name,
        kind: "virtio-mmio",
        space: "mmio",
        start: layout.VIRTIO_MMIO_GPA + index * layout.VIRTIO_MMIO_WINDOW_BYTES,
        sizeBytes: layout.VIRTIO_MMIO_WINDOW_BYTES,
        gsi: layout.DEVICE_GSI_FIRST + index,
        create,
      }),
    );
    let gsi = layout.DEVICE_GSI_FIRST + virtio.length;
    const onBuses = bus.map(
      ({ hasIrq, ...device }): DescribedDevice => ({
        ...device,
        kind: "mailbox",
        gsi: hasIrq ? gsi++ : undefined,
        create: undefined,
      }),
    );
    this.#described = [...LEGACY_DEVICES, ...placed, ...onBuses];
    this.deviceWords = this.#described.map(({ kind }) => STATE_WORDS[kind]);
    this.virtioWindows = placed.map(({ start, gsi }) => ({ base: start, gsi: gsi as Gsi }));
    this.generationGsis = { vmGenId: gsi, vmClock: gsi + 1 };
  }

  /** Makes the backs, their interrupts and doorbells. Returns what vCPU threads need. */
  attach(
    vm: NativeVm,
    memory: GuestMemory,
    block: SharedBlock,
    serial: SerialWiring,
  ): { readonly windows: readonly DeviceWindow[]; readonly hostFd: number } {
    this.#states = block.deviceOffsets.map(
      (offset, index) => new Int32Array(block.buffer, offset, this.deviceWords[index]),
    );
    const windows = this.#described.map((device, index): DeviceWindow => {
      const irq = device.gsi === undefined ? undefined : this.#createIrq(vm, device);
      this.#createBack(device, index, this.#states[index], vm, memory, irq, serial);
      return {
        kind: device.kind,
        space: device.space,
        start: device.start,
        sizeBytes: device.sizeBytes,
        device: index,
        stateOffset: block.deviceOffsets[index],
        stateWords: this.deviceWords[index],
        irqFd: irq?.fd ?? -1,
      };
    });
    this.#rings = block.vcpus.map(
      ({ ringOffset }) =>
        new ExitRingConsumer(new Int32Array(block.buffer, ringOffset, EXIT_RING_BYTES / 4)),
    );
    const news = this.#createEventFd();
    this.#news = news;
    this.#watch(news, "exit rings", () => this.drain());
    return { windows, hostFd: news.fd };
  }

  /** Where each device is, for who looks at exits. */
  get exitWindows(): readonly ExitWindow[] {
    return this.#described;
  }

  get serial(): SerialBack {
    return this.#serial as SerialBack;
  }

  /** Counters of the legacy devices and interrupts, under the names of Firecracker's metrics; u32 ones wrap. */
  get counters() {
    const count = (key: "interruptCount" | "configInterruptCount") =>
      this.transports.reduce((sum, transport) => sum + transport[key], 0);
    return {
      uart: {
        ...serialCounters(this.#states[SERIAL]),
        flush_count: this.serial.flushCount,
        rate_limiter_dropped_bytes: this.serial.droppedBytes,
      },
      i8042: i8042Counters(this.#states[I8042]),
      interrupts: {
        triggers: count("interruptCount"),
        config_updates: count("configInterruptCount"),
      },
    };
  }

  /** Presses Ctrl, Alt and Delete; false when the guest has not read its earlier keys. */
  sendCtrlAltDelete(): boolean {
    return this.#i8042?.sendCtrlAltDelete() ?? false;
  }

  /** Takes everything that the vCPUs have posted; what they go on posting has its turn later. */
  drain(): void {
    for (const ring of this.#rings) {
      const taken = ring.drain((device, event, value) => this.#dispatch(device, event, value));
      if (taken === EXIT_RING_ENTRIES && this.#watches.length > 0) this.#news?.signal();
    }
  }

  /** The microVM ends: no vCPU waits for a user's device any more. */
  abandon(): void {
    for (const mailbox of this.#mailboxes.values()) mailbox.abandon();
  }

  /** Pause: fulfilled when no back touches guest memory any more. The vCPUs stand still already. */
  async quiesce(): Promise<void> {
    this.drain();
    this.#serial?.flush();
    await Promise.all(this.transports.map((transport) => transport.quiesce()));
  }

  /** Ends a pause; the vCPUs still stand still. */
  resume(): void {
    for (const transport of this.transports) transport.resume();
  }

  /** Closes doorbells and interrupts; the backs were quiesced and their backends are the supervisor's. */
  close(): void {
    for (const watch of this.#watches.splice(0)) watch.close();
    for (const eventFd of this.#eventFds.splice(0)) eventFd.close();
  }

  #createEventFd(): NativeEventFd {
    const eventFd = new (native().EventFd)();
    this.#eventFds.push(eventFd);
    return eventFd;
  }

  /** An irqfd where vCPU threads raise the line as well; else KVM is told, which is shorter (ADR 16). */
  #createIrq(vm: NativeVm, { kind, gsi }: DescribedDevice): IrqLine & { readonly fd: number } {
    if (kind === "virtio-mmio") return { fd: -1, raise: () => vm.pulseIrq(gsi as Gsi) };
    const eventFd = this.#createEventFd();
    vm.irqfd(eventFd.fd, gsi as Gsi);
    return { fd: eventFd.fd, raise: () => eventFd.signal() };
  }

  #watch(eventFd: NativeEventFd, device: string, handler: () => void): void {
    this.#watches.push(
      this.#host.watch(eventFd.fd, handler, (error) => this.#failed(device, toEstaloError(error))),
    );
  }

  /** What a device put off, unless the board was closed meanwhile. */
  #runLater(device: string, task: () => void): void {
    if (this.#watches.length === 0) return;
    try {
      task();
    } catch (error) {
      this.#failed(device, toEstaloError(error));
    }
  }

  /**
   * A first byte after a pause is somebody's echo, or news: at once. What follows it comes by the line, as does
   * what a task puts off itself, however long that one takes.
   */
  #serialLater(name: string, task: () => void): void {
    const now = performance.now();
    const quietMs = now - this.#serialAtMs;
    this.#serialAtMs = now;
    const run = () => {
      this.#isSerialRunning = true;
      try {
        task();
      } finally {
        this.#isSerialRunning = false;
      }
    };
    if (quietMs > SERIAL_QUIET_MS && !this.#isSerialRunning) run();
    else setTimeout(() => this.#runLater(name, run), SERIAL_DELAY_MS);
  }

  #createBack(
    device: DescribedDevice,
    index: number,
    state: Int32Array,
    vm: NativeVm,
    memory: GuestMemory,
    irq: IrqLine | undefined,
    serial: SerialWiring,
  ): void {
    if (index === SERIAL) {
      this.#serial = new SerialBack(state, {
        irq: irq as IrqLine,
        ...serial,
        waitForRts: true,
        later: (task) => this.#serialLater(device.name, task),
      });
    } else if (index === I8042) {
      this.#i8042 = new I8042Back(state, irq as IrqLine);
    } else if (device.createMailbox !== undefined) {
      this.#mailboxes.set(
        index,
        device.createMailbox(state, {
          irq,
          gsi: device.gsi,
          onFailed: (error) => this.#runLater(device.name, () => rethrow(error)),
          schedule: (delayMs, task) => {
            const timer = setTimeout(task, delayMs).unref();
            return () => clearTimeout(timer);
          },
        }),
      );
    } else if (device.create !== undefined) {
      const transport = new TransportBack(
        state,
        {
          memory,
          irq: irq as IrqLine,
          onNeedsReset: (reason) => this.#events.onNeedsReset(device.name, reason),
          onFailed: (error) => this.#runLater(device.name, () => rethrow(error)),
          // A later turn of the event loop: what a busy queue leaves for others to go first.
          defer: (task) => setImmediate(() => this.#runLater(device.name, task)),
        },
        device.create,
      );
      this.transports.push(transport);
      for (const queue of transport.device.queueSizes.keys()) {
        const eventFd = this.#createEventFd();
        const doorbell = { address: device.start + QUEUE_NOTIFY_OFFSET, queue, eventFd };
        this.doorbells.push(doorbell);
        vm.ioeventfd(eventFd.fd, doorbell.address, 4, queue);
        this.#watch(eventFd, device.name, () => {
          this.onDoorbell(doorbell);
          transport.notifyQueue(queue);
        });
      }
    }
  }

  #dispatch(index: number, event: number, value: number): void {
    const device = this.#described[index];
    try {
      if (index === SERIAL) this.#serial?.handleEvent(event);
      else if (index < LEGACY_DEVICES.length) this.#events.onSignal(event, value);
      else if (device.kind === "mailbox") this.#mailboxes.get(index)?.handleEvent(event, value);
      else this.transports[index - LEGACY_DEVICES.length].handleEvent(event, value);
    } catch (error) {
      this.#failed(device.name, toEstaloError(error));
    }
  }

  #failed(name: string, error: EstaloError): void {
    const wrapped = new EstaloError("ERR_ESTALO_DEVICE_FAILED", `${name}: ${error.message}`, {
      cause: error,
      data: { device: name },
    });
    this.#events.onDeviceFailed(name, wrapped);
    const last = this.#failedAtMs.get(name);
    const now = performance.now();
    this.#failedAtMs.set(name, now);
    const index = this.#described.findIndex((device) => device.name === name);
    const transport = this.transports[index - LEGACY_DEVICES.length];
    const device = this.#mailboxes.get(index) ?? transport;
    if (device === undefined || (last !== undefined && now - last < FAILURE_WINDOW_MS)) {
      this.#events.onFatal(wrapped);
      return;
    }
    const restart = async () =>
      device === transport ? transport.fail(error.message) : this.#mailboxes.get(index)?.reset();
    restart().catch((cause) => this.#events.onFatal(toEstaloError(cause)));
  }
}

function rethrow(error: unknown): never {
  throw error;
}
