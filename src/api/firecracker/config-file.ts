/**
 * Firecracker's configuration file: the same schemas and operations as the API's, carried out in its order.
 *
 * A key that a section does not have is refused, one that the whole file does not have is not looked at; `null`
 * and empty lists, as `GET /vm/config` writes them, mean absent. Firecracker 1.16, docs/getting-started.md and
 * src/vmm/src/resources.rs.
 */
import { readFileSync } from "node:fs";
import Type, { type Static } from "typebox";
import type { MicroVmConfig } from "../../actors/config.js";
import { MMDS_SIZE_LIMIT_BYTES } from "../../actors/config-mmds.js";
import { type Metadata, MetadataStore } from "../../actors/metadata-store.js";
import { EstaloError, hostError } from "../../errors.js";
import { checkJson } from "../check.js";
import { serdeWording } from "../check-wording.js";
import { ApiCounters } from "./api-counters.js";
import { Balloon } from "./balloon-schemas.js";
import { type Draft, EMPTY_DRAFT, toMicroVmConfig } from "./draft.js";
import { Fault } from "./faults.js";
import { type FirecrackerLog, SILENT_LOG } from "./log.js";
import { MemoryHotplug, Pmem } from "./memory-schemas.js";
import { MmdsConfig, NetworkInterface, Vsock } from "./network-schemas.js";
import { FIRECRACKER_OPERATIONS } from "./operations.js";
import * as schemas from "./schemas.js";
import type { Diagnostics, FirecrackerTarget } from "./target.js";

const { option } = schemas;

const ConfigFile = Type.Object(
  {
    balloon: option(Balloon),
    drives: Type.Array(schemas.Drive),
    "boot-source": schemas.BootSource,
    "cpu-config": option(Type.Union([Type.String(), schemas.CpuConfig])),
    logger: option(schemas.Logger),
    "machine-config": option(schemas.MachineConfiguration),
    metrics: option(schemas.Metrics),
    "mmds-config": option(MmdsConfig),
    "network-interfaces": option(Type.Array(NetworkInterface)),
    vsock: option(Vsock),
    entropy: option(schemas.Entropy),
    pmem: option(Type.Array(Pmem)),
    "memory-hotplug": option(MemoryHotplug),
  },
  { title: "VmmConfig" },
);

type ConfigFileJson = Static<typeof ConfigFile>;

/** Reads the file; raises ERR_ESTALO_CONFIG_FILE. Relative paths in it are taken from the working directory. */
export function readConfigFile(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw hostError("read configuration file", path, error, "ERR_ESTALO_CONFIG_FILE");
  }
}

/**
 * Configures the machine as the file says.
 *
 * @throws ERR_ESTALO_CONFIG_FILE when it is no JSON, ERR_ESTALO_CONFIG_INVALID for what is in it (`data.field`
 *   is the value's path, or the section)
 */
export async function applyConfigFile(
  bytes: Uint8Array,
  target: FirecrackerTarget,
  log: FirecrackerLog = SILENT_LOG,
): Promise<void> {
  const checked = checkJson(ConfigFile, bytes);
  if ("problem" in checked) {
    const { problem } = checked;
    if (!isJson(bytes)) {
      throw new EstaloError("ERR_ESTALO_CONFIG_FILE", `Invalid JSON: ${serdeWording(problem)}`);
    }
    const field = problem.pointer.slice(1).replaceAll("/", ".");
    throw invalid(field, `Invalid JSON: ${serdeWording(problem)}`);
  }
  const file = checked.value as ConfigFileJson;
  const apply = new Application(target, log);
  await apply.run("logger", "/logger", file.logger);
  await apply.run("metrics", "/metrics", file.metrics);
  await apply.run("machine-config", "/machine-config", file["machine-config"]);
  await apply.run("cpu-config", "/cpu-config", cpuConfigOf(file["cpu-config"]));
  await apply.run("boot-source", "/boot-source", file["boot-source"]);
  for (const drive of file.drives) await apply.run("drives", "/drives/{drive_id}", drive);
  for (const one of file["network-interfaces"] ?? []) {
    await apply.run("network-interfaces", "/network-interfaces/{iface_id}", one);
  }
  await apply.run("vsock", "/vsock", file.vsock);
  await apply.run("mmds-config", "/mmds/config", file["mmds-config"]);
  await apply.run("balloon", "/balloon", file.balloon);
  await apply.run("entropy", "/entropy", file.entropy);
  for (const one of file.pmem ?? []) await apply.run("pmem", "/pmem/{id}", one);
  await apply.run("memory-hotplug", "/hotplug/memory", file["memory-hotplug"]);
}

