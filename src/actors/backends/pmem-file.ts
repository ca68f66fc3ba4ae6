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

type PmemPath = Pick<CheckedPmem, "id" | "path" | "readOnly">;

/** See the file's header. Thread: the device host's. */
export class PmemFile implements SyncBackend {
  /** The file's length when it was opened. */
  readonly sizeBytes: number;
  readonly mapping: NativeFileMapping;
  readonly #fd: number;
  #isSyncing = false;
  #isClosed = false;

  /** Opens it, or takes an open one; raises ERR_ESTALO_PMEM_FILE and leaves neither open. */
  constructor(pmem: PmemPath, given?: number) {
    this.#fd = given ?? openPmemFile(pmem);
    try {
      const stats = fstatSync(this.#fd);
      refuseOtherKinds(stats, objectOf(pmem));
      this.sizeBytes = stats.size;
      this.mapping = new (native().FileMapping)(this.#fd, stats.size, pmem.readOnly);
    } catch (error) {
      closeSync(this.#fd);
      throw pmemError("map", pmem, error);
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

/** Opens its file: a descriptor, the caller's. Raises ERR_ESTALO_PMEM_FILE naming device, path and errno. */
export function openPmemFile(pmem: PmemPath): number {
  try {
    // Looked at before it is opened: opening a FIFO would wait for its other end.
    refuseOtherKinds(statSync(pmem.path), objectOf(pmem));
    return openSync(pmem.path, pmem.readOnly ? constants.O_RDONLY : constants.O_RDWR);
  } catch (error) {
    throw pmemError("open", pmem, error);
  }
}

function objectOf({ id, path }: PmemPath): string {
  return `pmem ${id} (${path})`;
}

function pmemError(operation: string, pmem: PmemPath, error: unknown): EstaloError {
  if (error instanceof EstaloError) return error;
  const hint = openHint(pmem.path, error, "one");
  return hostError(operation, objectOf(pmem), error, "ERR_ESTALO_PMEM_FILE", hint);
}

function refuseOtherKinds(stats: Stats, object: string): void {
  const fail = (what: string) =>
    new EstaloError("ERR_ESTALO_PMEM_FILE", `${object} is ${what}`, {
      hint: "persistent memory is a regular file with a length",
    });
  if (!stats.isFile()) throw fail("no regular file");
  if (stats.size === 0) throw fail("empty");
}
