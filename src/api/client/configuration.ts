/**
 * A microVM's configuration step by step, as Firecracker's API has it (door 1), below /v1/microvms/{id}/: for
 * who has its JSON already. What is put is put while the microVM is configured and does not run (else
 * ERR_ESTALO_STATE); what devices have at run time is read and patched while it does.
 */
import type { Static } from "typebox";
import type * as balloon from "../firecracker/balloon-schemas.js";
import type * as memory from "../firecracker/memory-schemas.js";
import type * as network from "../firecracker/network-schemas.js";
import type * as schemas from "../firecracker/schemas.js";
import type { DeepReadonly } from "../v1/schema-types.js";
import type { CallOptions, Connection, HttpCall } from "./connection.js";
import { pathOf } from "./microvms.js";

/** Firecracker's bodies, as their schemas say. */
export type BootSource = DeepReadonly<Static<typeof schemas.BootSource>>;
export type CpuConfig = DeepReadonly<Static<typeof schemas.CpuConfig>>;
export type Drive = DeepReadonly<Static<typeof schemas.Drive>>;
export type DriveUpdate = DeepReadonly<Static<typeof schemas.DriveUpdate>>;
export type Entropy = DeepReadonly<Static<typeof schemas.Entropy>>;
export type Serial = DeepReadonly<Static<typeof schemas.Serial>>;
export type MachineConfig = DeepReadonly<Static<typeof schemas.MachineConfiguration>>;
export type MachineConfigUpdate = DeepReadonly<Static<typeof schemas.MachineConfigurationUpdate>>;
export type FullConfig = DeepReadonly<Static<typeof schemas.FullVmConfiguration>>;
export type NetworkInterface = DeepReadonly<Static<typeof network.NetworkInterface>>;
export type NetworkInterfaceUpdate = DeepReadonly<Static<typeof network.NetworkInterfaceUpdate>>;
export type Vsock = DeepReadonly<Static<typeof network.Vsock>>;
export type MmdsConfig = DeepReadonly<Static<typeof network.MmdsConfig>>;
export type Balloon = DeepReadonly<Static<typeof balloon.Balloon>>;
export type BalloonUpdate = DeepReadonly<Static<typeof balloon.BalloonUpdate>>;
export type BalloonStatsUpdate = DeepReadonly<Static<typeof balloon.BalloonStatsUpdate>>;
export type BalloonStats = DeepReadonly<Static<typeof balloon.BalloonStats>>;
export type BalloonHintingStatus = DeepReadonly<Static<typeof balloon.BalloonHintingStatus>>;
export type Pmem = DeepReadonly<Static<typeof memory.Pmem>>;
export type PmemUpdate = DeepReadonly<Static<typeof memory.PmemUpdate>>;
export type MemoryHotplug = DeepReadonly<Static<typeof memory.MemoryHotplug>>;
export type MemoryHotplugUpdate = DeepReadonly<Static<typeof memory.MemoryHotplugUpdate>>;
export type MemoryHotplugStatus = DeepReadonly<Static<typeof memory.MemoryHotplugStatus>>;
export type InstanceAction = DeepReadonly<Static<typeof schemas.InstanceAction>>;

/** See the file's header. */
export class MicrovmConfiguration {
  readonly #connection: Connection;
  readonly #id: string;

  constructor(connection: Connection, id: string) {
    this.#connection = connection;
    this.#id = id;
  }

  /** All of it, as Firecracker's configuration file. */
  get(options?: CallOptions): Promise<FullConfig> {
    return this.#read(["vm", "config"], options);
  }

  getMachineConfig(options?: CallOptions): Promise<MachineConfig> {
    return this.#read(["machine-config"], options);
  }

