/**
 * The file or block device behind a drive: opened, checked and measured once.
 */
import { closeSync, constants, fstatSync, openSync, type Stats, statSync } from "node:fs";
import { EstaloError, hostError } from "../../errors.js";
import { native } from "../../native/binding.js";
import { alignDown } from "../../units.js";
import type { CheckedDrive } from "../config.js";

/** VirtIO counts in sectors of 512 bytes, whatever the disk's own are. */
const SECTOR_BYTES = 512;
/** Length of VIRTIO_BLK_T_GET_ID's answer (VirtIO 1.2 § 5.2.6). */
const SERIAL_BYTES = 20;

/** An open disk image. Its owner closes it. */
export interface DiskFile {
  readonly fd: number;
  readonly path: string;
  /** A multiple of 512: a shorter tail is cut off. May be 0. */
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Identifies the backing object: device, special device and inode number in decimal, cut to 20 bytes. */
  readonly serial: Uint8Array;
}

/**
 * Opens a drive's file, or takes an open one; raises ERR_ESTALO_DRIVE_FILE naming drive, path and errno, with neither
 * left open.
 */
export function openDiskFile(
  drive: Pick<CheckedDrive, "id" | "path" | "readOnly">,
  given?: number,
): DiskFile {
  const object = `drive ${drive.id} (${drive.path})`;
  const fail = (operation: string, error: unknown) =>
    hostError(
      operation,
      object,
      error,
      "ERR_ESTALO_DRIVE_FILE",
      openHint(drive.path, error, "disk"),
    );
  let fd: number;
  try {
    fd = given ?? openPath(drive, object);
  } catch (error) {
    throw error instanceof EstaloError ? error : fail("open", error);
  }
  try {
    const stats = fstatSync(fd);
    refuseOtherKinds(stats, object);
    const size = stats.isBlockDevice() ? native().blockDeviceBytes(fd) : stats.size;
    const serial = new Uint8Array(SERIAL_BYTES);
    const name = `${stats.dev}${stats.rdev}${stats.ino}`.slice(0, SERIAL_BYTES);
    serial.set(new TextEncoder().encode(name));
    return {
      fd,
      path: drive.path,
      sizeBytes: alignDown(size, SECTOR_BYTES),
      readOnly: drive.readOnly,
      serial,
    };
  } catch (error) {
    closeSync(fd);
    throw error instanceof EstaloError ? error : fail("measure", error);
  }
}

function openPath(drive: Pick<CheckedDrive, "path" | "readOnly">, object: string): number {
  // Looked at before it is opened: opening a FIFO would wait for its other end.
  refuseOtherKinds(statSync(drive.path), object);
  return openSync(drive.path, drive.readOnly ? constants.O_RDONLY : constants.O_RDWR);
}

function refuseOtherKinds(stats: Stats, object: string): void {
  if (stats.isFile() || stats.isBlockDevice()) return;
  const kind = stats.isDirectory() ? "a directory" : "neither a file nor a block device";
  throw new EstaloError("ERR_ESTALO_DRIVE_FILE", `${object} is ${kind}`, {
    hint: "a drive is a disk image or a block device",
  });
}

/** What to do about a file that cannot be opened; `what` a new one would be. */
export function openHint(path: string, error: unknown, what: string): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case "ENOENT":
      return `truncate --size 1G ${path} makes an empty ${what}`;
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return "attach it read-only, or change its permissions";
    default:
      return "estalo doctor checks this host";
  }
}
