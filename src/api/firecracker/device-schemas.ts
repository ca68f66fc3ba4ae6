/**
 * Schemas of the devices that this build does not have yet: their requests are checked as Firecracker checks
 * them, and then refused (missing-devices.ts). The same rules as in schemas.ts.
 */
import Type from "typebox";
import { choice, closed, option, struct } from "./schemas.js";

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
