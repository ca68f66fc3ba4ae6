/**
 * A record of the fleet as door 1 sees a machine, for the time of one request: what step-by-step
 * configuration works on.
 *
 * A draft that is set changes only those parts of the record's configuration that differ from the draft that was
 * read, so that nothing is lost that Firecracker cannot say. What the fleet or the host refuses is kept in
 * `refusal`, since door 1 has but one status for it.
 */
import { checkConfig, type DriveChange, type MicroVmConfig } from "../../actors/config.js";
import { MMDS_SIZE_LIMIT_BYTES, type MmdsConfig } from "../../actors/config-mmds.js";
import type { NetworkInterfaceChange } from "../../actors/config-net.js";
import type { PmemChange } from "../../actors/config-pmem.js";
import type { BalloonChange, DeviceChanges } from "../../actors/device-changes.js";
import type { RunningBalloon, RunningMemoryHotplug } from "../../actors/running-microvm.js";
import { EstaloError, toEstaloError } from "../../errors.js";
import { type Draft, fromConfig, toMicroVmConfig } from "../firecracker/draft.js";
import type { FirecrackerTarget, Phase } from "../firecracker/target.js";
import type { DoorFleet, LiveMicrovm } from "./fleet.js";

/** Keys of a configuration that a part of a draft stands for. */
const KEYS_OF_PART: Readonly<Record<keyof Draft, readonly (keyof MicroVmConfig)[]>> = {
  machine: ["vcpuCount", "memoryMib", "smt", "hugePages"],
  bootSource: ["kernel", "initrd", "bootArgs"],
  cpuConfig: ["cpuTemplate"],
  drives: ["drives"],
  pmem: ["pmem"],
  interfaces: ["networkInterfaces"],
  mmds: ["mmds"],
  metadata: ["mmds"],
  vsock: ["vsock"],
  balloon: ["balloon"],
  memoryHotplug: ["memoryHotplug"],
  entropy: ["entropy"],
  serial: ["serial"],
};

/** See the file's header. */
export class FleetTarget implements FirecrackerTarget {
  readonly id: string;
  /** What the fleet refused, if it did. */
  refusal: EstaloError | undefined;
  readonly #fleet: DoorFleet;
  #draft: Draft | undefined;

  /** Raises ERR_ESTALO_NOT_FOUND. */
  constructor(fleet: DoorFleet, idOrName: string) {
    this.#fleet = fleet;
    this.id = fleet.get(idOrName).id;
  }

  get phase(): Phase {
    const { state } = this.#fleet.get(this.id);
    if (state === "paused") return "Paused";
    return ["configured", "stopped", "failed", "lost"].includes(state) ? "Not started" : "Running";
  }

  get draft(): Draft {
    this.#draft ??= this.#kept(() => draftOf(this.#fleet.get(this.id).config));
    return this.#draft;
  }

