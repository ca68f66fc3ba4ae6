/**
 * Xen's PVH start info, version 1: offsets and sizes.
 *
 * Citation: Xen public/arch-x86/hvm/start_info.h; all fields little-endian.
 */

/** "xEn3" with the top bit of the E set. */
export const START_INFO_MAGIC = 0x336e_c578;
export const START_INFO_VERSION = 1;
export const START_INFO_BYTES = 56;
/** magic, version, flags, nr_modules: u32 each. */
export const MAGIC_OFFSET = 0;
export const VERSION_OFFSET = 4;
export const NR_MODULES_OFFSET = 12;
/** modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr: u64 each. */
export const MODLIST_PADDR_OFFSET = 16;
export const CMDLINE_PADDR_OFFSET = 24;
export const RSDP_PADDR_OFFSET = 32;
export const MEMMAP_PADDR_OFFSET = 40;
/** memmap_entries, u32. */
export const MEMMAP_ENTRIES_OFFSET = 48;

/** Module list entry: paddr, size, cmdline_paddr, reserved: u64 each. */
export const MODULE_BYTES = 32;
export const MODULE_PADDR_OFFSET = 0;
export const MODULE_SIZE_OFFSET = 8;

/** Memory map entry: addr u64, size u64, type u32, reserved u32. */
export const MEMMAP_ENTRY_BYTES = 24;
export const MEMMAP_ADDR_OFFSET = 0;
export const MEMMAP_SIZE_OFFSET = 8;
export const MEMMAP_TYPE_OFFSET = 16;
