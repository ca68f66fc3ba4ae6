/**
 * Devices of a user's own in a microVM's configuration, and their checks: `defineVirtioDevice` makes what
 * `devices` takes.
 */
import type { VirtioDeviceDefinition } from "../devices/virtio/chain-device.js";
import { CONFIG_BYTES } from "../devices/virtio/mmio-transport.regs.js";
import { MAX_QUEUES } from "../devices/virtio/mmio-transport.state.js";
import { integer, invalid, onlyFields } from "./config-checks.js";

/** A virtio device of a user's, as `defineVirtioDevice` makes it. */
export type UserVirtioDevice = VirtioDeviceDefinition & { readonly kind: "virtio" };

/** What `devices` takes. */
export type UserDevice = UserVirtioDevice;

/** Most entries of a user's queue. */
const QUEUE_SIZE_MAX = 1024;
const DEVICE_TYPE_MAX = 0xffff;
const READABLE_BYTES_LIMIT = 2 ** 30;
/** VirtIO 1.2 § 2.2: bits 24 to 49 are the transport's and the rings'. */
const RESERVED_FEATURES = { first: 24, last: 49 };
const FEATURE_LAST = 63;

const HOOKS = ["onActivate", "onConfigWrite", "onReset", "onAttach", "onClose"];
const VIRTIO_FIELDS = [
  "kind",
  "id",
  "deviceType",
  "queues",
  "features",
  "config",
  "writableConfig",
  "readableBytesMax",
  "onChain",
  ...HOOKS,
];

/**
 * A virtio device of your own, for `devices` of a microVM's configuration. One definition serves any number
 * of microVMs. Raises ERR_ESTALO_CONFIG_INVALID naming the field that is wrong.
 */
export function defineVirtioDevice(definition: VirtioDeviceDefinition): UserVirtioDevice {
  return checkVirtioDevice("device", { ...definition, kind: "virtio" });
}

/** The devices with their ids different, or ERR_ESTALO_CONFIG_INVALID naming the field. */
export function checkDevices(devices: readonly UserDevice[]): readonly UserDevice[] {
  if (!Array.isArray(devices)) throw invalid("devices", "a list", devices);
  const checked = devices.map((device: UserDevice, index) =>
    checkDevice(`devices[${index}]`, device),
  );
  for (const [index, { id }] of checked.entries()) {
    if (checked.findIndex((other) => other.id === id) !== index) {
      throw invalid(`devices[${index}].id`, "an id that no other device has", id);
    }
  }
  return checked;
}

function checkDevice(where: string, device: UserDevice): UserDevice {
  if (device?.kind !== "virtio") {
    throw invalid(where, "a device made by defineVirtioDevice", device);
  }
  return checkVirtioDevice(where, device);
}

function checkVirtioDevice(where: string, device: UserVirtioDevice): UserVirtioDevice {
  onlyFields(where, device, VIRTIO_FIELDS);
  checkId(where, device.id);
  integer(`${where}.deviceType`, device.deviceType, 1, DEVICE_TYPE_MAX);
  checkQueues(`${where}.queues`, device.queues);
  checkFeatures(`${where}.features`, device.features ?? []);
  checkConfigSpace(where, device);
  if (device.readableBytesMax !== undefined) {
    integer(`${where}.readableBytesMax`, device.readableBytesMax, 0, READABLE_BYTES_LIMIT);
  }
  if (typeof device.onChain !== "function") {
    throw invalid(`${where}.onChain`, "a function", device.onChain);
  }
  checkHooks(where, device);
  return Object.freeze({ ...device });
}

function checkId(where: string, id: unknown): void {
  if (typeof id !== "string" || !/^[\p{L}\p{N}_-]{1,64}$/u.test(id)) {
    throw invalid(`${where}.id`, "1 to 64 letters, digits, hyphens and underscores", id);
  }
}

function checkQueues(where: string, queues: readonly number[]): void {
  if (!Array.isArray(queues) || queues.length < 1 || queues.length > MAX_QUEUES) {
    throw invalid(where, `a list of 1 to ${MAX_QUEUES} sizes`, queues);
  }
  for (const [index, size] of queues.entries()) {
    integer(`${where}[${index}]`, size, 1, QUEUE_SIZE_MAX);
    if ((size & (size - 1)) !== 0) throw invalid(`${where}[${index}]`, "a power of two", size);
  }
}

function checkFeatures(where: string, features: readonly number[]): void {
  if (!Array.isArray(features)) throw invalid(where, "a list of bit numbers", features);
  for (const [index, bit] of features.entries()) {
    integer(`${where}[${index}]`, bit, 0, FEATURE_LAST);
    if (bit >= RESERVED_FEATURES.first && bit <= RESERVED_FEATURES.last) {
      throw invalid(
        `${where}[${index}]`,
        "a bit of the device type's own, 0 to 23 or 50 to 63",
        bit,
      );
    }
  }
}

function checkConfigSpace(where: string, { config, writableConfig }: UserVirtioDevice): void {
  if (config !== undefined && !(config instanceof Uint8Array && config.length <= CONFIG_BYTES)) {
    throw invalid(`${where}.config`, `a Uint8Array of at most ${CONFIG_BYTES} bytes`, config);
  }
  if (writableConfig === undefined) return;
  onlyFields(`${where}.writableConfig`, writableConfig, ["start", "end"]);
  const { start, end } = writableConfig;
  integer(`${where}.writableConfig.end`, end, 0, config?.length ?? 0);
  integer(`${where}.writableConfig.start`, start, 0, end);
}

function checkHooks(where: string, device: object): void {
  for (const hook of HOOKS) {
    const value = (device as Record<string, unknown>)[hook];
    if (value !== undefined && typeof value !== "function") {
      throw invalid(`${where}.${hook}`, "a function", value);
    }
  }
}
