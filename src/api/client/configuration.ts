/**
 * A microVM's configuration step by step, as Firecracker's API has it (door 1), below /v1/microvms/{id}/: for
 * who has its JSON already. Only while the microVM is configured and does not run (else ERR_ESTALO_STATE), but
 * for a drive's file, which changes while it runs, too.
 */
import type { Static } from "typebox";
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
export type MachineConfig = DeepReadonly<Static<typeof schemas.MachineConfiguration>>;
export type MachineConfigUpdate = DeepReadonly<Static<typeof schemas.MachineConfigurationUpdate>>;
export type FullConfig = DeepReadonly<Static<typeof schemas.FullVmConfiguration>>;
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
