/**
 * The real host behind doctor's checks. Each probe undoes what it did to find out.
 */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
} from "node:fs";
import { totalmem, userInfo } from "node:os";
import { cacheFolder, defaultGuest } from "../actors/default-guest.js";
import { openKvm } from "../actors/machine.js";
import { toEstaloError } from "../errors.js";
import { native } from "../native/binding.js";
import { KVM_CAP_MAX_VCPUS, KVM_CAP_NR_VCPUS } from "../native/layouts.js";
import { type Gpa, PAGE_BYTES } from "../units.js";
import type { HostProbes, KvmProbe } from "./doctor-checks.js";

/** stat(2): read and write for the group. */
const GROUP_READ_WRITE_MASK = 0o060;

/** This host. */
export function hostProbes(): HostProbes {
  return {
    platform: process.platform,
    arch: process.arch,
    nodeVersion: process.version,
    user: userInfo().username,
    freeMemoryBytes: availableMemoryBytes(),
    totalMemoryBytes: totalmem(),
    exists: existsSync,
    readText,
    tryOpen,
    writingGroup,
    addonFailure,
    kvm,
    tryIoUring,
    cacheFolder,
    tryWriteFolder: (path) =>
      errnoOf(() => {
        mkdirSync(path, { recursive: true });
        accessSync(path, constants.W_OK);
      }),
    defaultGuest: async () => String((await defaultGuest()).version),
  };
}

function errnoOf(work: () => void): string {
  try {
    work();
    return "ok";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "unknown error";
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

function tryOpen(path: string, mode: "read" | "read-write"): string {
  const flags = mode === "read" ? constants.O_RDONLY : constants.O_RDWR;
  return errnoOf(() => closeSync(openSync(path, flags)));
}

/** MemAvailable: what can be had without swapping, unlike os.freemem()'s pages that nobody uses. */
function availableMemoryBytes(): number {
  const kib = /^MemAvailable:\s+([0-9]+) kB$/m.exec(readText("/proc/meminfo") ?? "")?.[1];
  return Number(kib ?? 0) * 1024;
}

function writingGroup(path: string): string | undefined {
  const { mode, gid } = statSync(path);
  if ((mode & GROUP_READ_WRITE_MASK) !== GROUP_READ_WRITE_MASK) return undefined;
  const groups = readText("/etc/group")?.split("\n") ?? [];
  return groups.map((line) => line.split(":")).find(([, , id]) => Number(id) === gid)?.[0];
}

function addonFailure(): string | undefined {
  try {
    native();
    return undefined;
  } catch (error) {
    return toEstaloError(error).message;
  }
}

function kvm(): KvmProbe {
  try {
    const device = openKvm();
    const { apiVersion } = device;
    const vcpusRecommended = device.checkExtension(KVM_CAP_NR_VCPUS);
    const vcpusMax = device.checkExtension(KVM_CAP_MAX_VCPUS);
    device.close();
    return { apiVersion, vcpusRecommended, vcpusMax };
  } catch (error) {
    const { code, message } = toEstaloError(error);
    return { code, message };
  }
}

/** Makes the smallest ring there is, over one page of memory. */
function tryIoUring(): string {
  const undo: (() => void)[] = [];
  const errno = errnoOf(() => {
    const addon = native();
    const mapping = new addon.GuestMapping([{ start: 0 as Gpa, sizeBytes: PAGE_BYTES }]);
    undo.push(() => mapping.close());
    const event = new addon.EventFd();
    undo.push(() => event.close());
    const ring = new addon.IoUring(mapping, 1, event.fd, new Float64Array(8), new Int32Array(2));
    undo.push(() => ring.close());
  });
  for (const close of undo.reverse()) close();
  return errno;
}
