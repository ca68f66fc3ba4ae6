/**
 * One microVM in its cell: what the server calls, done by a supervisor, whose life is told to the server.
 */
import type { Duplex } from "node:stream";
import { openDiskFile } from "../actors/backends/disk-file.js";
import { GivenFiles } from "../actors/given-files.js";
import { machinesReleased } from "../actors/machine.js";
import { MicrovmSupervisor } from "../actors/microvm-supervisor.js";
import { runningMetricsOf } from "../actors/running-microvm.js";
import { encodeExitFrame } from "../api/exit-frames.js";
import { EstaloError } from "../errors.js";
import { native } from "../native/binding.js";
import {
  type CellCall,
  type CellCalls,
  type CellMessage,
  receivedConfig,
  type SentFiles,
  sentError,
} from "./cell-messages.js";
import type { Channel, ChannelStream } from "./channel.js";
import { openDuplex } from "./stream-duplex.js";

/** What a cell's microVMs share. */
export interface CellSurroundings {
  readonly channel: Channel;
  /** Where descriptors come from. */
  readonly descriptors: number;
  /** It has ended, and nothing of it is left. */
  onEnd(vm: number): void;
}

/** Folder of vsock sockets in the jail. */
const SOCKET_FOLDER = "/run";

/** Takes the files that were sent ahead of a call: all, also if one cannot be had, so that the next call has its own. */
export function receiveFiles(files: SentFiles, socket: number): GivenFiles {
  const given = new GivenFiles();
  const failures: unknown[] = [];
  for (const use of files) {
    try {
      given.add(use, native().receiveDescriptor(socket));
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length === 0) return given;
  given.close();
  throw failures[0];
}

/** See the file's header. */
export class CellMicrovm {
  readonly #surroundings: CellSurroundings;
  readonly #supervisor: MicrovmSupervisor;

  private constructor(
    vm: number,
    surroundings: CellSurroundings,
    supervisor: MicrovmSupervisor,
    console: number,
  ) {
    this.#surroundings = surroundings;
    this.#supervisor = supervisor;
    const stream = this.#openConsole(console);
    supervisor.events.stream.subscribe((event) => {
      if (event.type === "exited") return;
      const { atMs: _, ...untimed } = event;
      const sent =
        untimed.type === "device-failed"
          ? { ...untimed, error: sentError(untimed.error) }
          : untimed;
      this.#post({ vm, event: sent } as unknown as CellMessage);
    });
    void supervisor.exited.then((exit) => {
      stream.close();
      const { error } = exit;
      const sent = { ...exit, error: error && sentError(error) };
      this.#post({ vm, exit: sent, metrics: this.#metrics() });
      surroundings.onEnd(vm);
    });
  }

  /** Makes it; raises what is wrong with its configuration. */
  static async create(
    vm: number,
    { config: sent, files, console }: CellCalls["create"],
    surroundings: CellSurroundings,
  ): Promise<CellMicrovm> {
    const config = receivedConfig(sent);
    const given = receiveFiles(files, surroundings.descriptors);
    const vsock = config.vsock?.udsPath && {
      vsock: { ...config.vsock, udsPath: `${SOCKET_FOLDER}/${config.id}.vsock` },
    };
    try {
      const supervisor = new MicrovmSupervisor({ ...config, ...vsock }, given);
      return new CellMicrovm(vm, surroundings, supervisor, console);
    } catch (error) {
      await machinesReleased();
      throw error;
    } finally {
      given.close();
    }
  }

  /** What the server hears of it when it was made. */
  get made() {
    const { devices, hasRip } = this.#supervisor.exits;
    return { devices, hasRip };
  }

  /** Does a call; the answer's value. */
  async call(method: CellCall, args: unknown): Promise<unknown> {
    const supervisor = this.#supervisor;
    switch (method) {
      case "start":
      case "pause":
      case "resume":
      case "kill":
        return supervisor[method]();
      case "ctrlAltDelete":
        return supervisor.sendCtrlAltDelete();
      case "metrics":
        return { metrics: this.#metrics(), threads: supervisor.vcpuThreads.map(numberOf) };
      case "updateDrive":
        return this.#updateDrive(args as CellCalls["updateDrive"]);
      case "updateInterface": {
        const { id, change } = args as CellCalls["updateInterface"];
        return supervisor.devices.interfaces.update(id, change);
      }
      case "limitPmem": {
        const { id, change } = args as CellCalls["limitPmem"];
        return supervisor.devices.pmem.limit(id, change);
      }
      case "limitEntropy":
        return supervisor.devices.limitEntropy((args as CellCalls["limitEntropy"]).change);
      case "limitSerial":
        return supervisor.devices.limitSerial((args as CellCalls["limitSerial"]).bucket);
      case "plugMemory": {
        const { requestedSizeMib } = args as CellCalls["plugMemory"];
        return supervisor.devices.requireMemoryHotplug().setRequestedSize(requestedSizeMib);
      }
      case "pluggedMemory":
        return supervisor.devices.requireMemoryHotplug().report();
      case "metadata": {
        const { data } = args as CellCalls["metadata"];
        return supervisor.devices.requireMetadata().data.put(data as Record<string, unknown>);
      }
      case "balloon":
        return this.#balloon(args as CellCalls["balloon"]);
      case "agent":
        return this.#openAgent((args as CellCalls["agent"]).stream);
      case "exits":
        return this.#watchExits(args as CellCalls["exits"]);
      case "rateLimits":
        return this.#watchRateLimits((args as CellCalls["rateLimits"]).stream);
      default:
        throw new EstaloError("ERR_ESTALO_BUG", `a cell knows no call ${method}`);
    }
  }

  #post(message: CellMessage): void {
    this.#surroundings.channel.post(message);
  }

  #metrics() {
    return runningMetricsOf(this.#supervisor.metrics);
  }

  /** The guest waits for a server that does not read, and the server for a guest. */
  #openConsole(id: number): ChannelStream {
    const { console } = this.#supervisor;
    const waiting: Uint8Array[] = [];
    let release: (() => void) | undefined;
    const pump = () => {
      while (waiting.length > 0 && stream.isOpen) {
        const rest = waiting[0].subarray(stream.send(waiting[0]));
        if (rest.length > 0) {
          waiting[0] = rest;
          release ??= console.holdOutput();
          return;
        }
        waiting.shift();
      }
      const held = release;
      release = undefined;
      held?.();
    };
    const { stream } = this.#surroundings.channel.open(
      {
        onBytes: (bytes) => {
          const { length } = bytes;
          void console.send(bytes).then(() => stream.taken(length));
        },
        onRoom: pump,
        onEnd: pump,
      },
      id,
    );
    console.read((bytes) => {
      waiting.push(bytes);
      if (waiting.length === 1) pump();
    }, true);
    return stream;
  }

  async #updateDrive({ drive, change, files }: CellCalls["updateDrive"]): Promise<void> {
    const given = receiveFiles(files, this.#surroundings.descriptors);
    const { path = "", readOnly = false } =
      this.#supervisor.config.drives.find(({ id }) => id === drive) ?? {};
    try {
      const { state } = this.#supervisor;
      const isAlive = state === "running" || state === "paused";
      const fd = isAlive ? given.take(`drive ${drive}`) : undefined;
      const file = fd === undefined ? undefined : openDiskFile({ id: drive, path, readOnly }, fd);
      await this.#supervisor.updateDrive(drive, change, file);
    } finally {
      given.close();
    }
  }

  #balloon({ operation, value }: CellCalls["balloon"]): unknown {
    const balloon = this.#supervisor.devices.requireBalloon();
    switch (operation) {
      case "setTarget":
        return balloon.setTarget(Number(value));
      case "setStatsInterval":
        return balloon.setStatsInterval(Number(value));
      case "amounts":
        return balloon.amounts;
      case "report":
        return balloon.report();
      case "startHinting":
        return balloon.startHinting(value !== false);
      case "stopHinting":
        return balloon.stopHinting();
      default:
        return balloon.hinting;
    }
  }

  /** Joins a stream of the server's to the guest's agent. */
  async #openAgent(id: number): Promise<void> {
    const { agent } = this.#supervisor.devices.requireVsock();
    const gone = new AbortController();
    const { duplex } = openDuplex(this.#surroundings.channel, id);
    duplex.on("close", () => gone.abort()).on("error", () => {});
    let guest: Duplex;
    try {
      guest = await agent.openStream(gone.signal);
    } catch (error) {
      duplex.destroy();
      throw error;
    }
    if (duplex.destroyed) {
      guest.destroy();
      return;
    }
    guest.on("error", () => {});
    guest.pipe(duplex);
    duplex.pipe(guest);
    duplex.on("close", () => guest.destroy());
    guest.on("close", () => duplex.end());
    // In the turn in which it was taken, which says so no more.
    if (guest.destroyed) duplex.end();
  }

  #watchExits({ stream: id, options }: CellCalls["exits"]): void {
    const { exits } = this.#supervisor;
    const { channel } = this.#surroundings;
    // A frame that has no room is dropped, and counted by its watcher as what it is not ready for.
    const isReady = () => stream.room >= FRAME_ROOM_BYTES;
    const batches = exits.batches({ ...options, isReady });
    const { stream } = channel.open(
      { onBytes: () => {}, onEnd: () => subscription?.unsubscribe() },
      id,
    );
    const subscription = batches.subscribe({
      next: (batch) => stream.sendWhole(encodeExitFrame(batch)),
      complete: () => stream.close(),
    });
  }

  #watchRateLimits(id: number): void {
    let dropped = 0;
    const { stream } = this.#surroundings.channel.open(
      { onBytes: () => {}, onEnd: () => subscription?.unsubscribe() },
      id,
    );
    const subscription = this.#supervisor.devices.rateLimits$.subscribe({
      next: (event) => {
        if (!stream.sendWhole(Buffer.from(JSON.stringify({ ...event, dropped })))) dropped += 1;
      },
      complete: () => stream.close(),
    });
  }
}

/** Of a thread's folder; 0: there is none. */
function numberOf(folder: string): number {
  return Number(folder.slice(folder.lastIndexOf("/") + 1));
}

/** The largest frame of exits: 1024 of 52 bytes, and its header. */
const FRAME_ROOM_BYTES = 56 * 1024;
