/**
 * Devices of a user's own in a microVM's configuration, and their checks: `defineVirtioDevice`,
 * `definePortDevice` and `defineMmioDevice` make what `devices` takes.
 */
import { KVM_PORTS, USER_MMIO_GPA, VIRTIO_MMIO_END_GPA } from "../boot/layout.js";
import { MAILBOX_WINDOW_BYTES_MAX } from "../devices/mailbox.state.js";
import type { BusDeviceDefinition } from "../devices/mailbox-back.js";
import type { VirtioDeviceDefinition } from "../devices/virtio/chain-device.js";
import { CONFIG_BYTES } from "../devices/virtio/mmio-transport.regs.js";
import { MAX_QUEUES } from "../devices/virtio/mmio-transport.state.js";
import { boolean, integer, invalid, onlyFields } from "./config-checks.js";
import { LEGACY_DEVICES } from "./legacy-devices.js";

/** A virtio device of a user's, as `defineVirtioDevice` makes it. */
export type UserVirtioDevice = VirtioDeviceDefinition & { readonly kind: "virtio" };

/** A user's device on a bus, as `definePortDevice` and `defineMmioDevice` make it. */
export type UserBusDevice = BusDeviceDefinition & { readonly kind: "port" | "mmio" };

/** What `devices` takes. */
export type UserDevice = UserVirtioDevice | UserBusDevice;

/** Most entries of a user's queue. */
const QUEUE_SIZE_MAX = 1024;
const DEVICE_TYPE_MAX = 0xffff;
const READABLE_BYTES_LIMIT = 2 ** 30;
/** VirtIO 1.2 § 2.2: bits 24 to 49 are the transport's and the rings'. */
const RESERVED_FEATURES = { first: 24, last: 49 };
const FEATURE_LAST = 63;

const ANSWER_TIMEOUT_MS_MAX = 60_000;
const PORT_COUNT = 2 ** 16;
const MMIO_RANGE = [USER_MMIO_GPA, VIRTIO_MMIO_END_GPA] as const;

interface Place {
  readonly kind?: string;
  readonly base: number;
  readonly sizeBytes: number;
}

/** Ports of the machine's own devices, and of those in KVM. */
const TAKEN_PORTS: readonly (Place & { readonly id: string })[] = [
  ...KVM_PORTS.map(([base, sizeBytes]) => ({ id: "machine", base, sizeBytes })),
  ...LEGACY_DEVICES.filter(({ space }) => space === "pio").map(({ name, start, sizeBytes }) => ({
    id: name,
    base: start,
    sizeBytes,
  })),
];

const HOOKS = ["onActivate", "onConfigWrite", "onReset", "onAttach", "onClose", "write"];
const BUS_FIELDS = [
  "kind",
  "id",
  "base",
  "sizeBytes",
  "irq",
  "sync",
  "registers",
  "answerTimeoutMs",
  "read",
  "write",
  "onReset",
  "onAttach",
  "onClose",
];
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

/**
 * A device of your own at I/O ports that nothing else has. Raises ERR_ESTALO_CONFIG_INVALID naming the field
 * that is wrong.
 */
export function definePortDevice(definition: BusDeviceDefinition): UserBusDevice {
  return checkBusDevice("device", { ...definition, kind: "port" });
}

/** As `definePortDevice`, at guest-physical addresses: 0xd0000000 to before 0xeec00000. */
export function defineMmioDevice(definition: BusDeviceDefinition): UserBusDevice {
  return checkBusDevice("device", { ...definition, kind: "mmio" });
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
  const busDevices = checked.filter((device) => device.kind !== "virtio");
  for (const [index, device] of busDevices.entries()) {
    const other = busDevices.slice(0, index).find((one) => overlap(one, device));
    if (other === undefined) continue;
    throw invalid(
      `devices[${checked.indexOf(device)}].base`,
      `not device ${other.id}'s`,
      device.base,
    );
  }
  return checked;
}

function checkDevice(where: string, device: UserDevice): UserDevice {
  switch (device?.kind) {
    case "virtio":
      return checkVirtioDevice(where, device);
    case "port":
    case "mmio":
      return checkBusDevice(where, device);
    default:
      throw invalid(where, "a device made by defineVirtioDevice or its like", device);
  }
}

function checkBusDevice(where: string, device: UserBusDevice): UserBusDevice {
  onlyFields(where, device, BUS_FIELDS);
  checkId(where, device.id);
  const { base, registers, sync = false, answerTimeoutMs } = device;
  const sizeBytes = integer(`${where}.sizeBytes`, device.sizeBytes, 1, MAILBOX_WINDOW_BYTES_MAX);
  const [start, end] = device.kind === "port" ? [0, PORT_COUNT] : MMIO_RANGE;
  integer(`${where}.base`, base, start, end - sizeBytes);
  const taken =
    device.kind === "port" ? TAKEN_PORTS.find((one) => overlap(one, device)) : undefined;
  if (taken !== undefined) throw invalid(`${where}.base`, `not the ${taken.id}'s`, base);
  if (sync !== "reads") boolean(`${where}.sync`, sync);
  boolean(`${where}.irq`, device.irq ?? false);
  if (
    registers !== undefined &&
    !(registers instanceof Uint8Array && registers.length <= sizeBytes)
  ) {
    throw invalid(`${where}.registers`, `a Uint8Array of at most ${sizeBytes} bytes`, registers);
  }
  if (answerTimeoutMs !== undefined) {
    integer(`${where}.answerTimeoutMs`, answerTimeoutMs, 1, ANSWER_TIMEOUT_MS_MAX);
  }
  if ((typeof device.read === "function") !== (sync !== false)) {
    throw invalid(`${where}.read`, "a function with sync, nothing without", device.read);
  }
  checkHooks(where, device);
  return Object.freeze({ ...device });
}

/** Whether two windows of one space have an address in common. */
function overlap(one: Place, other: Place): boolean {
  return (
    (one.kind ?? other.kind) === other.kind &&
    one.base < other.base + other.sizeBytes &&
    other.base < one.base + one.sizeBytes
  );
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
