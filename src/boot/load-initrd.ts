/**
 * Puts an initrd into guest memory: at the top of the first region, page-aligned downwards, so that
 * the kernel below has room to unpack; below `initrd_addr_max` where the kernel names one.
 */
import { EstaloError } from "../errors.js";
import type { GuestMemory } from "../native/guest-memory.js";
import { alignDown, alignUp, type Gpa, MIB, PAGE_BYTES } from "../units.js";
import { type OpenBootFile, readIntoGuest } from "./boot-file.js";
import type { KernelImage } from "./kernel-file.js";

/** Where the initrd lies. */
export interface LoadedInitrd {
  readonly gpa: Gpa;
  readonly sizeBytes: number;
}

/** Loads the initrd above `image`. ERR_ESTALO_INITRD_TOO_LARGE when there is no room for it. */
export function loadInitrd(
  file: OpenBootFile,
  image: KernelImage,
  memory: GuestMemory,
): LoadedInitrd {
  const sizeBytes = file.sizeBytes;
  if (sizeBytes === 0) {
    throw new EstaloError("ERR_ESTALO_INITRD_FILE", `initrd ${file.path} is empty`, {
      data: { path: file.path },
    });
  }
  const end = Math.min(memory.regions[0].sizeBytes, image.initrdLastGpa + 1);
  const floor = alignUp(image.endGpa, PAGE_BYTES);
  const gpa = alignDown(end - sizeBytes, PAGE_BYTES);
  if (gpa < floor) {
    const roomBytes = Math.max(0, alignDown(end, PAGE_BYTES) - floor);
    throw new EstaloError(
      "ERR_ESTALO_INITRD_TOO_LARGE",
      `initrd ${file.path} has ${sizeBytes} bytes, above the kernel there is room for ${roomBytes}`,
      {
        hint: `${Math.ceil((floor + sizeBytes + PAGE_BYTES) / MIB)} MiB of memory or more may do`,
        data: { path: file.path, sizeBytes, roomBytes, givenMib: memory.sizeBytes / MIB },
      },
    );
  }
  readIntoGuest(file, 0, sizeBytes, memory, gpa);
  return { gpa, sizeBytes };
}
