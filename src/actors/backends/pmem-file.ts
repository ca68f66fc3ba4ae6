/**
 * The file behind a persistent memory device: opened, checked and mapped once. The mapping is KVM's to use;
 * here the file is only made stable, on Node's thread pool.
 */
import {
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  openSync,
  type Stats,
  statSync,
} from "node:fs";
import type { SyncBackend } from "../../devices/backend.js";
import { EstaloError, hostError } from "../../errors.js";
import { type NativeFileMapping, native } from "../../native/binding.js";
import type { CheckedPmem } from "../config-pmem.js";
import { openHint } from "./disk-file.js";

/** See the file's header. Thread: the device host's. */
export class PmemFile implements SyncBackend {
  /** The file's length when it was opened. */
  readonly sizeBytes: number;
  readonly mapping: NativeFileMapping;
  readonly #fd: number;
  #isSyncing = false;
  #isClosed = false;

  /** Raises ERR_ESTALO_PMEM_FILE naming device, path and errno, and leaves nothing open. */
  constructor({ id, path, readOnly }: Pick<CheckedPmem, "id" | "path" | "readOnly">) {
    const object = `pmem ${id} (${path})`;
    const fail = (operation: string, error: unknown) =>
      error instanceof EstaloError
        ? error
        : hostError(operation, object, error, "ERR_ESTALO_PMEM_FILE", openHint(path, error, "one"));
    try {
      // Looked at before it is opened: opening a FIFO would wait for its other end.
      refuseOtherKinds(statSync(path), object);
      this.#fd = openSync(path, readOnly ? constants.O_RDONLY : constants.O_RDWR);
    } catch (error) {
      throw fail("open", error);
    }
    try {
      const stats = fstatSync(this.#fd);
      refuseOtherKinds(stats, object);
      this.sizeBytes = stats.size;
      this.mapping = new (native().FileMapping)(this.#fd, stats.size, readOnly);
    } catch (error) {
      closeSync(this.#fd);
      throw fail("map", error);
    }
  }

  /**
   * Pages that a guest wrote through KVM are dirty in the page cache, as those of any shared mapping: syncing the
   * file takes them, as msync would.
   */
  sync(done: (isDone: boolean) => void): void {
    this.#isSyncing = true;
    fdatasync(this.#fd, (error) => {
      this.#isSyncing = false;
      if (this.#isClosed) closeSync(this.#fd);
      done(error === null);
    });
  }

  /** Lets go of the file, when a sync under way has ended. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.mapping.close();
    if (!this.#isSyncing) closeSync(this.#fd);
  }
}

function refuseOtherKinds(stats: Stats, object: string): void {
  const fail = (what: string) =>
    new EstaloError("ERR_ESTALO_PMEM_FILE", `${object} is ${what}`, {
      hint: "persistent memory is a regular file with a length",
    });
  if (!stats.isFile()) throw fail("no regular file");
  if (stats.size === 0) throw fail("empty");
}
