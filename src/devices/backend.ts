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

/** A file that a guest has mapped. */
export interface SyncBackend {
  /** The file's length. */
  readonly sizeBytes: number;
  /**
   * Makes everything that was written until now stable, on another thread; `done` is called later,
   * once: false when the host could not. One sync at a time.
   */
  sync(done: (isDone: boolean) => void): void;
}

/** Memory that a guest gets and gives back block by block. */
export interface MemoryPlugger {
  /** Makes unplugged blocks memory of the guest; false, and nothing changed: the host refused. */
  plug(start: number, sizeBytes: number): boolean;
  /** What is plugged of the range is memory no more, and its pages go back; false: some stayed. */
  unplug(start: number, sizeBytes: number): boolean;
}

/** A source of random bytes for guests. */
export interface EntropySource {
  /** Fills the first `count` bytes, synchronously. */
  fill(bytes: Uint8Array, count: number): void;
}

/** Seals small messages with AES-256-GCM, under a key that nobody sees. */
export interface TokenSealer {
  /** Takes a new key: what was sealed before is not opened any more. */
  renewKey(): void;
  /** The initialization vector (12 bytes, new each time), the ciphertext, as long as `plain`, the tag (16). */
  seal(plain: Uint8Array, associated: Uint8Array): Uint8Array;
  /** What was sealed; `undefined`: not by this key, for this `associated`, or changed since. */
  open(sealed: Uint8Array, associated: Uint8Array): Uint8Array | undefined;
}

/** Where a serial line's transmitted bytes go. */
export interface ByteSink {
  /**
   * Takes the bytes (a private copy) and says whether more may come at once; `false`: wait for
   * `onDrain`.
   */
  write(bytes: Uint8Array): boolean;
}

/** Frames as segments of guest memory: see devices/virtio/chain-table.ts. */
export interface FrameSegments {
  readonly addresses: Float64Array;
  readonly lengths: Uint32Array;
  /** Index after the last segment of each frame or buffer; it begins where the one before it ends. */
  readonly ends: Uint32Array;
}

/**
 * The other end of a network interface: a tap, a socket. Every frame begins with struct
 * virtio_net_hdr_v1 (12 bytes). No call waits.
 */
export interface NetBackend {
  /** Whether it takes and gives frames with checksums and segmentation left to do. */
  readonly supportsOffloads: boolean;
  /** Which of them the driver takes: its accepted GUEST_* feature bits (0 to 31). */
  setOffloads(features: number): void;
  /**
   * Sends the frames `first` to before `end`, in order; returns how many are done with, sent or
   * lost. Fewer than all: there is no room, and `onWritable` follows.
   */
  send(frames: FrameSegments, first: number, end: number): number;
  /**
   * Fills the buffers `first` to before `end` with frames that wait. `mergeable`: a frame takes as
   * many buffers as it needs; else one. A frame that does not fit is lost, but one that takes several and
   * for which others have left too few: it waits. Returns the number of frames; for each, `frameBytes` says
   * how long it is and `frameBuffers` how many buffers it took.
   */
  receive(
    buffers: FrameSegments,
    first: number,
    end: number,
    mergeable: boolean,
    frameBytes: Uint32Array,
    frameBuffers: Uint16Array,
  ): number;
  /**
   * Of one of several that share an interface: whether it takes part in receiving. Made so, but for the
   * first, that it does not.
   */
  setAttached(isAttached: boolean): void;
  /** As `send` and `receive` for one frame in the host's memory; `undefined`: none waits. */
  sendBytes(frame: Uint8Array): boolean;
  receiveBytes(): Uint8Array | undefined;
  /** Frames that were lost on the host's side, each way. */
  readonly sendErrors: number;
  readonly receiveErrors: number;
  /** Set by the device: frames may wait; there may be room. */
  onReadable: (() => void) | undefined;
  onWritable: (() => void) | undefined;
}

/**
 * Who looks at a network device's frames before they go on. Installed only where somebody does;
 * frames then take a way through the host's memory.
 */
export interface FrameDetour {
  /**
   * A frame of the guest: true takes it, and it is not sent. `start`, valid during the call, holds
   * its first bytes from the Ethernet header on (at most 64); `copy` gives the whole frame, from
   * there on too, and `copyHeader` the virtio-net header before it. "charged" takes it as well, and the
   * interface's limit still counts it: it may go on later.
   */
  transmit?(
    start: Uint8Array,
    frameBytes: number,
    copy: () => Uint8Array,
    copyHeader: () => Uint8Array,
  ): boolean | "charged";
  /** As above for a frame to the guest. */
  receive?(
    start: Uint8Array,
    frameBytes: number,
    copy: () => Uint8Array,
    copyHeader: () => Uint8Array,
  ): boolean | "charged";
}

/** Gives pages of guest memory back to the host; they read as zeros when the guest uses them again. */
export interface PageReclaimer {
  /**
   * Frees the ranges `0` to before `count` (guest-physical start and length in bytes, whole pages in
   * RAM, checked by the caller) and returns how many bytes; less than all: the host refused some.
   */
  reclaim(starts: Float64Array, lengths: Float64Array, count: number): number;
}
