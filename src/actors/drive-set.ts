/**
 * The drives of one microVM: their files, what moves their bytes, and their virtio devices.
 *
 * Files are opened before anything else is made, so that a wrong path fails at once. Backends need guest
 * memory and come later; each owns its file and closes it.
 */
import { closeSync } from "node:fs";
import type { DiskBackend } from "../devices/backend.js";
import { RateLimiter, type RateLimiterConfig } from "../devices/rate-limiter.js";
import { VirtioBlock } from "../devices/virtio/block.js";
import { EstaloError, hostError } from "../errors.js";
import { type DiskFile, openDiskFile } from "./backends/disk-file.js";
import { LibuvDisk } from "./backends/libuv-disk.js";
import { UringDisk } from "./backends/uring-disk.js";
import { type DriveRequest, FilteredDisk, Patience } from "./block-middleware.js";
import type { CheckedDrive } from "./config.js";
import { checkRateLimiter } from "./config-rate-limiter.js";
import type { VirtioDeviceRequest } from "./device-board.js";
import type { DeviceFamily, DeviceSurroundings } from "./device-family.js";
import { GivenFiles } from "./given-files.js";
import { MiddlewareChain, type MiddlewareReporter } from "./middleware.js";
import { nowUs, RateLimit } from "./rate-limits.js";

type OwnedBackend = DiskBackend & { abandon(): void; close(): void };

interface Drive {
  config: CheckedDrive;
  file: DiskFile | undefined;
  backend: OwnedBackend | undefined;
  device: VirtioBlock | undefined;
  readonly limit: RateLimit;
  /** The replacement before the next one. */
  replaced: Promise<unknown>;
}

/** See the file's header. Thread: the device host's. */
export class DriveSet implements DeviceFamily {
  /** In the way of every drive's requests. */
  readonly middleware: MiddlewareChain<DriveRequest>;
  readonly #drives: Drive[] = [];
  readonly #patience = new Patience();
  #surroundings: DeviceSurroundings | undefined;
  #abandoned = false;
  #closed = false;

  /** Opens every drive's file that is not given; raises ERR_ESTALO_DRIVE_FILE with none left open. */
  constructor(
    configs: readonly CheckedDrive[],
    report: MiddlewareReporter = () => {},
    given = new GivenFiles(),
  ) {
    // As many as the drives' queues hold.
    this.middleware = new MiddlewareChain("drives", Number.POSITIVE_INFINITY, report);
    this.middleware.onUse = () => this.#reroute();
    try {
      for (const config of configs) {
        const file = openDiskFile(config, given.take(`drive ${config.id}`));
        const limiter = new RateLimiter(config.rateLimiter, nowUs);
        const drive: Drive = {
          config,
          file,
          backend: undefined,
          device: undefined,
          limit: new RateLimit(limiter, () => drive.device?.resumeThrottled()),
          replaced: Promise.resolve(),
        };
        this.#drives.push(drive);
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The root drive's configuration, if one is. */
  get root(): CheckedDrive | undefined {
    return this.#drives.find((drive) => drive.config.isRoot)?.config;
  }

  /** One request per drive, in order. */
  get requests(): VirtioDeviceRequest[] {
    return this.#drives.map((drive) => ({
      name: `drive ${drive.config.id}`,
      create: (host) => {
        drive.device = new VirtioBlock(host, {
          backend: drive.backend as OwnedBackend,
          cacheType: drive.config.cacheType,
          readOnly: drive.config.readOnly,
          nowUs,
          limiter: drive.limit.limiter,
        });
        return drive.device;
      },
    }));
  }

  /** Makes the backends; they own the files from then on. */
  connect(surroundings: DeviceSurroundings): void {
    this.#surroundings = surroundings;
    for (const drive of this.#drives) {
      const file = drive.file as DiskFile;
      // Its new owner closes it, also when it fails.
      drive.file = undefined;
      drive.backend = createBackend(file, drive.config, surroundings);
    }
  }

