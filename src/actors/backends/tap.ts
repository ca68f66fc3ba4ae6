/**
 * A tap as a network interface's other end: whole batches of frames in one native call, each straight between
 * the kernel and guest memory.
 */
import type { FrameSegments, NetBackend } from "../../devices/backend.js";
import * as net from "../../devices/virtio/net.regs.js";
import { EstaloError, hostError } from "../../errors.js";
import { type NativeTap, native } from "../../native/binding.js";
import type { DeviceSurroundings } from "../device-family.js";
import type { Watch } from "../device-host.js";

// linux/if_tun.h
const TUN_F_CSUM = 1;
const TUN_F_TSO4 = 2;
const TUN_F_TSO6 = 4;
const TUN_F_UFO = 16;

/** A tap has no room only while its interface is being changed: it is tried again after this, ms. */
const TRY_AGAIN_MS = 1;
/** Words that a native call reports in. */
const LOST = 0;
const ERRNO = 1;
/** The interface has been removed: errno of every call from then on. */
const EBADFD = 77;
/** A buffer lies outside guest memory: only the addon says so, whose memory is never taken away. */
const EFAULT = 14;

/** What is wrong, by errno, in the words of who set the interface up. */
const HINTS: Readonly<Record<string, string>> = {
  ENODEV: "make it with: ip tuntap add NAME mode tap vnet_hdr",
  EBUSY: "another program has it open",
  EPERM: "it belongs to another user, or this process may not administrate the network",
  EACCES: "this user may not open /dev/net/tun",
  ENOENT: "load the module tun",
  EINVAL:
    "it is no tap, or was made with one queue where several are asked for, or the other way: ip tuntap add NAME mode tap vnet_hdr [multi_queue]",
};

/** Which of a tap's queues one is; as src/native/tap.h numbers them. */
const QUEUES = { only: 0, first: 1, further: 2 } as const;

/**
 * Opens a tap with as many queues, all or none; of several the first takes
 * part until the driver asks for more. Raises as one.
 */
export function openTap(name: string, queues: number): TapBackend[] {
  if (queues === 1) return [new TapBackend(name)];
  const opened: TapBackend[] = [];
  try {
    while (opened.length < queues) {
      const backend = new TapBackend(name, opened.length === 0 ? "first" : "further");
      opened.push(backend);
      if (opened.length > 1) backend.setAttached(false);
    }
    return opened;
  } catch (error) {
    for (const backend of opened) backend.close();
    throw error;
  }
}

/** A tap, or one queue of it. See the file's header. Thread: the device host's. */
export class TapBackend implements NetBackend {
  readonly supportsOffloads = true;
  sendErrors = 0;
  receiveErrors = 0;
  onReadable: (() => void) | undefined;
  onWritable: (() => void) | undefined;

  readonly #tap: NativeTap;
  readonly #name: string;
  readonly #status = new Int32Array(2);
  readonly #frame = new Uint8Array(net.FRAME_BYTES_MAX);
  #watch: Watch | undefined;
  #tryAgain: NodeJS.Timeout | undefined;
  /** The interface has been removed, which was told: what is sent is lost, and nothing comes any more. */
  #isGone = false;

  /**
   * Opens an existing tap, or takes an open one; raises ERR_ESTALO_TAP (`data`: operation, object, errno) when
   * that cannot be.
   */
  constructor(name: string, queue: keyof typeof QUEUES = "only", fd?: number) {
    this.#name = name;
    try {
      this.#tap = new (native().Tap)(fd ?? name, this.#status, QUEUES[queue]);
    } catch (error) {
      const hint = HINTS[(error as NodeJS.ErrnoException).code ?? ""]?.replaceAll("NAME", name);
      throw hostError("open tap", name, error, "ERR_ESTALO_TAP", hint);
    }
  }

  /** Its descriptor, for another process: the caller's from now on, and nothing else here works any more. */
  release(): number {
    return this.#tap.release();
  }

