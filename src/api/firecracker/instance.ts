/**
 * Operations on the instance as a whole: what it is, its life, its log and its metrics.
 */
import { toEstaloError } from "../../errors.js";
import { fullConfig } from "./draft.js";
import { Fault, hostText, NOT_AFTER_BOOT, NOT_BEFORE_BOOT } from "./faults.js";
import { NO_CONTENT, type Operation, type OperationCall } from "./operation.js";
import * as schemas from "./schemas.js";
import type { Diagnostics } from "./target.js";
import { FIRECRACKER_VERSION } from "./version.js";

const getInfo: Operation = {
  operationId: "describeInstance",
  method: "GET",
  path: "/",
  tag: "Instance",
  summary: "Id, state and version.",
  replies: { 200: { description: "As it is.", schema: schemas.InstanceInfo } },
  when: "always",
  counter: "instance_info",
  run: ({ target }) => ({
    id: target.id,
    state: target.phase,
    vmm_version: FIRECRACKER_VERSION,
    app_name: "Firecracker",
  }),
};

const getVersion: Operation = {
  operationId: "getFirecrackerVersion",
  method: "GET",
  path: "/version",
  tag: "Instance",
  summary: "The version of Firecracker whose interface this is.",
  replies: { 200: { description: "The version.", schema: schemas.FirecrackerVersion } },
  when: "always",
  counter: "vmm_version",
  run: () => ({ firecracker_version: FIRECRACKER_VERSION }),
};

const getConfig: Operation = {
  operationId: "getExportVmConfig",
  method: "GET",
  path: "/vm/config",
  tag: "Instance",
  summary: "The whole configuration; serves as a configuration file.",
  replies: { 200: { description: "As it is.", schema: schemas.FullVmConfiguration } },
  when: "always",
  run: ({ target }) => fullConfig(target.draft, target.phase !== "Not started"),
};

const putActions: Operation = {
  operationId: "createSyncAction",
  method: "PUT",
  path: "/actions",
  tag: "Instance",
  summary: "Starts the machine, writes its metrics, or presses Ctrl, Alt and Delete.",
  body: schemas.InstanceAction,
  replies: NO_CONTENT,
  when: "always",
  counter: "actions",
  async run(call) {
    const { target } = call;
    const action = (call.body as { action_type: string }).action_type;
    const isStarted = target.phase !== "Not started";
    if (action === "InstanceStart") {
      if (isStarted) throw new Fault(NOT_AFTER_BOOT);
      return start(call);
    }
    if (!isStarted) throw new Fault(NOT_BEFORE_BOOT);
    if (action === "FlushMetrics") diagnosticsOf(call).flushMetrics();
    else if (!(await target.sendCtrlAltDelete())) {
      throw new Fault("Internal VMM error: I8042 error: i8042 internal buffer is full.");
    }
  },
};

async function start({ target }: OperationCall): Promise<void> {
  try {
    await target.start();
  } catch (error) {
    throw new Fault(`Start microvm error: ${toEstaloError(error).message}`);
  }
}

const patchVm: Operation = {
  operationId: "patchVm",
  method: "PATCH",
  path: "/vm",
  tag: "Instance",
  summary: "Pauses or resumes the machine; what it is already is no error.",
  body: schemas.VmState,
  replies: NO_CONTENT,
  when: "after boot",
  async run({ target, body, counters, log }) {
    const pauses = (body as { state: string }).state === "Paused";
    if ((target.phase === "Paused") === pauses) return;
    const beginMs = performance.now();
    await (pauses ? target.pause() : target.resume());
    const us = Math.round((performance.now() - beginMs) * 1000);
    const latencies = counters.latencies_us;
    const verb = pauses ? "pause" : "resume";
    latencies[`${verb}_vm`] = us;
    latencies[`vmm_${verb}_vm`] = us;
    log.write("Info", "vmm::rpc", `'${verb} vm' VMM action took ${us} us.`);
  },
};

function diagnosticsOf({ target }: OperationCall): Diagnostics {
  if (target.diagnostics !== undefined) return target.diagnostics;
  throw new Fault("Logger and metrics belong to the server here, not to one of its microVMs.");
}

const putLogger: Operation = {
  operationId: "putLogger",
  method: "PUT",
  path: "/logger",
  tag: "Diagnostics",
  summary: "Sets where the log goes and what is in it; what is left out stays.",
  body: schemas.Logger,
  replies: NO_CONTENT,
  when: "before boot",
  counter: "logger",
  run(call) {
    const diagnostics = diagnosticsOf(call);
    try {
      diagnostics.configureLogger(call.body as schemas.LoggerJson);
    } catch (error) {
      if (error instanceof Fault) throw error;
      throw new Fault(`Logger error: Failed to open target file: ${hostText(error)}`);
    }
  },
};

const putMetrics: Operation = {
  operationId: "putMetrics",
  method: "PUT",
  path: "/metrics",
  tag: "Diagnostics",
  summary: "Sets where metrics go; once.",
  body: schemas.Metrics,
  replies: NO_CONTENT,
  when: "before boot",
  counter: "metrics",
  run(call) {
    const diagnostics = diagnosticsOf(call);
    try {
      diagnostics.configureMetrics(call.body as schemas.MetricsJson);
    } catch (error) {
      const why = error instanceof Fault ? error.message : hostText(error);
      throw new Fault(
        `Metrics error: Cannot initialize the metrics system due to bad user input: ${why}`,
      );
    }
  },
};

export const INSTANCE_OPERATIONS: readonly Operation[] = [
  getInfo,
  getVersion,
  getConfig,
  putActions,
  patchVm,
  putLogger,
  putMetrics,
];