  /** Metrics of each drive, by id. */
  get metrics(): ReadonlyMap<string, VirtioBlock["metrics"]> {
    const entries = this.#drives.flatMap(({ config, device }) =>
      device === undefined ? [] : [[config.id, device.metrics] as const],
    );
    return new Map(entries);
  }

  /**
   * Puts another file (or the same one, grown) behind a drive while the guest runs; its driver sees the new
   * capacity. Fulfilled with the size in bytes when nothing uses the old file any more. Replacements of one
   * drive happen one after the other. `file`: the file at the path, which is closed here in any case. `limits`:
   * changed as well, before.
   */
  async replace(
    id: string,
    path: string | undefined,
    file?: DiskFile,
    limits?: RateLimiterConfig,
  ): Promise<number> {
    let drive: Drive;
    try {
      drive = this.#find(id);
      if (limits !== undefined) this.limit(id, limits);
    } catch (error) {
      if (file !== undefined) closeSync(file.fd);
      throw error;
    }
    const sizeBytes = drive.replaced.then(() => this.#replaceNow(drive, path, file));
    drive.replaced = sizeBytes.catch(() => {
      if (drive.device !== undefined) drive.device.metrics.update_fails++;
    });
    return sizeBytes;
  }

  /** Changes a drive's limits at once; raises ERR_ESTALO_DRIVE_UNKNOWN or ERR_ESTALO_CONFIG_INVALID. */
  limit(id: string, change: RateLimiterConfig): void {
    this.#find(id).limit.configure(checkRateLimiter("rateLimiter", change));
  }

  /** The limits of each drive at work, by id. */
  get limits(): ReadonlyMap<string, RateLimit> {
    return new Map(this.#drives.map(({ config, limit }) => [config.id, limit]));
  }

  /** The microVM ends: its requests need not be carried out any more, and what is long is cut short. */
  abandon(): void {
    this.#abandoned = true;
    this.#patience.end();
    for (const { backend } of this.#drives) backend?.abandon();
  }

  /** Closes every backend and file; nothing may be in flight. Metrics stay. Idempotent. */
  close(): void {
    this.#closed = true;
    for (const drive of this.#drives) {
      const { backend, file } = drive;
      drive.limit.close();
      drive.backend = undefined;
      drive.file = undefined;
      backend?.close();
      if (file !== undefined) closeSync(file.fd);
    }
  }

  /** What a drive's device talks to: its backend, or the functions before it. */
  #route({ config }: Drive, backend: OwnedBackend): DiskBackend {
    const memory = this.#surroundings?.memory;
    if (!this.middleware.isUsed || memory === undefined) return backend;
    return new FilteredDisk(backend, config.id, memory, this.middleware, this.#patience);
  }

  /** Puts functions before every drive, or takes them away; what is in flight ends as it began. */
  #reroute(): void {
    for (const drive of this.#drives) {
      drive.replaced = drive.replaced.then(async () => {
        if (this.#closed || drive.backend === undefined) return;
        await drive.device?.setBackend(this.#route(drive, drive.backend), true);
      });
    }
  }

  #find(id: string): Drive {
    const drive = this.#drives.find((candidate) => candidate.config.id === id);
    if (drive !== undefined) return drive;
    throw new EstaloError("ERR_ESTALO_DRIVE_UNKNOWN", `there is no drive ${id}`, {
      data: { id, drives: this.#drives.map((other) => other.config.id) },
    });
  }

  async #replaceNow(
    drive: Drive,
    path: string | undefined,
    file: DiskFile | undefined,
  ): Promise<number> {
    const { device } = drive;
    const surroundings = this.#surroundings;
    if (this.#closed || device === undefined || surroundings === undefined) {
      if (file !== undefined) closeSync(file.fd);
      throw gone(drive);
    }
    const config = { ...drive.config, path: path ?? drive.config.path };
    const fresh = createBackend(file ?? openDiskFile(config), config, surroundings);
    await device.setBackend(this.#route(drive, fresh));
    if (this.#closed) {
      // The old one was closed with the others meanwhile.
      fresh.close();
      throw gone(drive);
    }
    const old = drive.backend;
    drive.backend = fresh;
    drive.config = config;
    // It came too late to hear of it, and may have requests already.
    if (this.#abandoned) fresh.abandon();
    old?.close();
    return fresh.sizeBytes;
  }
}

function gone({ config }: Drive): EstaloError {
  return new EstaloError("ERR_ESTALO_STATE", `drive ${config.id}: its microVM has ended`, {
    data: { id: config.id },
  });
}

function createBackend(
  file: DiskFile,
  config: CheckedDrive,
  { mapping, memory, host, onError }: DeviceSurroundings,
): OwnedBackend {
  if (config.ioEngine === "libuv") return new LibuvDisk(file, memory);
  try {
    return new UringDisk(file, mapping, host, onError);
  } catch (error) {
    if (config.ioEngine === "auto" && isUringMissing(error)) return new LibuvDisk(file, memory);
    closeSync(file.fd);
    throw hostError("io_uring for", `drive ${config.id}`, error);
  }
}

/** Not in the kernel, switched off by a sysctl or seccomp, or out of locked memory. */
function isUringMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code ?? "";
  return ["ENOSYS", "EPERM", "EACCES", "ENOMEM"].includes(code);
}