  set draft(draft: Draft) {
    const before = this.draft;
    this.#draft = draft;
    // What changes while it runs, the fleet has stored already: see #change.
    if (this.phase !== "Not started") return;
    this.#kept(() => {
      if (draft.serial?.serial_out_path != null) {
        throw new EstaloError(
          "ERR_ESTALO_CONFIG_INVALID",
          "serial_out_path: the console of a server's microVM is read through the server",
          { data: { field: "serial_out_path" } },
        );
      }
      if (draft.metadata !== undefined && draft.mmds === undefined) {
        throw new EstaloError(
          "ERR_ESTALO_STATE",
          "the microVM has no metadata service that could keep the data: PUT mmds/config first",
        );
      }
      this.#fleet.configure(this.id, (config) => withChanges(config, before, draft));
    });
  }

  async start(): Promise<void> {
    await this.#keptLater(() => this.#fleet.start(this.id));
  }

  async pause(): Promise<void> {
    await this.#keptLater(() => this.#fleet.pause(this.id));
  }

  async resume(): Promise<void> {
    await this.#keptLater(() => this.#fleet.resume(this.id));
  }

  sendCtrlAltDelete(): Promise<boolean> {
    return this.#keptLater(async () => this.#fleet.sendCtrlAltDelete(this.id));
  }

  updateDrive(id: string, change: DriveChange): Promise<void> {
    return this.#change({ drives: { [id]: change } });
  }

  updateInterface(id: string, change: NetworkInterfaceChange): Promise<void> {
    return this.#change({ networkInterfaces: { [id]: change } });
  }

  updatePmem(id: string, change: PmemChange): Promise<void> {
    return this.#change({ pmem: { [id]: change } });
  }

  updateBalloon(change: BalloonChange): Promise<void> {
    return this.#change({ balloon: change });
  }

  memoryHotplug(): RunningMemoryHotplug {
    return this.#kept(() => this.#devices.requireMemoryHotplug());
  }

  balloon(): RunningBalloon {
    return this.#kept(() => this.#devices.requireBalloon());
  }

  get #devices(): LiveMicrovm["devices"] {
    const live = this.#fleet.supervisor(this.id);
    if (live !== undefined) return live.devices;
    throw new EstaloError("ERR_ESTALO_STATE", "the microVM has ended");
  }

  get metadataLimitBytes(): number {
    return this.#fleet.get(this.id).config.mmds?.sizeLimitBytes ?? MMDS_SIZE_LIMIT_BYTES;
  }

  get metadata() {
    return this.#fleet.supervisor(this.id)?.devices.metadata?.data;
  }

  #change(changes: DeviceChanges): Promise<void> {
    return this.#keptLater(async () => {
      await this.#fleet.changeDevices(this.id, changes);
    });
  }

  #kept<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      this.refusal = toEstaloError(error);
      throw error;
    }
  }

  #keptLater<T>(work: () => Promise<T>): Promise<T> {
    return work().catch((error) => {
      this.refusal = toEstaloError(error);
      throw error;
    });
  }
}

/** A record's configuration as a draft; a kernel and addresses that the server would choose are not told. */
function draftOf(config: MicroVmConfig): Draft {
  const draft = fromConfig(checkConfig({ ...config, kernel: config.kernel ?? "the default" }));
  return {
    ...draft,
    bootSource: config.kernel === undefined ? undefined : draft.bootSource,
    interfaces: draft.interfaces.map((one, index) =>
      config.networkInterfaces?.[index].mac === undefined ? { ...one, guest_mac: null } : one,
    ),
  };
}

function withChanges(config: MicroVmConfig, before: Draft, draft: Draft): MicroVmConfig {
  const parts = Object.keys(KEYS_OF_PART) as (keyof Draft)[];
  const changed = parts.filter((part) => draft[part] !== before[part]);
  const keys = new Set<string>(changed.flatMap((part) => KEYS_OF_PART[part]));
  const { drives = [], networkInterfaces = [], mmds, ...said } = toMicroVmConfig(draft);
  const full: MicroVmConfig = {
    ...said,
    ...(mmds && { mmds: withOldMmds(mmds, config.mmds, draft.mmds === before.mmds) }),
    drives: withOld(drives, draft.drives, before.drives, named(config.drives, "drive")),
    networkInterfaces: withOld(
      networkInterfaces,
      draft.interfaces,
      before.interfaces,
      named(config.networkInterfaces, "net"),
    ),
  };
  return Object.fromEntries([
    ...Object.entries(config).filter(([key]) => !keys.has(key)),
    ...Object.entries(full).filter(([key]) => keys.has(key)),
  ]);
}

/** Data alone leaves the rest as it is told: the interfaces may be all, whichever these are. */
function withOldMmds(mmds: MmdsConfig, old: MmdsConfig | undefined, isSame: boolean): MmdsConfig {
  const { data } = mmds;
  if (isSame) return { ...old, ...(data !== undefined && { data }) };
  const sizeLimitBytes = old?.sizeLimitBytes;
  return { ...mmds, ...(sizeLimitBytes !== undefined && { sizeLimitBytes }) };
}

/** With the ids that they get when they have none. */
function named<Config extends { readonly id?: string }>(
  configs: readonly Config[] = [],
  prefix: string,
): readonly Config[] {
  return configs.map((config, index) => ({ ...config, id: config.id ?? `${prefix}${index}` }));
}

/** What the draft has as it was keeps all that the record says of it. */
function withOld<Config extends { readonly id?: string }, Part>(
  configs: readonly Config[],
  parts: readonly Part[],
  before: readonly Part[],
  old: readonly Config[],
): readonly Config[] {
  return configs.map((config, index) =>
    before.includes(parts[index])
      ? { ...config, ...old.find(({ id }) => id === config.id) }
      : config,
  );
}
