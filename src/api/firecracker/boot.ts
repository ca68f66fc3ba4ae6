/**
 * Operations on what boots: kernel, machine and CPU configuration.
 */
import { closeSync, constants, openSync } from "node:fs";
import { VCPU_COUNT_MAX } from "../../boot/layout.js";
import { toEstaloError } from "../../errors.js";
import type { Machine } from "./draft.js";
import { Fault, hostText } from "./faults.js";
import { NO_CONTENT, type Operation, type OperationCall } from "./operation.js";
import * as schemas from "./schemas.js";

/** Raises a Fault when the file cannot be opened for reading; a FIFO is not waited for. */
function tryOpen(path: string, complaint: (reason: string) => string): void {
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
  } catch (error) {
    throw new Fault(complaint(hostText(error)));
  }
}

const putBootSource: Operation = {
  operationId: "putGuestBootSource",
  method: "PUT",
  path: "/boot-source",
  tag: "Boot",
  summary: "Sets the kernel, its initrd and its arguments.",
  body: schemas.BootSource,
  replies: NO_CONTENT,
  when: "before boot",
  counter: "boot_source",
  run({ target, body }) {
    const bootSource = body as schemas.BootSourceJson;
    tryOpen(
      bootSource.kernel_image_path,
      (reason) => `Boot source error: The kernel file cannot be opened: ${reason}`,
    );
    if (bootSource.initrd_path != null) {
      tryOpen(
        bootSource.initrd_path,
        (reason) =>
          "Boot source error: The initrd file cannot be opened due to invalid path or invalid " +
          `permissions. ${reason}`,
      );
    }
    target.draft = { ...target.draft, bootSource };
  },
};

const getMachineConfig: Operation = {
  operationId: "getMachineConfiguration",
  method: "GET",
  path: "/machine-config",
  tag: "Machine",
  summary: "The machine's configuration, with defaults.",
  replies: { 200: { description: "As it is.", schema: schemas.MachineConfiguration } },
  when: "always",
  counter: "machine_cfg",
  run: ({ target }) => target.draft.machine,
};

const putMachineConfig: Operation = {
  operationId: "putMachineConfiguration",
  method: "PUT",
  path: "/machine-config",
  tag: "Machine",
  summary: "Sets vCPUs and memory; what is left out gets its default.",
  body: schemas.MachineConfiguration,
  replies: NO_CONTENT,
  when: "before boot",
  counter: "machine_cfg",
  run(call) {
    const body = call.body as schemas.MachineConfigJson;
    updateMachine(call, "PUT", {
      smt: false,
      track_dirty_pages: false,
      huge_pages: "None",
      ...body,
    });
  },
};

const patchMachineConfig: Operation = {
  operationId: "patchMachineConfiguration",
  method: "PATCH",
  path: "/machine-config",
  tag: "Machine",
  summary: "Changes parts of the machine's configuration.",
  body: schemas.MachineConfigurationUpdate,
  replies: NO_CONTENT,
  when: "before boot",
  counter: "machine_cfg",
  run: (call) => updateMachine(call, "PATCH", call.body as schemas.MachineConfigUpdateJson),
};

/** A PATCH that changes nothing; found before the moment is looked at. */
export function isEmptyUpdate(body: schemas.MachineConfigUpdateJson): boolean {
  return Object.values(body).every((value) => value == null);
}

function updateMachine(
  { target, deprecated }: OperationCall,
  method: string,
  update: schemas.MachineConfigUpdateJson,
): void {
  const { cpu_template: template, ...fields } = update;
  if (template != null) {
    deprecated(`${method} /machine-config: cpu_template field is deprecated.`);
    if (template !== "None") {
      throw new Fault(
        `Machine config error: this build has no static CPU template ${template}; ` +
          "PUT /cpu-config takes a custom one.",
      );
    }
  }
  const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null));
  const machine: Machine = { ...target.draft.machine, ...given };
  checkMachine(machine);
  if (machine.mem_size_mib < (target.draft.balloon?.amount_mib ?? 0)) {
    throw new Fault(
      "Machine config error: The memory size (MiB) is smaller than the previously set balloon " +
        "device target size.",
    );
  }
  target.draft = { ...target.draft, machine };
}

function checkMachine(machine: Machine): void {
  const { vcpu_count: vcpus, mem_size_mib: memoryMib, smt, huge_pages: hugePages } = machine;
  if (vcpus < 1 || vcpus > VCPU_COUNT_MAX || (smt && vcpus > 1 && vcpus % 2 !== 0)) {
    throw new Fault(
      "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be " +
        "1 or an even number if SMT is enabled.",
    );
  }
  if (memoryMib === 0 || (hugePages !== "None" && memoryMib % 2 !== 0)) {
    throw new Fault(
      "Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured " +
        "page size.",
    );
  }
}

const putCpuConfig: Operation = {
  operationId: "putCpuConfiguration",
  method: "PUT",
  path: "/cpu-config",
  tag: "Machine",
  summary: "Sets a custom CPU template.",
  body: schemas.CpuConfig,
  replies: NO_CONTENT,
  when: "before boot",
  counter: "cpu_cfg",
  async run({ target, body }) {
    const cpuConfig = withoutNulls(body as schemas.CpuConfigJson);
    const { parseCpuTemplate } = await import("../../boot/cpu-template.js");
    try {
      parseCpuTemplate(cpuConfig);
    } catch (error) {
      throw new Fault(`Configure CPU error: ${toEstaloError(error).message}`);
    }
    target.draft = { ...target.draft, cpuConfig };
  },
};

/** Parts for Arm are refused by the template's parser, unless there is nothing in them. */
function withoutNulls(config: schemas.CpuConfigJson): schemas.CpuConfigJson {
  const entries = Object.entries(config);
  return Object.fromEntries(entries.filter(([, value]) => value != null && value.length > 0));
}

export const BOOT_OPERATIONS: readonly Operation[] = [
  putBootSource,
  getMachineConfig,
  putMachineConfig,
  patchMachineConfig,
  putCpuConfig,
];
