/** The part of a machine that needs no KVM: what is said where KVM is missing. The rest is in guest specs. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { openKvm } from "../../src/actors/machine.js";

describe("openKvm", () => {
  const folder = mkdtempSync(join(tmpdir(), "estalo-kvm-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  it("says where there is no KVM, and what brings it", () => {
    expect(() => openKvm(join(folder, "kvm"))).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_KVM_MISSING",
        data: { operation: "open", object: join(folder, "kvm"), errno: "ENOENT" },
        hint: expect.stringContaining("modprobe"),
      }),
    );
  });

  it.skipIf(process.getuid?.() === 0)("says when it may not be used (root may always)", () => {
    const path = join(folder, "forbidden");
    writeFileSync(path, "");
    chmodSync(path, 0);
    expect(() => openKvm(path)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_KVM_PERMISSION",
        hint: expect.stringContaining("usermod"),
      }),
    );
  });

  it("says so when the host is out of something else", () => {
    expect(() => openKvm(folder)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_HOST", message: `open ${folder}: EISDIR` }),
    );
  });

  it("takes nothing for KVM that is not, as an error of ours", () => {
    expect(() => openKvm("/dev/null")).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_KVM_MISSING",
        data: { operation: "KVM_GET_API_VERSION", object: "/dev/null", errno: "ENOTTY" },
      }),
    );
  });
});
