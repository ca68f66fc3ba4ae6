/**
 * Schemas of the devices that this build does not have yet: their requests are checked as Firecracker checks
 * them, and then refused (missing-devices.ts). The same rules as in schemas.ts.
 */
import Type from "typebox";
import { choice, closed, option, RateLimiter, struct, uint } from "./schemas.js";

export const Pmem = Type.Object(
  {
    id: Type.String(),
    path_on_host: Type.String(),
    root_device: Type.Optional(Type.Boolean()),
    read_only: Type.Optional(Type.Boolean()),
    rate_limiter: option(RateLimiter),
  },
  { ...closed, title: "Pmem", ...struct("PmemConfig") },
);

export const PmemUpdate = Type.Object(
  { id: Type.String(), rate_limiter: option(RateLimiter) },
  { ...closed, title: "PartialPmem", ...struct("PmemDeviceUpdateConfig") },
);

export const MemoryHotplug = Type.Object(
  {
    total_size_mib: uint(64),
    slot_size_mib: Type.Optional(uint(64)),
    block_size_mib: Type.Optional(uint(64)),
  },
  { ...closed, title: "MemoryHotplugConfig", ...struct("MemoryHotplugConfig") },
);

export const MemoryHotplugUpdate = Type.Object(
  { requested_size_mib: uint(64) },
  { ...closed, title: "MemoryHotplugSizeUpdate", ...struct("MemoryHotplugSizeUpdate") },
);

export const MemoryHotplugStatus = Type.Object(
  {
    block_size_mib: uint(64),
    total_size_mib: uint(64),
    slot_size_mib: uint(64),
    plugged_size_mib: uint(64),
    requested_size_mib: uint(64),
  },
  { title: "MemoryHotplugStatus" },
);

const memoryBackend = Type.Object(
  { backend_type: choice(["File", "Uffd"]), backend_path: Type.String() },
  closed,
);

export const SnapshotCreate = Type.Object(
  {
    snapshot_path: Type.String(),
    mem_file_path: Type.String(),
    snapshot_type: Type.Optional(choice(["Full", "Diff"])),
  },
  { ...closed, title: "SnapshotCreateParams", ...struct("CreateSnapshotParams") },
);

export const SnapshotLoad = Type.Object(
  {
    snapshot_path: Type.String(),
    mem_backend: option(memoryBackend),
    mem_file_path: option(Type.String({ description: "Deprecated: use mem_backend." })),
    track_dirty_pages: Type.Optional(Type.Boolean()),
    enable_diff_snapshots: Type.Optional(
      Type.Boolean({ description: "Deprecated: use track_dirty_pages." }),
    ),
    resume_vm: Type.Optional(Type.Boolean()),
    network_overrides: Type.Optional(
      Type.Array(Type.Object({ iface_id: Type.String(), host_dev_name: Type.String() })),
    ),
    vsock_override: option(Type.Object({ uds_path: Type.String() })),
    clock_realtime: Type.Optional(Type.Boolean()),
    huge_pages: Type.Optional(choice(["Snapshot", "None", "Transparent", "2M"])),
  },
  { ...closed, title: "SnapshotLoadParams", ...struct("LoadSnapshotConfig") },
);
