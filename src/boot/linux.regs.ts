/**
 * Linux's x86 boot protocol: offsets in the setup header of a bzImage and in `struct boot_params`.
 *
 * The setup header has the same offsets in the file and in boot_params. Citation: Linux 6.1
 * Documentation/arch/x86/boot.rst and zero-page.rst, arch/x86/include/uapi/asm/bootparam.h.
 */

/** setup_sects, u8: 512-byte sectors of real-mode code after the first; 0 means 4. */
export const SETUP_SECTS_OFFSET = 0x1f1;
export const SETUP_SECTS_DEFAULT = 4;
export const SECTOR_BYTES = 512;
/** syssize, u32: protected-mode code in 16-byte units. */
export const SYSSIZE_OFFSET = 0x1f4;
export const SYSSIZE_UNIT_BYTES = 16;
/** boot_flag, u16. */
export const BOOT_FLAG_OFFSET = 0x1fe;
export const BOOT_FLAG = 0xaa55;
/** The short jump at 0x200; its displacement tells where the header ends. */
export const JUMP_DISPLACEMENT_OFFSET = 0x201;
/** header, u32: "HdrS". */
export const HEADER_MAGIC_OFFSET = 0x202;
export const HEADER_MAGIC = 0x5372_6448;
/** version, u16. */
export const VERSION_OFFSET = 0x206;
/** 2.12 brought xloadflags. */
export const VERSION_MIN = 0x20c;
/** type_of_loader, u8; 0xff: no assigned number. */
export const TYPE_OF_LOADER_OFFSET = 0x210;
export const TYPE_OF_LOADER_UNDEFINED = 0xff;
/** code32_start, u32. */
export const CODE32_START_OFFSET = 0x214;
/** ramdisk_image, ramdisk_size: u32 each. */
export const RAMDISK_IMAGE_OFFSET = 0x218;
export const RAMDISK_SIZE_OFFSET = 0x21c;
/** cmd_line_ptr, u32. */
export const CMD_LINE_PTR_OFFSET = 0x228;
/** initrd_addr_max, u32: the last address an initrd may occupy. */
export const INITRD_ADDR_MAX_OFFSET = 0x22c;
/** kernel_alignment, u32. */
export const KERNEL_ALIGNMENT_OFFSET = 0x230;
/** 16 MiB: CONFIG_PHYSICAL_ALIGN's usual value, for kernels whose own header is not at hand. */
export const KERNEL_ALIGNMENT_BYTES = 0x100_0000;
/** xloadflags, u16. */
export const XLOADFLAGS_OFFSET = 0x236;
/** There is a 64-bit entry point at 0x200 of the protected-mode code. */
export const XLF_KERNEL_64_MASK = 0x1;
export const ENTRY_64_OFFSET = 0x200;
/** cmdline_size, u32: without the NUL. */
export const CMDLINE_SIZE_OFFSET = 0x238;
/** pref_address, u64: where the decompressed kernel would like to be. */
export const PREF_ADDRESS_OFFSET = 0x258;
/** init_size, u32: contiguous memory it needs from there until it can read the memory map. */
export const INIT_SIZE_OFFSET = 0x260;
/** Where the header ends at the latest: edd_mbr_sig_buffer follows in boot_params. */
export const HEADER_END_MAX_OFFSET = 0x290;
/** Bytes of a bzImage that hold all of the above. */
export const HEADER_BYTES = HEADER_END_MAX_OFFSET;

/** boot_params: acpi_rsdp_addr, u64. */
export const ACPI_RSDP_ADDR_OFFSET = 0x70;
/** boot_params: e820_entries, u8. */
export const E820_ENTRIES_OFFSET = 0x1e8;
/** boot_params: e820_table, entries of 20 bytes: address u64, size u64, type u32. */
export const E820_TABLE_OFFSET = 0x2d0;
export const E820_ENTRY_BYTES = 20;
export const E820_ENTRIES_MAX = 128;
export const BOOT_PARAMS_BYTES = 4096;
