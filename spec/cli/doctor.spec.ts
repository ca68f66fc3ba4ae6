/** Doctor's checks over hosts that are not at hand. */
import { describe, expect, it } from "vitest";
import { diagnose, doctorText, isFit } from "../../src/cli/doctor.js";
import * as checks from "../../src/cli/doctor-checks.js";
import { EstaloError } from "../../src/errors.js";

/** A host on which all is well, but for what a spec changes. */
function host(changes: Partial<checks.HostProbes> = {}): checks.HostProbes {
  return {
    platform: "linux",
    arch: "x64",
    nodeVersion: "v22.11.0",
    user: "ada",
    freeMemoryBytes: 2 ** 33,
    totalMemoryBytes: 2 ** 34,
    exists: (path) => path === "/sys/module/kvm_intel",
    readText: (path) => (path.endsWith("cgroup.controllers") ? "cpu io memory\n" : undefined),
    tryOpen: () => "ok",
    writingGroup: () => "kvm",
    addonFailure: () => undefined,
    kvm: () => ({ apiVersion: 12, vcpusRecommended: 8, vcpusMax: 1024 }),
    tryIoUring: () => "ok",
    cacheFolder: () => "/home/ada/.cache/estalo",
    tryWriteFolder: () => "ok",
    defaultGuest: () => Promise.resolve("1"),
    ...changes,
  };
}

const opening = (path: string, errno: string) => (asked: string) => (asked === path ? errno : "ok");
const only =
  (...paths: string[]) =>
  (path: string) =>
    paths.includes(path);
const reading = (texts: Record<string, string>) => (path: string) => texts[path];

describe("estalo doctor", () => {
  it("finds a good host good", async () => {
    const results = await diagnose(host());
    expect(results.map(({ status }) => status)).toEqual(checks.CHECKS.map(() => "ok"));
    expect(isFit(results)).toBe(true);
  });

  it("is not content with a host that has no KVM, and says so", async () => {
    const results = await diagnose(
      host({
        tryOpen: opening("/dev/kvm", "ENOENT"),
        kvm: () => ({ code: "ERR_ESTALO_KVM_MISSING", message: "open /dev/kvm: ENOENT" }),
      }),
    );
    expect(isFit(results)).toBe(false);
    expect(doctorText(results, false)).toContain("This host cannot run microVMs yet.");
  });

  it("is content with a host that only lacks conveniences", async () => {
    const results = await diagnose(
      host({
        tryOpen: opening("/dev/net/tun", "ENOENT"),
        tryIoUring: () => "EPERM",
        tryWriteFolder: () => "EROFS",
        readText: () => undefined,
        exists: only("/sys/module/kvm_pvm"),
        freeMemoryBytes: 2 ** 27,
        defaultGuest: () =>
          Promise.reject(
            new EstaloError("ERR_ESTALO_DEFAULT_GUEST", "missing", { hint: "build it" }),
          ),
      }),
    );
    expect(results.filter(({ status }) => status === "warn").map(({ name }) => name)).toEqual([
      ...["kvm-kind", "memory", "io_uring", "cgroups", "tun", "cache", "default-guest"],
    ]);
    expect(isFit(results)).toBe(true);
  });

  it("colours its marks only when asked to", async () => {
    const results = await diagnose(host(), [checks.checkNode]);
    expect(doctorText(results, true)).toContain("\x1b[32mok");
    expect(doctorText(results, false)).not.toContain("\x1b");
  });
});

