/**
 * Puts a parsed kernel into guest memory.
 *
 * Its image is mapped where that can be; else the file is read straight into the guest, in few large
 * reads. Memory beyond a segment's file contents (BSS) is not touched: fresh guest memory is zero, and
 * touching it would make the host allocate it.
 */
import { EstaloError, hostError } from "../errors.js";
import type { GuestMemory } from "../native/guest-memory.js";
import { MIB } from "../units.js";
import { type OpenBootFile, readIntoGuest } from "./boot-file.js";
import type { KernelImage } from "./kernel-file.js";
import type { GuestImages, PreparedKernel } from "./kernel-images.js";

/**
 * Maps the kernel's image, or loads it when `images` is absent or it is too large for one. Returns the bytes of
 * its segments. ERR_ESTALO_MEMORY_TOO_SMALL when one does not fit.
 */
export function placeKernel(
  file: OpenBootFile,
  kernel: PreparedKernel,
  memory: GuestMemory,
  images: GuestImages | undefined,
): number {
  const { image } = kernel;
  checkFits(file, image, memory);
  const content = images === undefined ? undefined : kernel.content(file, images);
  if (images === undefined || content === undefined) return loadKernel(file, image, memory);
  try {
    images.map(content.file, content.gpa);
  } catch (error) {
    throw hostError("mmap", `image of kernel ${file.path}`, error);
  }
  return image.segments.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
}

/**
 * Reads all segments; returns the bytes read. ERR_ESTALO_MEMORY_TOO_SMALL when one does not fit.
 */
export function loadKernel(file: OpenBootFile, image: KernelImage, memory: GuestMemory): number {
  checkFits(file, image, memory);
  let bytes = 0;
  for (const segment of image.segments) {
    readIntoGuest(file, segment.fileOffset, segment.fileBytes, memory, segment.gpa);
    bytes += segment.fileBytes;
  }
  return bytes;
}

/** All that the kernel needs to start lies in the first region, without the MMIO gap's hole. */
function checkFits(file: OpenBootFile, image: KernelImage, memory: GuestMemory): void {
  const room = memory.regions[0].sizeBytes;
  if (image.endGpa <= room) return;
  const neededMib = Math.ceil(image.endGpa / MIB);
  const givenMib = memory.sizeBytes / MIB;
  throw new EstaloError(
    "ERR_ESTALO_MEMORY_TOO_SMALL",
    `kernel ${file.path} needs ${neededMib} MiB to start, the microVM has ${givenMib} MiB`,
    { data: { path: file.path, neededMib, givenMib } },
  );
}
