import { describe, expect, it } from "vitest";
import { checkConfig } from "../../../src/actors/config.js";
import {
  completeDrive,
  type Draft,
  EMPTY_DRAFT,
  fromConfig,
  fullConfig,
  toMicroVmConfig,
  withDrive,
} from "../../../src/api/firecracker/draft.js";

const drive = (drive_id: string, is_root_device = false) =>
  completeDrive({ drive_id, is_root_device, path_on_host: `${drive_id}.img` });

const FULL: Draft = {
  machine: {
    vcpu_count: 4,
    mem_size_mib: 1024,
    smt: true,
    track_dirty_pages: false,
    huge_pages: "2M",
  },
  bootSource: { kernel_image_path: "vmlinux", initrd_path: "initrd", boot_args: "quiet" },
  cpuConfig: { msr_modifiers: [] },
  drives: [
    completeDrive({
      drive_id: "root",
      is_root_device: true,
      path_on_host: "root.img",
      partuuid: "0eaa91a0-01",
      is_read_only: true,
      cache_type: "Writeback",
      io_engine: "Async",
      rate_limiter: { ops: { size: 10, refill_time: 20 }, bandwidth: { size: 1, refill_time: 0 } },
    }),
    drive("data"),
  ],
  pmem: [
    {
      id: "store",
      path_on_host: "store.img",
      root_device: false,
      read_only: true,
      rate_limiter: { bandwidth: null, ops: { size: 1, refill_time: 2, one_time_burst: null } },
    },
  ],
  interfaces: [
    {
      iface_id: "eth0",
      host_dev_name: "tap0",
      guest_mac: "06:00:00:00:00:01",
      mtu: 1400,
      rx_rate_limiter: null,
      tx_rate_limiter: {
        bandwidth: null,
        ops: { size: 5, refill_time: 6, one_time_burst: null },
      },
    },
  ],
  mmds: {
    version: "V2",
    network_interfaces: ["eth0"],
    ipv4_address: "169.254.169.250",
    imds_compat: true,
  },
  metadata: { a: 1 },
  vsock: { guest_cid: 7, uds_path: "v.sock" },
  balloon: {
    amount_mib: 5,
    deflate_on_oom: true,
    stats_polling_interval_s: 2,
    free_page_hinting: false,
    free_page_reporting: true,
  },
  memoryHotplug: { total_size_mib: 1024, block_size_mib: 4, slot_size_mib: 256 },
  entropy: {
    rate_limiter: { bandwidth: { size: 1, refill_time: 2, one_time_burst: 3 }, ops: null },
  },
  serial: undefined,
};

describe("toMicroVmConfig", () => {
  it("is the machine that Firecracker would make", () => {
    expect(toMicroVmConfig(FULL)).toEqual({
      kernel: "vmlinux",
      initrd: "initrd",
      bootArgs: "quiet",
      vcpuCount: 4,
      memoryMib: 1024,
      smt: true,
      hugePages: true,
      cpuTemplate: { msr_modifiers: [] },
      entropy: { rateLimiter: { bandwidth: { size: 1, refillTimeMs: 2, oneTimeBurst: 3 } } },
      networkInterfaces: [
        {
          id: "eth0",
          tap: "tap0",
          mac: "06:00:00:00:00:01",
          mtu: 1400,
          rxRateLimiter: {},
          txRateLimiter: { ops: { size: 5, refillTimeMs: 6, oneTimeBurst: 0 } },
        },
      ],
      mmds: {
        version: "V2",
        interfaces: ["eth0"],
        ipv4Address: "169.254.169.250",
        imdsCompat: true,
        data: { a: 1 },
      },
      vsock: { guestCid: 7, udsPath: "v.sock" },
      balloon: {
        amountMib: 5,
        deflateOnOom: true,
        statsIntervalS: 2,
        freePageHinting: false,
        freePageReporting: true,
      },
      pmem: [
        {
          id: "store",
          path: "store.img",
          isRoot: false,
          readOnly: true,
          rateLimiter: { ops: { size: 1, refillTimeMs: 2, oneTimeBurst: 0 } },
        },
      ],
      memoryHotplug: { totalSizeMib: 1024, slotSizeMib: 256, blockSizeMib: 4 },
      drives: [
        {
          id: "root",
          path: "root.img",
          isRoot: true,
          partuuid: "0eaa91a0-01",
          readOnly: true,
          cacheType: "Writeback",
          ioEngine: "io_uring",
          rateLimiter: { ops: { size: 10, refillTimeMs: 20, oneTimeBurst: 0 } },
        },
        {
          id: "data",
          path: "data.img",
          isRoot: false,
          readOnly: false,
          cacheType: "Unsafe",
          ioEngine: "auto",
          rateLimiter: {},
        },
      ],
    });
  });

  it("has neither kernel nor entropy device to begin with", () => {
    expect(toMicroVmConfig(EMPTY_DRAFT)).toEqual({
      vcpuCount: 1,
      memoryMib: 128,
      smt: false,
      hugePages: false,
      drives: [],
      networkInterfaces: [],
      entropy: false,
    });
  });

  it("limits the serial port", () => {
    const rate_limiter = { size: 5, refill_time: 6 };
    const config = toMicroVmConfig({ ...EMPTY_DRAFT, serial: { rate_limiter } });
    expect(config.serial).toEqual({
      rateLimiter: { size: 5, refillTimeMs: 6, oneTimeBurst: 0 },
    });
  });
});

describe("fromConfig", () => {
  it("is the way back", () => {
    const config = checkConfig({ ...toMicroVmConfig(FULL), kernel: "vmlinux" });
    expect(fullConfig(fromConfig(config), false)).toEqual(fullConfig(FULL, false));
  });
});

describe("withDrive", () => {
  const ids = (drives: Draft["drives"] | undefined) => drives?.map(({ drive_id }) => drive_id);

  it("puts the root first, and an id in its old place", () => {
    const two = [drive("a"), drive("b")];
    expect(ids(withDrive(two, drive("c")))).toEqual(["a", "b", "c"]);
    expect(ids(withDrive(two, drive("r", true)))).toEqual(["r", "a", "b"]);
    expect(withDrive(two, { ...drive("a"), is_read_only: true })).toEqual([
      { ...two[0], is_read_only: true },
      two[1],
    ]);
    expect(ids(withDrive([...two, drive("c")], drive("c", true)))).toEqual(["c", "b", "a"]);
  });

  it("refuses a second root", () => {
    const rooted = [drive("r", true), drive("a")];
    expect(withDrive(rooted, drive("a", true))).toBeUndefined();
    expect(withDrive(rooted, drive("s", true))).toBeUndefined();
    expect(ids(withDrive(rooted, drive("r", true)))).toEqual(["r", "a"]);
  });
});

describe("fullConfig", () => {
  it("tells no CPU template once the machine has started, as Firecracker", () => {
    expect(fullConfig(FULL, false)["cpu-config"]).toEqual({ msr_modifiers: [] });
    expect(fullConfig(FULL, true)["cpu-config"]).toBeNull();
  });
});
