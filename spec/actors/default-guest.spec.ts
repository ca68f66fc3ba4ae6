import { createHash } from "node:crypto";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { cacheFolder, defaultGuest, defaultGuestConfig } from "../../src/actors/default-guest.js";

const MANIFEST = fileURLToPath(new URL("../../guest/images/manifest.json", import.meta.url));

afterEach(() => {
  vi.unstubAllEnvs();
});

describe("cacheFolder", () => {
  it("is ESTALO_CACHE, else in XDG_CACHE_HOME, else in the user's own", () => {
    vi.stubEnv("ESTALO_CACHE", "/a");
    vi.stubEnv("XDG_CACHE_HOME", "/b");
    expect(cacheFolder()).toBe("/a");
    vi.stubEnv("ESTALO_CACHE", "");
    expect(cacheFolder()).toBe("/b/estalo");
    vi.stubEnv("XDG_CACHE_HOME", "");
    vi.stubEnv("HOME", "/home/user");
    expect(cacheFolder()).toBe("/home/user/.cache/estalo");
  });
});

describe("defaultGuestConfig", () => {
  it("leaves a configuration with a kernel as it is", async () => {
    const config = { kernel: "vmlinux", memoryMib: 64 };
    expect(await defaultGuestConfig(config)).toEqual(config);
  });
});

describe.skipIf(!existsSync(MANIFEST))("defaultGuest (needs guest/images)", () => {
  let cache: string;
  beforeAll(() => {
    cache = mkdtempSync(join(tmpdir(), "estalo-cache-"));
  });
  afterAll(() => rmSync(cache, { recursive: true }));

  it("says nothing of the root file system where the caller brings one", async () => {
    vi.stubEnv("ESTALO_CACHE", cache);
    const own = { path: "system.ext4", isRoot: true };
    const config = await defaultGuestConfig({ drives: [own] });
    expect(config.drives).toEqual([own]);
    expect(config.bootArgs).toContain("console=ttyS0");
    expect(config.bootArgs).not.toMatch(/\broot(fstype)?=|\bro\b/);
    const usual = await defaultGuestConfig({});
    expect(usual.bootArgs).toContain("rootfstype=erofs");
  });

  it("unpacks what its manifest says, once, however many ask at the same time", async () => {
    vi.stubEnv("ESTALO_CACHE", cache);
    const guests = await Promise.all([defaultGuest(), defaultGuest(), defaultGuest()]);
    const manifest = JSON.parse(readFileSync(MANIFEST, "utf8"));
    expect(guests[1]).toEqual(guests[0]);
    for (const part of ["kernel", "rootfs"] as const) {
      const bytes = readFileSync(guests[0][part]);
      expect(bytes).toHaveLength(manifest[part].sizeBytes);
      expect(createHash("sha256").update(bytes).digest("hex")).toBe(manifest[part].sha256);
    }
    expect(readdirSync(join(cache, "guest"))).toHaveLength(2);
  });

  it("uses what is unpacked already", async () => {
    vi.stubEnv("ESTALO_CACHE", cache);
    const before = statSync((await defaultGuest()).kernel).mtimeMs;
    expect(statSync((await defaultGuest()).kernel).mtimeMs).toBe(before);
  });

  it("names the folder that it may not unpack to", async () => {
    const file = join(cache, "file");
    writeFileSync(file, "");
    vi.stubEnv("ESTALO_CACHE", file);
    await expect(defaultGuest()).rejects.toMatchObject({ code: "ERR_ESTALO_DEFAULT_GUEST" });
  });

  it("is kernel and root drive of a configuration that names none", async () => {
    vi.stubEnv("ESTALO_CACHE", cache);
    const guest = await defaultGuest();
    const extra = { path: "data" };
    const config = await defaultGuestConfig({ drives: [extra], memoryMib: 64 });
    expect(config).toMatchObject({
      memoryMib: 64,
      kernel: guest.kernel,
      bootArgs: guest.bootArgs,
      drives: [{ path: guest.rootfs, isRoot: true, readOnly: true }, extra],
    });
  });

  it("leaves a root drive, an initrd and arguments to who names them", async () => {
    vi.stubEnv("ESTALO_CACHE", cache);
    const root = { path: "own", isRoot: true };
    expect((await defaultGuestConfig({ drives: [root] })).drives).toEqual([root]);
    expect((await defaultGuestConfig({ initrd: "initrd" })).drives).toEqual([]);
    expect((await defaultGuestConfig({ bootArgs: "quiet" })).bootArgs).toBe("quiet");
  });
});
