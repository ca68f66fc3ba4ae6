/**
 * Operations on drives, the entropy device and the serial port.
 */
import { closeSync } from "node:fs";
import { openDiskFile } from "../../actors/backends/disk-file.js";
import { toEstaloError } from "../../errors.js";
import { completeDrive, type Draft, withDrive } from "./draft.js";
import { Fault, hostText, ID_MISMATCH } from "./faults.js";
import { NO_CONTENT, type Operation } from "./operation.js";
import { shownLimiter, toLimiter, withChange } from "./rate-limiters.js";
import * as schemas from "./schemas.js";

const DRIVE_ID = { field: "drive_id", mismatch: () => ID_MISMATCH } as const;

/** A file behind a drive that cannot be used, in Firecracker's words. */
function backingFileText(error: unknown, path: string): string {
  const text = hostText(error);
  return text.includes("os error")
    ? `Virtio backend error: Error manipulating the backing file: ${text} ${path}`
    : `Virtio backend error: ${text}`;
}

const putDrive: Operation = {
  operationId: "putGuestDriveByID",
  method: "PUT",
  path: "/drives/{drive_id}",
  tag: "Devices",
  summary: "Adds a drive, or replaces the one with this id.",
  body: schemas.Drive,
  replies: NO_CONTENT,
  when: "before boot",
  counter: "drive",
  id: DRIVE_ID,
  run({ target, body }) {
    const json = body as schemas.DriveJson;
    if (json.socket != null) {
      throw new Fault("Drive config error: this build has no vhost-user block device.");
    }
    const path = json.path_on_host;
    if (path == null) {
      throw new Fault(
        "Drive config error: Unable to create the virtio block device: path_on_host is missing.",
      );
    }
    const drive = completeDrive({ ...json, path_on_host: path });
    if (drive.is_root_device && target.draft.pmem.some((one) => one.root_device)) {
      throw new Fault(
        "Drive config error: Attempt to add block as a root device while the root device defined " +
          "as a pmem device",
      );
    }
    const drives = withDrive(target.draft.drives, drive);
    if (drives === undefined) {
      throw new Fault("Drive config error: A root block device already exists!");
    }
    try {
      // Only looked at: the machine opens it when it starts.
      const file = openDiskFile({ id: drive.drive_id, path, readOnly: drive.is_read_only });
      closeSync(file.fd);
    } catch (error) {
      throw new Fault(
        "Drive config error: Unable to create the virtio block device: " +
          backingFileText(error, path),
      );
    }
    target.draft = { ...target.draft, drives };
  },
};

const patchDrive: Operation = {
  operationId: "patchGuestDriveByID",
  method: "PATCH",
  path: "/drives/{drive_id}",
  tag: "Devices",
  summary: "Changes a running drive's file or limits; the same path is opened again.",
  body: schemas.DriveUpdate,
  replies: NO_CONTENT,
  when: "after boot",
  counter: "drive",
  id: DRIVE_ID,
  async run({ target, body }) {
    const { drive_id: id, path_on_host: path, rate_limiter } = body as schemas.DriveUpdateJson;
    if (path == null && rate_limiter == null) {
      throw new Fault(
        patchText("Device manager error: Running method expected different backend."),
      );
    }
    try {
      await target.updateDrive(id, {
        ...(path == null ? {} : { path }),
        ...(rate_limiter == null ? {} : { rateLimiter: toLimiter(rate_limiter) }),
      });
      target.draft = withUpdate(target.draft, body as schemas.DriveUpdateJson);
    } catch (error) {
      const { code } = toEstaloError(error);
      const text =
        code === "ERR_ESTALO_DRIVE_FILE" ? backingFileText(error, path ?? "") : hostText(error);
      throw new Fault(patchText(`Device manager error: ${text}`));
    }
  },
};

/** The draft as `GET /vm/config` tells it after the update. */
function withUpdate(draft: Draft, update: schemas.DriveUpdateJson): Draft {
  const { drive_id, path_on_host: path, rate_limiter: change } = update;
  const drives = draft.drives.map((drive) =>
    drive.drive_id !== drive_id
      ? drive
      : {
          ...drive,
          path_on_host: path ?? drive.path_on_host,
          rate_limiter:
            change == null ? drive.rate_limiter : withChange(drive.rate_limiter, change),
        },
  );
  return { ...draft, drives };
}

function patchText(what: string): string {
  return (
    `Drive config error: Unable to patch the block device: ${what} ` +
    "Please verify the request arguments."
  );
}

const putEntropy: Operation = {
  operationId: "putEntropyDevice",
  method: "PUT",
  path: "/entropy",
  tag: "Devices",
  summary: "Adds an entropy device.",
  body: schemas.Entropy,
  replies: NO_CONTENT,
  when: "before boot",
  run({ target, body }) {
    const { rate_limiter } = body as schemas.EntropyJson;
    const entropy = { rate_limiter: shownLimiter(rate_limiter) };
    target.draft = { ...target.draft, entropy };
  },
};

const putSerial: Operation = {
  operationId: "putSerialDevice",
  method: "PUT",
  path: "/serial",
  tag: "Devices",
  summary: "Sets where the serial port's output goes, and how much of it.",
  body: schemas.Serial,
  replies: NO_CONTENT,
  when: "before boot",
  counter: "serial",
  run({ target, body }) {
    target.draft = { ...target.draft, serial: body as schemas.SerialJson };
  },
};

export const DEVICE_OPERATIONS: readonly Operation[] = [
  putDrive,
  patchDrive,
  putEntropy,
  putSerial,
];
