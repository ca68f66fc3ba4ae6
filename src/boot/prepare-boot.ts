/**
 * Everything a microVM's memory must hold before vCPU 0 runs, in one call.
 *
 * Order: read the kernel's headers, check that all fits, load kernel and initrd, then write the
 * tables. All of it is synchronous; a kernel and tables that an earlier microVM of the process had are
 * at hand already. The memory is expected fresh (all zero); the MMIO gap and the layout are those of
 * memory-map.ts and layout.ts.
 */
import { EstaloError } from "../errors.js";
import type { GuestMemory } from "../native/guest-memory.js";
import type { Gpa } from "../units.js";
import type { GenerationGsis } from "./acpi/dsdt.js";
import { acpiTables } from "./acpi/tables.js";
import { type BootFile, type OpenBootFile, withBootFile } from "./boot-file.js";
import { type BootInformation, buildBootParams } from "./boot-params.js";
import {
  type BootProtocol,
  type BootRegisters,
  bootRegisters,
  writeBootTables,
} from "./boot-registers.js";
import { assembleCommandLine, type CommandLineParts, encodeCommandLine } from "./command-line.js";
import type { KernelImage } from "./kernel-file.js";
import { type GuestImages, type PreparedKernel, withKernel } from "./kernel-images.js";
import * as layout from "./layout.js";
import { loadInitrd } from "./load-initrd.js";
import { placeKernel } from "./load-kernel.js";
import { memoryMap } from "./memory-map.js";
import { buildMpTable } from "./mp-table.js";
import { writePvhInfo } from "./pvh.js";
import { writeVmClock } from "./vmclock.js";
import { writeVmGenId } from "./vmgenid.js";

/** Which run of a machine this is: a random id of 16 bytes, and the interrupts that tell of another one. */
export interface Generation {
  readonly id: Uint8Array;
  readonly gsis: GenerationGsis;
}

/** What is booted, and on what machine. */
export interface BootOptions extends CommandLineParts {
  readonly kernel: BootFile;
  readonly initrd?: BootFile;
  /** 1 to 32. */
  readonly vcpuCount: number;
  /** No VM generation id and no VMClock when absent. */
  readonly generation?: Generation;
  /** Maps the kernel's image; absent: the kernel is read (into huge pages it can only be). */
  readonly images?: GuestImages;
}

/** What the vCPUs and the logs need to know of the prepared memory. */
export interface PreparedBoot {
  readonly protocol: BootProtocol;
  /** Guest-physical address of the first instruction. */
  readonly entry: Gpa;
  /** The whole command line as the kernel gets it. */
  readonly commandLine: string;
  /** For vCPU 0 only; see boot-registers.ts for what every vCPU gets. */
  readonly registers: BootRegisters;
  /** Bytes of kernel and initrd read into the guest. */
  readonly bytesLoaded: number;
}

/**
 * Loads kernel and initrd and writes all boot tables.
 *
 * @throws ERR_ESTALO_KERNEL_FILE, _KERNEL_FORMAT, _KERNEL_TRUNCATED, _INITRD_FILE,
 *   _INITRD_TOO_LARGE, _MEMORY_TOO_SMALL, _CMDLINE_TOO_LONG, _CONFIG_INVALID; the memory's
 *   contents are undefined then
 */
export function prepareBoot(memory: GuestMemory, options: BootOptions): PreparedBoot {
  checkVcpuCount(options.vcpuCount);
  const prepare = (kernelFile: OpenBootFile, kernel: PreparedKernel): PreparedBoot => {
    const { image } = kernel;
    const commandLine = assembleCommandLine(options, image.commandLineBytesMax);
    let bytesLoaded = placeKernel(kernelFile, kernel, memory, options.images);
    const initrd =
      options.initrd &&
      withBootFile("initrd", options.initrd, (file) => loadInitrd(file, image, memory));
    bytesLoaded += initrd?.sizeBytes ?? 0;
    memory.write(layout.COMMAND_LINE_GPA, encodeCommandLine(commandLine));
    writeMachineTables(memory, options);
    writeProtocolTables(memory, image, {
      commandLineGpa: layout.COMMAND_LINE_GPA,
      commandLineBytes: commandLine.length,
      rsdpGpa: layout.RSDP_GPA,
      initrd,
      memoryMap: memoryMap(memory.regions),
    });
    const { protocol, entry } = image;
    const registers = bootRegisters(protocol, entry);
    return { protocol, entry, commandLine, registers, bytesLoaded };
  };
  return withBootFile("kernel", options.kernel, (kernelFile) =>
    withKernel(kernelFile, (kernel) => prepare(kernelFile, kernel)),
  );
}

function checkVcpuCount(vcpuCount: number): void {
  if (Number.isInteger(vcpuCount) && vcpuCount >= 1 && vcpuCount <= layout.VCPU_COUNT_MAX) return;
  throw new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    `a microVM has 1 to ${layout.VCPU_COUNT_MAX} vCPUs, not ${vcpuCount}`,
    { data: { vcpuCount } },
  );
}

/** What describes the machine whatever the boot protocol: ACPI, MP table, generation. */
function writeMachineTables(memory: GuestMemory, options: BootOptions): void {
  const { vcpuCount, virtioDevices, generation } = options;
  const acpi = acpiTables({
    vcpuCount,
    virtioDevices,
    ...(generation === undefined ? {} : { generation: generation.gsis }),
  });
  memory.write(layout.ACPI_TABLES_GPA, acpi.tables);
  memory.write(layout.RSDP_GPA, acpi.rsdp);
  memory.write(layout.MP_TABLE_GPA, buildMpTable(vcpuCount));
  if (generation === undefined) return;
  writeVmGenId(memory, generation.id);
  writeVmClock(memory);
}

function writeProtocolTables(memory: GuestMemory, image: KernelImage, info: BootInformation): void {
  if (image.protocol === "pvh") writePvhInfo(memory, info);
  else memory.write(layout.ZERO_PAGE_GPA, buildBootParams(image, info));
  writeBootTables(memory, image.protocol);
}
