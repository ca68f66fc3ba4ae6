/** Which devices a configuration gives, in which order, and that nothing stays open. */
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { checkConfig } from "../../src/actors/config.js";
import { defineVirtioDevice } from "../../src/actors/config-devices.js";
import { DeviceFamilies } from "../../src/actors/device-families.js";
import type { DeviceRateLimitEvent } from "../../src/actors/rate-limits.js";
import { createMemory } from "../support/fake-memory.js";
import { VirtioMachine } from "../support/virtio-machine.js";

const folder = mkdtempSync(join(tmpdir(), "estalo-families-"));
const image = join(folder, "disk");
writeFileSync(image, Buffer.alloc(4096));

afterAll(() => rmSync(folder, { recursive: true }));

function openImages(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === image;
    } catch {
      return false;
    }
  }).length;
}

describe("DeviceFamilies", () => {
  it("asks for drives first, the root drive before the others, and entropy after them", () => {
    const config = checkConfig({
      kernel: "vmlinux",
      drives: [{ path: image }, { id: "root", path: image, isRoot: true }],
    });
    const families = new DeviceFamilies(config);
    expect(families.requests.map(({ name }) => name)).toEqual([
      "drive root",
      "drive drive0",
      "entropy",
    ]);
    expect(openImages()).toBe(2);
    families.close();
    families.close();
    expect(openImages()).toBe(0);
  });

  it("closes all families when a device of the user's own throws at its end, and says so", () => {
    const onClose = () => {
      throw new Error("own bug");
    };
    const device = defineVirtioDevice({
      ...{ id: "own", deviceType: 60, queues: [8] },
      onChain: () => 0,
      onClose,
    });
    const config = checkConfig({
      kernel: "vmlinux",
      drives: [{ path: image }],
      devices: [device],
    });
    const families = new DeviceFamilies(config);
    const own = families.user.requests[0];
    new VirtioMachine(createMemory(), (host) => own.create(host));
    families.user.attach();
    expect(openImages()).toBe(1);
    expect(() => families.close()).toThrow("device own: Error: own bug");
    expect(openImages()).toBe(0);
    families.close();
  });

  it("lays plugged memory and persistent memory above RAM, and knows the root", () => {
    const config = checkConfig({
      kernel: "vmlinux",
      memoryMib: 6144,
      pmem: [{ path: image }, { id: "root", path: image, isRoot: true, readOnly: true }],
      memoryHotplug: { totalSizeMib: 1024 },
      entropy: false,
    });
    const families = new DeviceFamilies(config);
    const [gib, mib] = [2 ** 30, 2 ** 20];
    expect(families.memoryHotplug?.region.start).toBe(8 * gib);
    expect(families.deviceMemoryEnd).toBe(9 * gib + 130 * mib);
    expect(families.requests.map(({ name }) => name)).toEqual([
      "pmem pmem0",
      "pmem root",
      "memory hotplug",
    ]);
    expect(families.root).toEqual({ root: { device: "/dev/pmem1", readOnly: true } });
    families.close();
    expect(openImages()).toBe(0);
  });

  it("has no entropy device when told so", () => {
    const families = new DeviceFamilies(checkConfig({ kernel: "vmlinux", entropy: false }));
    expect(families.requests).toEqual([]);
    expect(families.metrics.entropy).toBeUndefined();
    families.close();
  });

  it("leaves nothing open when one cannot be opened", () => {
    const drives = [{ path: image }, { path: join(folder, "missing") }];
    expect(() => new DeviceFamilies(checkConfig({ kernel: "vmlinux", drives }))).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_DRIVE_FILE" }),
    );
    expect(openImages()).toBe(0);
  });

  it("changes every limiter while it runs, and tells of each what happens", () => {
    const bandwidth = { size: 1000, refillTimeMs: 10 };
    const families = new DeviceFamilies(
      checkConfig({
        kernel: "vmlinux",
        drives: [{ id: "d", path: image }],
        pmem: [{ id: "p", path: image }],
        serial: { rateLimiter: { size: 5, refillTimeMs: 1000 } },
      }),
    );
    const events: DeviceRateLimitEvent[] = [];
    let isComplete = false;
    families.rateLimits$.subscribe({
      next: (event) => events.push(event),
      complete: () => {
        isComplete = true;
      },
    });
    families.drives.limit("d", { bandwidth });
    families.pmem.limit("p", { ops: bandwidth });
    families.limitEntropy({ bandwidth });
    families.limitSerial({ size: 7, refillTimeMs: 10 });
    expect(families.serialLimit.limiter.admitUpTo(9)).toBe(7);
    expect(events.map(({ device, type }) => `${device} ${type}`)).toEqual([
      "drive d configured",
      "pmem p configured",
      "entropy configured",
      "serial configured",
      "serial throttled",
    ]);
    expect(() => families.limitEntropy({ bandwidth: { size: -1, refillTimeMs: 1 } })).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
    expect(() => families.limitSerial({ size: 1.5, refillTimeMs: 1 })).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
    families.close();
    expect(isComplete).toBe(true);
  });

  it("has no limits to change for an entropy device that is not there", () => {
    const families = new DeviceFamilies(checkConfig({ kernel: "vmlinux", entropy: false }));
    expect(() => families.limitEntropy({})).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_STATE" }),
    );
    families.close();
  });
});
