/**
 * Schemas of persistent memory and memory hotplug. The same rules as in schemas.ts.
 */
import Type, { type Static } from "typebox";
import { closed, option, RateLimiter, struct, uint } from "./schemas.js";

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

export type PmemJson = Static<typeof Pmem>;
export type PmemUpdateJson = Static<typeof PmemUpdate>;
export type MemoryHotplugJson = Static<typeof MemoryHotplug>;