describe("checkKvmDevice", () => {
  const flags = (text: string) =>
    reading({ "/proc/cpuinfo": `processor: 0\nflags\t\t: fpu ${text}\n` });

  it.each<[string, Partial<checks.HostProbes>, string]>([
    [
      "an Intel processor without the module",
      { readText: flags("vmx") },
      "sudo modprobe kvm_intel",
    ],
    ["an AMD processor without the module", { readText: flags("svm") }, "sudo modprobe kvm_amd"],
    ["a processor without virtualisation", { readText: flags("sse") }, "nested virtualisation"],
    ["a container", { exists: only("/.dockerenv") }, "--device /dev/kvm"],
  ])("without the device, on %s, says what to do", (_, changes, remedy) => {
    const found = checks.checkKvmDevice(
      host({ tryOpen: opening("/dev/kvm", "ENOENT"), ...changes }),
    );
    expect(found).toMatchObject({ status: "fail", detail: expect.stringContaining("ENOENT") });
    expect(found.remedy).toContain(remedy);
  });

  it.each<[string, Partial<checks.HostProbes>, string]>([
    [
      "a group that may",
      { writingGroup: () => "kvm" },
      "sudo usermod -aG kvm ada, then log in again",
    ],
    ["no group that may", { writingGroup: () => undefined }, "sudo setfacl -m u:ada:rw /dev/kvm"],
    ["a container", { exists: only("/run/.containerenv") }, "--device /dev/kvm"],
  ])("without permission, with %s, gives the command that mends it", (_, changes, remedy) => {
    const found = checks.checkKvmDevice(
      host({ tryOpen: opening("/dev/kvm", "EACCES"), ...changes }),
    );
    expect(found).toMatchObject({ status: "fail", detail: expect.stringContaining("EACCES") });
    expect(found.remedy).toContain(remedy);
  });
});

describe("single checks", () => {
  const refusal = { code: "ERR_ESTALO_KVM_CAPABILITY", message: "no KVM_CAP_IRQFD" } as const;
  it.each<[string, checks.Check, Partial<checks.HostProbes>, checks.CheckStatus, string]>([
    ["another system", checks.checkPlatform, { platform: "darwin" }, "fail", "darwin"],
    ["another architecture", checks.checkPlatform, { arch: "arm64" }, "fail", "arm64"],
    ["an old Node.js", checks.checkNode, { nodeVersion: "v20.16.0" }, "fail", "v20.16.0"],
    [
      "the oldest Node.js that will do",
      checks.checkNode,
      { nodeVersion: "v20.17.0" },
      "ok",
      "v20.17.0",
    ],
    [
      "an addon that does not load",
      checks.checkAddon,
      { addonFailure: () => "no file" },
      "fail",
      "no file",
    ],
    [
      "a KVM without a capability",
      checks.checkKvmFeatures,
      { kvm: () => refusal },
      "fail",
      "KVM_CAP_IRQFD",
    ],
    ["hardware KVM", checks.checkKvmKind, { exists: only("/sys/module/kvm_amd") }, "ok", "AMD-V"],
    [
      "nested KVM",
      checks.checkKvmKind,
      { readText: reading({ "/proc/cpuinfo": "flags : svm hypervisor" }) },
      "ok",
      "nested",
    ],
    [
      "emulated kernel mode",
      checks.checkKvmKind,
      { exists: only("/sys/module/kvm_pvm") },
      "warn",
      "emulated",
    ],
    ["unknown KVM", checks.checkKvmKind, { exists: () => false }, "warn", "no KVM module"],
    [
      "cgroups of version 1",
      checks.checkCgroups,
      { readText: () => undefined, exists: () => true },
      "ok",
      "version 1",
    ],
    [
      "reserved huge pages",
      checks.checkHugePages,
      { readText: (path) => (path.endsWith("nr_hugepages") ? "8\n" : "5\n") },
      "ok",
      "5 of 8",
    ],
  ])("%s", async (_, check, changes, status, detail) => {
    expect(await check(host(changes))).toMatchObject({
      status,
      detail: expect.stringContaining(detail),
    });
  });

  it("io_uring switched off names the sysctl", () => {
    const found = checks.checkIoUring(
      host({
        tryIoUring: () => "EPERM",
        readText: reading({ "/proc/sys/kernel/io_uring_disabled": "2\n" }),
      }),
    );
    expect(found.remedy).toBe("sudo sysctl kernel.io_uring_disabled=0");
  });
});
