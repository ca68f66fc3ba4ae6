/**
 * Schemas of the memory balloon. The same rules as in schemas.ts.
 */
import Type, { type Static } from "typebox";
import { closed, option, struct, uint } from "./schemas.js";

export const Balloon = Type.Object(
  {
    amount_mib: uint(32),
    deflate_on_oom: Type.Boolean(),
    stats_polling_interval_s: Type.Optional(uint(16)),
    free_page_hinting: Type.Optional(Type.Boolean()),
    free_page_reporting: Type.Optional(Type.Boolean()),
  },
  { ...closed, title: "Balloon", ...struct("BalloonDeviceConfig") },
);

export const BalloonUpdate = Type.Object(
  { amount_mib: uint(32) },
  { ...closed, title: "BalloonUpdate", ...struct("BalloonUpdateConfig") },
);

export const BalloonStatsUpdate = Type.Object(
  { stats_polling_interval_s: uint(16) },
  { ...closed, title: "BalloonStatsUpdate", ...struct("BalloonUpdateStatsConfig") },
);

const counter = option(uint(64));

export const BalloonStats = Type.Object(
  {
    target_pages: uint(32),
    actual_pages: uint(32),
    target_mib: uint(32),
    actual_mib: uint(32),
    swap_in: counter,
    swap_out: counter,
    major_faults: counter,
    minor_faults: counter,
    free_memory: counter,
    total_memory: counter,
    available_memory: counter,
    disk_caches: counter,
    hugetlb_allocations: counter,
    hugetlb_failures: counter,
    oom_kill: counter,
    alloc_stall: counter,
    async_scan: counter,
    direct_scan: counter,
    async_reclaim: counter,
    direct_reclaim: counter,
  },
  { title: "BalloonStats" },
);

export const BalloonHintingStart = Type.Object(
  { acknowledge_on_stop: Type.Optional(Type.Boolean()) },
  { title: "BalloonStartCmd", ...struct("StartHintingCmd") },
);

export const BalloonHintingStatus = Type.Object(
  { host_cmd: uint(32), guest_cmd: option(uint(32)) },
  { title: "BalloonHintingStatus" },
);

export type BalloonJson = Static<typeof Balloon>;
