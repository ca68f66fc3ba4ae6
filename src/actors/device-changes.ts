/**
 * What can be changed of a microVM's devices while it runs: done to the devices, and to the configuration that
 * the next run begins with.
 */
import type { RateLimiterConfig } from "../devices/rate-limiter.js";
import type { DriveChange, EntropyConfig, MicroVmConfig, SerialConfig } from "./config.js";
import type { NetworkInterfaceChange } from "./config-net.js";
import type { PmemChange } from "./config-pmem.js";
import type { RunningBalloon, RunningMicrovm } from "./running-microvm.js";

/** Of the balloon. */
export interface BalloonChange {
  /** MiB that the guest is to give, at most its memory. */
  readonly amountMib?: number;
  /** Seconds between statistics, 1 to 65,535; not for a balloon that has none. */
  readonly statsIntervalS?: number;
}

/** By device, and by id where there may be several. What is not named stays as it is. */
export interface DeviceChanges {
  readonly drives?: Readonly<Record<string, DriveChange>>;
  readonly networkInterfaces?: Readonly<Record<string, NetworkInterfaceChange>>;
  readonly pmem?: Readonly<Record<string, PmemChange>>;
  readonly balloon?: BalloonChange;
  /** Buckets that are given replace the device's; one of size 0 lifts its limit. */
  readonly entropy?: EntropyConfig;
  /** A bucket of size 0 lifts the limit. */
  readonly serial?: SerialConfig;
}

/** One change of one device. */
export interface DeviceChange {
  /** Does it, or raises what is wrong with it. */
  apply(microvm: RunningMicrovm): Promise<void>;
  /** The configuration with it. A cable that is out is in again at the next start. */
  keep(config: MicroVmConfig): MicroVmConfig;
}

/** Raises what is wrong with it. */
export async function changeBalloon(
  balloon: RunningBalloon,
  { amountMib, statsIntervalS }: BalloonChange,
): Promise<void> {
  if (statsIntervalS !== undefined) await balloon.setStatsInterval(statsIntervalS);
  if (amountMib !== undefined) await balloon.setTarget(amountMib);
}

/** Each for itself, in the order in which they are done: drives, interfaces, memory, balloon, entropy, serial. */
export function deviceChanges(changes: DeviceChanges): DeviceChange[] {
  const { drives = {}, networkInterfaces = {}, pmem = {}, balloon, entropy, serial } = changes;
  return [
    ...Object.entries(drives).map(([id, change]) => driveChange(id, change)),
    ...Object.entries(networkInterfaces).map(([id, change]) => interfaceChange(id, change)),
    ...Object.entries(pmem).map(([id, change]) => pmemChange(id, change)),
    ...(balloon === undefined ? [] : [balloonChange(balloon)]),
    ...(entropy === undefined ? [] : [entropyChange(entropy)]),
    ...(serial === undefined ? [] : [serialChange(serial)]),
  ];
}

function driveChange(id: string, change: DriveChange): DeviceChange {
  return {
    apply: (microvm) => microvm.updateDrive(id, change),
    keep: (config) =>
      withItem(config, "drives", id, "drive", (drive) => ({
        ...drive,
        ...change,
        ...merged(drive, change, "rateLimiter"),
      })),
  };
}

function interfaceChange(id: string, change: NetworkInterfaceChange): DeviceChange {
  const { forwards } = change;
  return {
    apply: async ({ devices }) => devices.interfaces.update(id, change),
    keep: (config) =>
      withItem(config, "networkInterfaces", id, "net", (one) => ({
        ...one,
        ...merged(one, change, "rxRateLimiter"),
        ...merged(one, change, "txRateLimiter"),
        ...(forwards === undefined ? {} : { user: { ...one.user, forwards } }),
      })),
  };
}

function pmemChange(id: string, change: PmemChange): DeviceChange {
  const { rateLimiter } = change;
  return {
    apply: async ({ devices }) => devices.pmem.limit(id, rateLimiter ?? {}),
    keep: (config) =>
      withItem(config, "pmem", id, "pmem", (one) => ({
        ...one,
        ...merged(one, change, "rateLimiter"),
      })),
  };
}

function balloonChange(change: BalloonChange): DeviceChange {
  return {
    apply: async ({ devices }) => changeBalloon(devices.requireBalloon(), change),
    keep: (config) => ({ ...config, balloon: { ...config.balloon, ...change } }),
  };
}

function entropyChange(change: EntropyConfig): DeviceChange {
  return {
    apply: async ({ devices }) => devices.limitEntropy(change.rateLimiter ?? {}),
    keep: (config) => {
      const entropy = typeof config.entropy === "object" ? config.entropy : {};
      return { ...config, entropy: { ...entropy, ...merged(entropy, change, "rateLimiter") } };
    },
  };
}

function serialChange(change: SerialConfig): DeviceChange {
  const { rateLimiter } = change;
  return {
    apply: async ({ devices }) => {
      if (rateLimiter !== undefined) await devices.limitSerial(rateLimiter);
    },
    keep: (config) => ({ ...config, serial: { ...config.serial, ...change } }),
  };
}

type Lists = "drives" | "networkInterfaces" | "pmem";
type Item<List extends Lists> = NonNullable<MicroVmConfig[List]>[number];

/** The configuration with another item; one that it does not have is a part of the default guest. */
function withItem<List extends Lists>(
  config: MicroVmConfig,
  list: List,
  id: string,
  prefix: string,
  change: (item: Item<List>) => Item<List>,
): MicroVmConfig {
  const items = config[list] as readonly Item<List>[] | undefined;
  if (items === undefined) return config;
  const isIt = (item: Item<List>, index: number) => (item.id ?? `${prefix}${index}`) === id;
  return {
    ...config,
    [list]: items.map((item, index) => (isIt(item, index) ? change(item) : item)),
  };
}

/** A limiter with the buckets of its change, as a field; none when it does not change. */
function merged<Name extends string>(
  old: { readonly [Key in Name]?: RateLimiterConfig },
  change: { readonly [Key in Name]?: RateLimiterConfig },
  name: Name,
): { readonly [Key in Name]?: RateLimiterConfig } {
  if (change[name] === undefined) return {};
  return { [name]: { ...old[name], ...change[name] } } as { [Key in Name]?: RateLimiterConfig };
}
