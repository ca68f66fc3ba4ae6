/**
 * The guest that comes with Estalo: a kernel and a root file system, unpacked once into the user's cache.
 *
 * guest/images/ holds them compressed, with a manifest of sizes and checksums; unpacked files are named by
 * their checksum, written beside their place and moved there when complete, so that any number of processes
 * may do it at once and a broken file is never used.
 */
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { brotliDecompress } from "node:zlib";
import { EstaloError, hostError } from "../errors.js";
import type { MicroVmConfig } from "./config.js";

/** One file of the guest in guest/images/manifest.json. */
interface ManifestFile {
  readonly file: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

interface Manifest {
  readonly version: string;
  readonly commandLine: string;
  /** On hosts whose KVM emulates kernel mode; see docs/hosts.md. */
  readonly commandLineEmulated?: string;
  readonly kernel: ManifestFile;
  readonly rootfs: ManifestFile;
}

/** The guest, unpacked. */
export interface DefaultGuest {
  readonly version: string;
  readonly kernel: string;
  readonly rootfs: string;
  /** Arguments for this host, without root= and the devices. */
  readonly bootArgs: string;
}

/** Beside dist/ in a package and in a checkout, for a bundle and for the sources. */
const IMAGE_FOLDERS = ["../guest/images/", "../../guest/images/"];

function imageFolder(): string {
  for (const folder of IMAGE_FOLDERS) {
    const path = fileURLToPath(new URL(folder, import.meta.url));
    if (existsSync(join(path, "manifest.json"))) return path;
  }
  throw new EstaloError("ERR_ESTALO_DEFAULT_GUEST", "the guest that comes with Estalo is missing", {
    hint: "npm run guest:build makes it again; --kernel takes your own",
  });
}

/** Where unpacked images are kept: ESTALO_CACHE, else the user's cache folder. */
export function cacheFolder(): string {
  const base = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  return process.env.ESTALO_CACHE || join(base, "estalo");
}

/** Whether this host's KVM emulates kernel mode (PVM without hardware virtualisation). */
export function isKernelModeEmulated(): boolean {
  return existsSync("/sys/module/kvm_pvm");
}

/** Unpacks the guest if it is not in the cache yet, and says where it is. */
export async function defaultGuest(): Promise<DefaultGuest> {
  const folder = imageFolder();
  const manifest = readManifest(folder);
  const [kernel, rootfs] = await Promise.all([
    unpack(folder, manifest.kernel),
    unpack(folder, manifest.rootfs),
  ]);
  return { version: manifest.version, kernel, rootfs, bootArgs: bootArgsOf(manifest) };
}

/** What there is to say of the guest without unpacking it; undefined when it is missing or damaged. */
export function installedGuest(): Pick<DefaultGuest, "version" | "bootArgs"> | undefined {
  try {
    const manifest = readManifest(imageFolder());
    return { version: manifest.version, bootArgs: bootArgsOf(manifest) };
  } catch {
    return undefined;
  }
}

function readManifest(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as Manifest;
}

function bootArgsOf({ commandLine, commandLineEmulated }: Manifest): string {
  return (isKernelModeEmulated() ? commandLineEmulated : undefined) ?? commandLine;
}

/** The guest's arguments without what they say about its own root file system, for another root. */
export function withoutRoot(bootArgs: string): string {
  return bootArgs
    .split(" ")
    .filter((word) => !/^(root|rootfstype|rootflags)=|^r[ow]$/.test(word))
    .join(" ");
}

/** The configuration with the default guest where it names no kernel of its own. */
export async function defaultGuestConfig(
  config: MicroVmConfig,
): Promise<MicroVmConfig & { readonly kernel: string }> {
  if (config.kernel !== undefined) return { ...config, kernel: config.kernel };
  const guest = await defaultGuest();
  const drives = config.drives ?? [];
  const root = { id: "rootfs", path: guest.rootfs, isRoot: true, readOnly: true } as const;
  const hasRoot = [...drives, ...(config.pmem ?? [])].some(({ isRoot }) => isRoot);
  const needsRoot = config.initrd === undefined && !hasRoot;
  return {
    ...config,
    kernel: guest.kernel,
    bootArgs: config.bootArgs ?? (needsRoot ? guest.bootArgs : withoutRoot(guest.bootArgs)),
    drives: needsRoot ? [root, ...drives] : drives,
  };
}

async function unpack(folder: string, { file, sizeBytes, sha256 }: ManifestFile): Promise<string> {
  const target = join(
    cacheFolder(),
    "guest",
    `${file.replace(/\.br$/, "")}-${sha256.slice(0, 16)}`,
  );
  // At once, not through Node's pool, where microVMs that end may hold every thread for a while.
  if (existsSync(target)) return target;
  const source = join(folder, file);
  try {
    const bytes = await promisify(brotliDecompress)(await readFile(source));
    const digest = createHash("sha256").update(bytes).digest("hex");
    if (bytes.length !== sizeBytes || digest !== sha256) {
      throw new EstaloError("ERR_ESTALO_DEFAULT_GUEST", `${source} is not what its manifest says`, {
        hint: "npm run guest:build makes it again",
      });
    }
    await mkdir(join(cacheFolder(), "guest"), { recursive: true });
    const partial = `${target}.${randomBytes(6).toString("hex")}`;
    await writeFile(partial, bytes, { mode: 0o644 });
    await rename(partial, target);
    return target;
  } catch (error) {
    if (error instanceof EstaloError) throw error;
    throw hostError("unpack", source, error, "ERR_ESTALO_DEFAULT_GUEST");
  }
}
