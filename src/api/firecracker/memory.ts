/**
 * Operations on persistent memory and memory hotplug.
 */

import { PmemFile } from "../../actors/backends/pmem-file.js";
import { BLOCK_MIB_MIN, SLOT_MIB_MIN } from "../../actors/config-memory-hotplug.js";
import type { Eventually, RunningMemoryHotplug } from "../../actors/running-microvm.js";
import { toEstaloError } from "../../errors.js";
import type { Draft } from "./draft.js";
import { Fault, hostText, ID_MISMATCH } from "./faults.js";
import type { MemoryHotplug, Pmem } from "./memory-draft.js";
import * as schemas from "./memory-schemas.js";
import { NO_CONTENT, type Operation, type OperationCall } from "./operation.js";
import { shownLimiter, toLimiter, withChange } from "./rate-limiters.js";

/** The devices with this one in the place of its id's, or added; a Fault for a second root. */
function withPmem(draft: Draft, one: Pmem): readonly Pmem[] {
  if (one.root_device && draft.drives.some((drive) => drive.is_root_device)) {
    throw new Fault(
      "Pmem config error: Attempt to add pmem as a root device while the root device defined as a " +
        "block device",
    );
  }
  if (one.root_device && draft.pmem.some(({ id, root_device }) => root_device && id !== one.id)) {
    throw new Fault("Pmem config error: A root pmem device already exist");
  }
  const index = draft.pmem.findIndex(({ id }) => id === one.id);
  return index < 0 ? [...draft.pmem, one] : draft.pmem.with(index, one);
}

const PMEM_ID = { field: "id", mismatch: () => ID_MISMATCH } as const;

const putPmem: Operation = {
  operationId: "putGuestPmemByID",
  method: "PUT",
  path: "/pmem/{id}",
  tag: "Memory",
  summary: "Adds persistent memory, or replaces what has this id.",
  body: schemas.Pmem,
  replies: NO_CONTENT,
  when: "before boot",
  counter: "pmem",
  id: PMEM_ID,
  run({ target, body }) {
    const json = body as schemas.PmemJson;
    const one: Pmem = {
      id: json.id,
      path_on_host: json.path_on_host,
      root_device: json.root_device ?? false,
      read_only: json.read_only ?? false,
      rate_limiter: shownLimiter(json.rate_limiter),
    };
    const pmem = withPmem(target.draft, one);
    try {
      // Only looked at: the machine opens it when it starts.
      const { id, path_on_host: path, read_only: readOnly } = one;
      new PmemFile({ id, path, readOnly }).close();
    } catch (error) {
      throw new Fault(`Pmem config error: ${hostText(error)}`);
    }
    target.draft = { ...target.draft, pmem };
  },
};

const patchPmem: Operation = {
  operationId: "patchGuestPmemByID",
  method: "PATCH",
  path: "/pmem/{id}",
  tag: "Memory",
  summary: "Changes the limits of running persistent memory.",
  body: schemas.PmemUpdate,
  replies: NO_CONTENT,
  when: "after boot",
  counter: "pmem",
  id: PMEM_ID,
  async run({ target, body }) {
    const { id, rate_limiter: change } = body as schemas.PmemUpdateJson;
    try {
      await target.updatePmem(id, change == null ? {} : { rateLimiter: toLimiter(change) });
    } catch (error) {
      throw new Fault(`Pmem config error: ${hostText(error)}`);
    }
    if (change == null) return;
    const pmem = target.draft.pmem.map((one) =>
      one.id === id ? { ...one, rate_limiter: withChange(one.rate_limiter, change) } : one,
    );
    target.draft = { ...target.draft, pmem };
  },
};

const MEMORY = { path: "/hotplug/memory", tag: "Memory", counter: "hotplug_memory" } as const;
const HOTPLUG_FAULT = "Memory hotplug config error: ";

/** What Firecracker refuses, in its order. */
function refuseSizes({ total_size_mib, slot_size_mib, block_size_mib }: MemoryHotplug): void {
  const refuse = (what: string): never => {
    throw new Fault(`${HOTPLUG_FAULT}${what}`);
  };
  if (block_size_mib < BLOCK_MIB_MIN)
    refuse(`Block size must not be lower than ${BLOCK_MIB_MIN} MiB`);
  if (!Number.isInteger(Math.log2(block_size_mib))) refuse("Block size must be a power of 2");
  if (slot_size_mib < SLOT_MIB_MIN) refuse(`Slot size must not be lower than ${SLOT_MIB_MIN} MiB`);
  if (slot_size_mib % block_size_mib !== 0) {
    refuse(`Slot size must be a multiple of block size (${block_size_mib} MiB)`);
  }
  if (total_size_mib < slot_size_mib) {
    refuse(`Total size must not be lower than slot size (${slot_size_mib} MiB)`);
  }
  if (total_size_mib % slot_size_mib !== 0) {
    refuse(`Total size must be a multiple of slot size (${slot_size_mib} MiB)`);
  }
}

const putHotplug: Operation = {
  ...MEMORY,
  operationId: "putMemoryHotplug",
  method: "PUT",
  summary: "Makes room for memory that can be plugged.",
  body: schemas.MemoryHotplug,
  replies: NO_CONTENT,
  when: "before boot",
  run({ target, body }) {
    const json = body as schemas.MemoryHotplugJson;
    const memoryHotplug: MemoryHotplug = {
      total_size_mib: json.total_size_mib,
      block_size_mib: json.block_size_mib ?? BLOCK_MIB_MIN,
      slot_size_mib: json.slot_size_mib ?? SLOT_MIB_MIN,
    };
    refuseSizes(memoryHotplug);
    target.draft = { ...target.draft, memoryHotplug };
  },
};

/** The running machine's; raises a Fault where there is none, and what `use` raises as one. */
async function withHotplug<T>(
  { target }: OperationCall,
  use: (hotplug: RunningMemoryHotplug) => Eventually<T>,
): Promise<T> {
  if (target.draft.memoryHotplug === undefined) {
    throw new Fault(`${HOTPLUG_FAULT}Device not found.`);
  }
  try {
    return await use(target.memoryHotplug());
  } catch (error) {
    throw new Fault(`${HOTPLUG_FAULT}${toEstaloError(error).message}`);
  }
}

const patchHotplug: Operation = {
  ...MEMORY,
  operationId: "patchMemoryHotplug",
  method: "PATCH",
  summary: "Asks the guest to have so much of it.",
  body: schemas.MemoryHotplugUpdate,
  replies: NO_CONTENT,
  when: "after boot",
  async run(call) {
    const { requested_size_mib } = call.body as { requested_size_mib: number };
    await withHotplug(call, (hotplug) => hotplug.setRequestedSize(requested_size_mib));
  },
};

const getHotplug: Operation = {
  ...MEMORY,
  operationId: "getMemoryHotplug",
  method: "GET",
  summary: "How much is plugged, and asked for.",
  replies: {
    200: { description: "As it is.", schema: schemas.MemoryHotplugStatus },
    400: NO_CONTENT[400],
  },
  when: "after boot",
  run: (call) =>
    withHotplug(call, async (hotplug) => {
      const report = await hotplug.report();
      return {
        block_size_mib: report.blockSizeMib,
        total_size_mib: report.totalSizeMib,
        slot_size_mib: report.slotSizeMib,
        plugged_size_mib: report.pluggedSizeMib,
        requested_size_mib: report.requestedSizeMib,
      };
    }),
};

export const MEMORY_OPERATIONS: readonly Operation[] = [
  putPmem,
  patchPmem,
  putHotplug,
  patchHotplug,
  getHotplug,
];
