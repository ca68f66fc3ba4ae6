/**
 * What a caller can get wrong about a microVM: each a clear error with its code, and nothing left behind.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { EstaloError, MicroVm, type MicroVmConfig } from "estalo";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Holdings, holdings } from "../support/guest-host.js";
import { GUEST_PATIENCE_MS } from "../support/guest-report.js";
import { elf, Scratch, TINY_GUESTS } from "../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const kernel = scratch.guest("good", TINY_GUESTS.poweroff);
const image = elf(TINY_GUESTS.poweroff);
const folder = join(scratch.path, "folder");
mkdirSync(folder);

const cases: [string, MicroVmConfig, string][] = [
  ["a kernel that is missing", { kernel: join(scratch.path, "none") }, "ERR_ESTALO_KERNEL_FILE"],
  ["a kernel that is a directory", { kernel: folder }, "ERR_ESTALO_KERNEL_FILE"],
  ["an empty kernel", { kernel: scratch.file("empty") }, "ERR_ESTALO_KERNEL_TRUNCATED"],
  [
    "a kernel cut off in its segment",
    { kernel: scratch.file("cut", image.subarray(0, image.length - 1)) },
    "ERR_ESTALO_KERNEL_TRUNCATED",
  ],
  [
    "a text file as kernel",
    { kernel: scratch.file("text", "#!/bin/sh\necho no kernel\n".repeat(100)) },
    "ERR_ESTALO_KERNEL_FORMAT",
  ],
  ["an initrd that is missing", { kernel, initrd: "/nowhere/initrd" }, "ERR_ESTALO_INITRD_FILE"],
  [
    "an initrd larger than memory",
    { kernel, memoryMib: 32, initrd: scratch.file("initrd", new Uint8Array(40 * 2 ** 20)) },
    "ERR_ESTALO_INITRD_TOO_LARGE",
  ],
  ["too little memory", { kernel, memoryMib: 16 }, "ERR_ESTALO_MEMORY_TOO_SMALL"],
  ["memory that is no number", { kernel, memoryMib: Number.NaN }, "ERR_ESTALO_CONFIG_INVALID"],
  ["drives that are no list", { drives: "disk.img" as never }, "ERR_ESTALO_CONFIG_INVALID"],
  ["no vCPU", { kernel, vcpuCount: 0 }, "ERR_ESTALO_CONFIG_INVALID"],
  ["33 vCPUs", { kernel, vcpuCount: 33 }, "ERR_ESTALO_CONFIG_INVALID"],
  [
    "a command line too long",
    { kernel, bootArgs: "a".repeat(3000) },
    "ERR_ESTALO_CMDLINE_TOO_LONG",
  ],
  ["a disk that is a directory", { kernel, drives: [{ path: folder }] }, "ERR_ESTALO_DRIVE_FILE"],
  [
    "a disk that is missing",
    { kernel, drives: [{ path: "/nowhere/disk" }] },
    "ERR_ESTALO_DRIVE_FILE",
  ],
  [
    "more devices than interrupts",
    { kernel, drives: Array.from({ length: 19 }, () => ({ path: scratch.file("disk") })) },
    "ERR_ESTALO_DEVICE_LIMIT",
  ],
  [
    "a template that is no template",
    { kernel, cpuTemplate: { cpuid_modifiers: "all of them" } },
    "ERR_ESTALO_CPU_TEMPLATE",
  ],
];

describe("creating a microVM with", () => {
  let before: Holdings;
  beforeAll(async () => {
    // One that works, so that pools and caches are as they will stay.
    await using vm = await MicroVm.create({ kernel, bootArgs: "", memoryMib: 64 });
    await vm.start();
    await vm.wait();
    before = holdings();
  });

  it.each(cases)("%s", async (_what, config, code) => {
    const attempt = MicroVm.create({ bootArgs: "", memoryMib: 64, ...config });
    const error = await attempt.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(EstaloError);
    expect(error).toMatchObject({ code });
    expect((error as EstaloError).message).not.toBe("");
    expect(holdings().descriptors).toBe(before.descriptors);
    expect(holdings().threads).toBeLessThanOrEqual(before.threads);
  });
});

/** Runs a few lines of JavaScript that import Estalo, in a child behind `prefix`; gives what they print. */
function child(prefix: readonly string[], script: string): string {
  const source = `import { MicroVm } from "estalo"; ${script}`;
  const node = [process.execPath, "--input-type=module", "-e", source];
  const [command, ...args] = [...prefix, ...node];
  const { stdout, stderr } = spawnSync(command, args, {
    encoding: "utf8",
    timeout: GUEST_PATIENCE_MS,
    killSignal: "SIGKILL",
  });
  return stdout + stderr;
}

const CREATE = `await MicroVm.create({ kernel: ${JSON.stringify(kernel)} }).then(
  (vm) => vm.kill(), (e) => console.log(e.code, e.hint));`;

describe("a host", () => {
  it.skipIf(process.getuid?.() !== 0)("without /dev/kvm is named, with what to do", () => {
    const hide = 'mount --bind /dev/null /dev/kvm 2>/dev/null; mount -t tmpfs none /dev; exec "$@"';
    const text = child(["unshare", "--mount", "sh", "-c", hide, "sh"], CREATE);
    expect(text).toContain("ERR_ESTALO_KVM_MISSING");
    expect(text).toContain("estalo doctor");
  });

  it.skipIf(process.getuid?.() !== 0)(
    "whose /dev/kvm is forbidden is named, with the command that mends it",
    () => {
      // A node of our own over the host's, which may be open to everybody, and root that may not open all.
      const forbid = `mount -t tmpfs none ${folder} && cp -a /dev/kvm ${folder}/kvm && chmod 0 ${folder}/kvm &&
        mount --bind ${folder}/kvm /dev/kvm &&
        exec setpriv --bounding-set=-dac_override,-dac_read_search "$@"`;
      const text = child(["unshare", "--mount", "sh", "-c", forbid, "sh"], CREATE);
      expect(text).toContain("ERR_ESTALO_KVM_PERMISSION");
      expect(text).toContain("usermod -aG kvm");
    },
  );
});
