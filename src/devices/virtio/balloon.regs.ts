/**
 * Numbers of the memory balloon device. Source: VirtIO 1.2 § 5.5; statistics also linux/virtio_balloon.h.
 */

export const DEVICE_TYPE = 5;

/** Feature bits, § 5.5.3. */
export const FEATURE_STATS_VQ_BIT = 1;
export const FEATURE_DEFLATE_ON_OOM_BIT = 2;
export const FEATURE_FREE_PAGE_HINT_BIT = 3;
export const FEATURE_PAGE_REPORTING_BIT = 5;

/** Configuration space, § 5.5.4: u32 each. */
export const CONFIG_TARGET_OFFSET = 0x00;
/** The driver's: pages that it has given. */
export const CONFIG_ACTUAL_OFFSET = 0x04;
/** With FREE_PAGE_HINT. */
export const CONFIG_HINT_COMMAND_OFFSET = 0x08;
export const CONFIG_BYTES = 12;

/** Pages are of this size, whatever the guest's are. */
export const PAGE_BYTES = 4096;
export const PAGES_PER_MIB = 256;
/** A page's number in a queue: u32. */
export const PAGE_NUMBER_BYTES = 4;

/** Commands of free page hinting, § 5.5.6.7; from FIRST on each run has a number of its own. */
export const HINT_STOP = 0;
export const HINT_DONE = 1;
export const HINT_FIRST = 2;
export const HINT_LAST = 0xffff_ffff;

/** struct virtio_balloon_stat, § 5.5.6.4: u16 tag, u64 value, packed. */
export const STATISTIC_BYTES = 10;
export const STATISTIC_VALUE_OFFSET = 2;
/** Names by tag. */
export const STATISTIC_NAMES = [
  "swap_in",
  "swap_out",
  "major_faults",
  "minor_faults",
  "free_memory",
  "total_memory",
  "available_memory",
  "disk_caches",
  "hugetlb_allocations",
  "hugetlb_failures",
  "oom_kill",
  "alloc_stall",
  "async_scan",
  "direct_scan",
  "async_reclaim",
  "direct_reclaim",
] as const;