  /** Gives it the memory that frames go to and come from, and listens; called once, before all below. */
  connect({ mapping, host, onError }: Omit<DeviceSurroundings, "memory" | "vm">): void {
    this.#tap.connect(mapping);
    this.#watch = host.watch(this.#tap.fd, () => this.onReadable?.(), onError);
  }

  setOffloads(features: number): void {
    const has = (bit: number) => ((features >>> bit) & 1) !== 0;
    let flags = 0;
    if (has(net.FEATURE_GUEST_CSUM_BIT)) {
      flags |= TUN_F_CSUM;
      if (has(net.FEATURE_GUEST_TSO4_BIT)) flags |= TUN_F_TSO4;
      if (has(net.FEATURE_GUEST_TSO6_BIT)) flags |= TUN_F_TSO6;
      if (has(net.FEATURE_GUEST_UFO_BIT)) flags |= TUN_F_UFO;
    }
    if (this.#isGone) return;
    try {
      this.#tap.setOffloads(flags);
    } catch (error) {
      throw hostError("set offloads of tap", this.#name, error, "ERR_ESTALO_TAP");
    }
  }

  setAttached(isAttached: boolean): void {
    if (this.#isGone) return;
    try {
      this.#tap.setAttached(isAttached);
    } catch (error) {
      // A queue of an interface that is gone takes part no more.
      if (!isAttached) return;
      throw hostError("attach queue of tap", this.#name, error, "ERR_ESTALO_TAP");
    }
  }

  send(frames: FrameSegments, first: number, end: number): number {
    const { addresses, lengths, ends } = frames;
    const done = this.#tap.send(addresses, lengths, ends, first, end);
    this.sendErrors += this.#status[LOST];
    if (done < end - first) this.#waitForRoom();
    return done;
  }

  receive(
    buffers: FrameSegments,
    first: number,
    end: number,
    mergeable: boolean,
    frameBytes: Uint32Array,
    frameBuffers: Uint16Array,
  ): number {
    if (this.#isGone) return 0;
    const { addresses, lengths, ends } = buffers;
    // biome-ignore format: eight arguments, so that nothing is allocated for a batch
    const frames = this.#tap.receive(addresses, lengths, ends, first, end, mergeable, frameBytes, frameBuffers);
    this.#countReceiveErrors();
    return frames;
  }

  sendBytes(frame: Uint8Array): boolean {
    const isDone = this.#tap.sendBytes(frame);
    this.sendErrors += this.#status[LOST];
    return isDone;
  }

  receiveBytes(): Uint8Array | undefined {
    if (this.#isGone) return undefined;
    const bytes = this.#tap.receiveBytes(this.#frame);
    this.#countReceiveErrors();
    return bytes === 0 ? undefined : this.#frame.slice(0, bytes);
  }

  /** The errno of the last frame that was lost, 0 if the last call lost none. */
  get lastErrno(): number {
    return this.#status[ERRNO];
  }

  close(): void {
    clearTimeout(this.#tryAgain);
    this.#watch?.close();
    this.#tap.close();
  }

  /**
   * Raises ERR_ESTALO_TAP, once, when the interface is found to be gone: its device fails, others go on. Raises
   * ERR_ESTALO_GUEST_FAULT for a buffer outside guest memory: one that was inside when the guest offered it.
   */
  #countReceiveErrors(): void {
    if (this.#status[ERRNO] === EFAULT) {
      throw new EstaloError("ERR_ESTALO_GUEST_FAULT", "a receive buffer lies outside guest memory");
    }
    if (this.#status[ERRNO] === EBADFD) {
      this.#isGone = true;
      throw new EstaloError("ERR_ESTALO_TAP", `read tap ${this.#name}: EBADFD`, {
        data: { operation: "read tap", object: this.#name, errno: "EBADFD" },
        hint: "somebody has removed the interface",
      });
    }
    this.receiveErrors += this.#status[LOST];
  }

  #waitForRoom(): void {
    this.#tryAgain ??= setTimeout(() => {
      this.#tryAgain = undefined;
      this.onWritable?.();
    }, TRY_AGAIN_MS);
  }
}