  putMachineConfig(body: MachineConfig, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["machine-config"], body, options);
  }

  patchMachineConfig(body: MachineConfigUpdate, options?: CallOptions): Promise<void> {
    return this.#write("PATCH", ["machine-config"], body, options);
  }

  putBootSource(body: BootSource, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["boot-source"], body, options);
  }

  putCpuConfig(body: CpuConfig, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["cpu-config"], body, options);
  }

  putDrive(body: Drive, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["drives", body.drive_id], body, options);
  }

  /** Another file behind a drive, or the same one measured again; while the microVM runs, too. */
  patchDrive(body: DriveUpdate, options?: CallOptions): Promise<void> {
    return this.#write("PATCH", ["drives", body.drive_id], body, options);
  }

  putEntropy(body: Entropy, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["entropy"], body, options);
  }

  putSerial(body: Serial, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["serial"], body, options);
  }

  putNetworkInterface(body: NetworkInterface, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["network-interfaces", body.iface_id], body, options);
  }

  patchNetworkInterface(body: NetworkInterfaceUpdate, options?: CallOptions): Promise<void> {
    return this.#write("PATCH", ["network-interfaces", body.iface_id], body, options);
  }

  putVsock(body: Vsock, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["vsock"], body, options);
  }

  putMmdsConfig(body: MmdsConfig, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["mmds", "config"], body, options);
  }

  /** The metadata itself. */
  getMmds(options?: CallOptions): Promise<object> {
    return this.#read(["mmds"], options);
  }

  putMmds(data: object, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["mmds"], data, options);
  }

  /** A JSON merge patch (RFC 7396). */
  patchMmds(data: object, options?: CallOptions): Promise<void> {
    return this.#write("PATCH", ["mmds"], data, options);
  }

  putPmem(body: Pmem, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["pmem", body.id], body, options);
  }

  patchPmem(body: PmemUpdate, options?: CallOptions): Promise<void> {
    return this.#write("PATCH", ["pmem", body.id], body, options);
  }

  getBalloon(options?: CallOptions): Promise<Balloon> {
    return this.#read(["balloon"], options);
  }

  putBalloon(body: Balloon, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["balloon"], body, options);
  }

  /** What the guest is to give from now on. */
  patchBalloon(body: BalloonUpdate, options?: CallOptions): Promise<void> {
    return this.#write("PATCH", ["balloon"], body, options);
  }

  getBalloonStats(options?: CallOptions): Promise<BalloonStats> {
    return this.#read(["balloon", "statistics"], options);
  }

  patchBalloonStats(body: BalloonStatsUpdate, options?: CallOptions): Promise<void> {
    return this.#write("PATCH", ["balloon", "statistics"], body, options);
  }

  /** Asks the guest for its free pages. */
  startHinting(options?: CallOptions): Promise<void> {
    return this.#write("PATCH", ["balloon", "hinting", "start"], {}, options);
  }

  stopHinting(options?: CallOptions): Promise<void> {
    return this.#write("PATCH", ["balloon", "hinting", "stop"], {}, options);
  }

  getHinting(options?: CallOptions): Promise<BalloonHintingStatus> {
    return this.#read(["balloon", "hinting", "status"], options);
  }

  getMemoryHotplug(options?: CallOptions): Promise<MemoryHotplugStatus> {
    return this.#read(["hotplug", "memory"], options);
  }

  putMemoryHotplug(body: MemoryHotplug, options?: CallOptions): Promise<void> {
    return this.#write("PUT", ["hotplug", "memory"], body, options);
  }

  /** How much of it the guest is to have. */
  patchMemoryHotplug(body: MemoryHotplugUpdate, options?: CallOptions): Promise<void> {
    return this.#write("PATCH", ["hotplug", "memory"], body, options);
  }

  /** `InstanceStart`, `SendCtrlAltDel`, … */
  putAction(body: InstanceAction, options?: CallOptions): Promise<void> {
    // A start that is done twice is a mistake.
    return this.#write("PUT", ["actions"], body, options, false);
  }

  #read<T>(below: readonly string[], { signal }: CallOptions = {}): Promise<T> {
    const call = { method: "GET", path: pathOf(this.#id, ...below), signal } as const;
    return this.#connection.json(call, (value) => typeof value === "object" && value !== null);
  }

  async #write(
    method: HttpCall["method"],
    below: readonly string[],
    body: object,
    { signal }: CallOptions = {},
    isIdempotent = method === "PUT",
  ): Promise<void> {
    const path = pathOf(this.#id, ...below);
    await this.#connection.send({ method, path, body, signal, isIdempotent });
  }
}