/**
 * Reads the data that the metadata service begins with.
 *
 * @throws ERR_ESTALO_CONFIG_FILE for a file that cannot be read or is no JSON, else as MetadataStore.put
 */
export function readMetadataFile(path: string, limitBytes: number): Metadata {
  let data: unknown;
  try {
    data = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const action = "read metadata file";
    if (!(error instanceof SyntaxError))
      throw hostError(action, path, error, "ERR_ESTALO_CONFIG_FILE");
    const message = `${path}: metadata provided not valid json: ${error.message}`;
    throw new EstaloError("ERR_ESTALO_CONFIG_FILE", message, { data: { path } });
  }
  return new MetadataStore(limitBytes, data as Metadata).get();
}

/** The file as a configuration of the library, for who runs it without an API; log and metrics are refused. */
export async function readFirecrackerConfig(
  path: string,
): Promise<MicroVmConfig & { readonly kernel: string }> {
  const machine = new DraftOnly();
  await applyConfigFile(readConfigFile(path), machine);
  return toMicroVmConfig(machine.draft) as MicroVmConfig & { readonly kernel: string };
}

/** Carries out operations of the API that a section stands for. */
class Application {
  readonly #target: FirecrackerTarget;
  readonly #log: FirecrackerLog;

  constructor(target: FirecrackerTarget, log: FirecrackerLog) {
    this.#target = target;
    this.#log = log;
  }

  async run(section: string, path: string, body: unknown): Promise<void> {
    if (body == null) return;
    const operation = FIRECRACKER_OPERATIONS.find(
      (candidate) => candidate.method === "PUT" && candidate.path === path,
    );
    try {
      await operation?.run({
        target: this.#target,
        body,
        id: "",
        log: this.#log,
        counters: new ApiCounters(),
        deprecated: (what) => this.#log.write("Warn", "resources", what),
      });
    } catch (error) {
      if (error instanceof Fault) throw invalid(section, error.message);
      throw error;
    }
  }
}

/** A machine that is only described. */
class DraftOnly implements FirecrackerTarget {
  readonly id = "anonymous-instance";
  readonly phase = "Not started";
  draft: Draft = EMPTY_DRAFT;
  readonly diagnostics: Diagnostics = {
    configureLogger: () => refuseSection("logger"),
    configureMetrics: () => refuseSection("metrics"),
    flushMetrics() {},
  };

  readonly metadataLimitBytes = MMDS_SIZE_LIMIT_BYTES;
  readonly metadata = undefined;

  start = refuseCall;
  pause = refuseCall;
  resume = refuseCall;
  updateDrive = refuseCall;
  updateInterface = refuseCall;
  updatePmem = refuseCall;
  updateBalloon = refuseCall;
  balloon = refuseNow;
  memoryHotplug = refuseNow;
  sendCtrlAltDelete = () => false;
}

function refuseSection(section: string): never {
  throw new Fault(`${section}: only estalo vmm has it`);
}

function refuseNow(): never {
  throw new EstaloError("ERR_ESTALO_STATE", "the machine is only described");
}

async function refuseCall(): Promise<void> {
  refuseNow();
}

function cpuConfigOf(config: ConfigFileJson["cpu-config"]): unknown {
  if (typeof config !== "string") return config;
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(config);
  } catch (error) {
    throw hostError("read CPU template", config, error, "ERR_ESTALO_CPU_TEMPLATE");
  }
  const checked = checkJson(schemas.CpuConfig, bytes);
  if ("value" in checked) return checked.value;
  throw invalid("cpu-config", `${config}: Invalid JSON: ${serdeWording(checked.problem)}`);
}

function isJson(bytes: Uint8Array): boolean {
  try {
    JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return true;
  } catch {
    return false;
  }
}

function invalid(field: string, message: string): EstaloError {
  return new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    `${field || "configuration file"}: ${message}`,
    {
      data: { field },
    },
  );
}
