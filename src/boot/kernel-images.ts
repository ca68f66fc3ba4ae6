/**
 * Kernels of this process: parsed once, and kept as images that microVMs map instead of reading them.
 *
 * Reading 8 MB into fresh guest memory takes 7 ms, most of it in page faults; mapping an image of it takes
 * microseconds, and what guests do not write of it they share. An image is sealed: no change of the file
 * reaches a guest that runs. It is found again by the file's device, inode, size and times, never by its path.
 */
import { hostError } from "../errors.js";
import { alignDown, alignUp, type Gpa, MIB, PAGE_BYTES } from "../units.js";
import { copyToFile, type OpenBootFile } from "./boot-file.js";
import type { KernelImage } from "./kernel-file.js";
import { parseKernelImage } from "./kernel-image.js";

/** Kept for the next microVM, the last used ones; their memory is the process's. */
const KERNELS_MAX = 4;
/** A larger one is read by each microVM. */
const CONTENT_BYTES_MAX = 64 * MIB;
/** File systems' clocks tick: a file written this recently may be written again under the same time, ms. */
const SETTLED_MS = 2000;

/** Bytes that many guests begin with: filled through `fd`, sealed, then mapped by each. */
export interface ImageFile {
  readonly fd: number;
  /** From now on it can neither be written nor change its size. */
  seal(): void;
  /** What was mapped stays mapped. */
  close(): void;
}

/** Makes images, and maps them into one microVM's memory. */
export interface GuestImages {
  /** An image of zeros, in whole pages. */
  create(sizeBytes: number): ImageFile;
  /** Puts a private copy of a sealed image at `gpa`. */
  map(image: ImageFile, gpa: Gpa): void;
}

/** What a mapped kernel covers: whole pages from the first segment's on. */
export interface KernelContent {
  readonly gpa: Gpa;
  readonly file: ImageFile;
}

/** A kernel that was parsed. */
export class PreparedKernel {
  readonly image: KernelImage;
  #content: KernelContent | undefined;

  constructor(image: KernelImage) {
    this.image = image;
  }

  /** The image, made from `file` when it is first asked for; none of a kernel that is too large for it. */
  content(file: OpenBootFile, images: GuestImages): KernelContent | undefined {
    this.#content ??= makeContent(file, this.image, images);
    return this.#content;
  }

  /** MicroVMs keep what they have mapped. */
  close(): void {
    this.#content?.file.close();
    this.#content = undefined;
  }
}

const kept = new Map<string, PreparedKernel>();

/**
 * Runs `use` with the kernel that `file` holds: one that is kept, or what its parser makes of it, which raises
 * ERR_ESTALO_KERNEL_FORMAT or _KERNEL_TRUNCATED.
 */
export function withKernel<T>(file: OpenBootFile, use: (kernel: PreparedKernel) => T): T {
  const known = kept.get(file.identity);
  const kernel = known ?? new PreparedKernel(parseKernelImage(file));
  const isSettled = Date.now() - file.changedAtMs > SETTLED_MS;
  try {
    const result = use(kernel);
    if (isSettled) keep(file.identity, kernel);
    return result;
  } finally {
    if (kept.get(file.identity) !== kernel) kernel.close();
  }
}

/** As the last used one. */
function keep(identity: string, kernel: PreparedKernel): void {
  kept.delete(identity);
  kept.set(identity, kernel);
  for (const [oldest, unused] of kept) {
    if (kept.size <= KERNELS_MAX) return;
    kept.delete(oldest);
    unused.close();
  }
}

function makeContent(
  file: OpenBootFile,
  image: KernelImage,
  images: GuestImages,
): KernelContent | undefined {
  const segments = image.segments.filter(({ fileBytes }) => fileBytes > 0);
  if (segments.length === 0) return undefined;
  const start = Math.min(...segments.map(({ gpa }) => gpa));
  const end = Math.max(...segments.map(({ gpa, fileBytes }) => gpa + fileBytes));
  const gpa = alignDown(start, PAGE_BYTES);
  const sizeBytes = alignUp(end, PAGE_BYTES) - gpa;
  if (sizeBytes > CONTENT_BYTES_MAX) return undefined;
  const content = create(file, sizeBytes, images);
  try {
    for (const segment of segments) {
      const { fileOffset, fileBytes } = segment;
      copyToFile(file, fileOffset, fileBytes, content.fd, segment.gpa - gpa);
    }
    content.seal();
    return { gpa, file: content };
  } catch (error) {
    content.close();
    throw error;
  }
}

function create(file: OpenBootFile, sizeBytes: number, images: GuestImages): ImageFile {
  try {
    return images.create(sizeBytes);
  } catch (error) {
    throw hostError("memfd_create", `image of kernel ${file.path}`, error);
  }
}
