/**
 * What stands behind a device: contracts only. Implementations with host I/O live in
 * actors/backends/.
 */

/** A request to a disk, as numbers, so that nothing is allocated for it. */
export const DISK_READ = 0;
export const DISK_WRITE = 1;
export const DISK_FLUSH = 2;
export const DISK_DISCARD = 3;
export const DISK_WRITE_ZEROES = 4;
export type DiskOperation = 0 | 1 | 2 | 3 | 4;

/**
 * A disk image or block device. Requests are queued with `enqueue`, handed over together by
 * `submit`, and answered in any order through `onComplete`.
 */
export interface DiskBackend {
  /** Usable size in bytes, a multiple of 512. */
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Whether DISCARD and WRITE_ZEROES are supported by what is behind. */
  readonly supportsDiscard: boolean;
  /** Up to 20 bytes that identify the backing object (GET_ID). */
  readonly serial: Uint8Array;
  /** How many requests may be in flight at once; `enqueue` is not called beyond it. */
  readonly depth: number;

  /**
   * Adds one request to the next batch.
   *
   * @param tag - 0 to `depth - 1`, not in use; comes back in `onComplete`
   * @param offsetBytes - where on the disk; `lengthBytes` its length (both checked by the caller)
   * @param addresses, lengths, first, count - guest-physical segments `first … first + count - 1`
   *   of the data, inside RAM (checked by the caller); copied before `enqueue` returns. Empty but
   *   for
   *   reads and writes
   * @param unmap - for DISK_WRITE_ZEROES: whether the blocks may be deallocated
   */
  enqueue(
    tag: number,
    operation: DiskOperation,
    offsetBytes: number,
    lengthBytes: number,
    addresses: Float64Array,
    lengths: Uint32Array,
    first: number,
    count: number,
    unmap: boolean,
  ): void;
  /** Hands the batch to the host: at most one system call. */
  submit(): void;
  /**
   * Set by the device: `result` is 0 for success, else a negative errno. Short reads and writes
   * were continued by the backend; a read beyond the end of a file that shrank is -EIO.
   */
  onComplete: ((tag: number, result: number) => void) | undefined;
  /** Called after a burst of `onComplete` calls: the device publishes once for all of them. */
  onBatchEnd: (() => void) | undefined;
}

/** A source of random bytes for guests: fills all segments' bytes, synchronously. */
export interface EntropySource {
  fill(bytes: Uint8Array): void;
}

/** Where a serial line's transmitted bytes go. */
export interface ByteSink {
  /**
   * Takes the bytes (a private copy) and says whether more may come at once; `false`: wait for
   * `onDrain`.
   */
  write(bytes: Uint8Array): boolean;
}
