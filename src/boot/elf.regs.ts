/**
 * ELF64 as far as a kernel image needs it: offsets in the file header, program headers and notes.
 *
 * Citation: System V ABI, generic edition, chapters 4 (ELF header) and 5 (program header, note
 * section); the PVH entry note: Xen public/elfnote.h.
 */

/** The first four bytes, read as a little-endian u32: 0x7f "ELF". */
export const ELF_MAGIC = 0x464c_457f;
/** e_ident[EI_CLASS], u8. */
export const EI_CLASS_OFFSET = 4;
export const ELFCLASS64 = 2;
/** e_ident[EI_DATA], u8. */
export const EI_DATA_OFFSET = 5;
export const ELFDATA2LSB = 1;
/** e_type, u16. */
export const E_TYPE_OFFSET = 16;
export const ET_EXEC = 2;
export const ET_DYN = 3;
/** e_machine, u16. */
export const E_MACHINE_OFFSET = 18;
export const EM_386 = 3;
export const EM_X86_64 = 62;
export const EM_AARCH64 = 183;
export const EM_RISCV = 243;
/** e_entry, u64. */
export const E_ENTRY_OFFSET = 24;
/** e_phoff, u64. */
export const E_PHOFF_OFFSET = 32;
/** e_phentsize, u16. */
export const E_PHENTSIZE_OFFSET = 54;
/** e_phnum, u16. */
export const E_PHNUM_OFFSET = 56;
export const ELF_HEADER_BYTES = 64;

/** Program header, 56 bytes. */
export const PROGRAM_HEADER_BYTES = 56;
/** p_type, u32. */
export const P_TYPE_OFFSET = 0;
export const PT_LOAD = 1;
export const PT_NOTE = 4;
/** p_offset, p_paddr, p_filesz, p_memsz, p_align: u64 each. */
export const P_OFFSET_OFFSET = 8;
export const P_PADDR_OFFSET = 24;
export const P_FILESZ_OFFSET = 32;
export const P_MEMSZ_OFFSET = 40;
export const P_ALIGN_OFFSET = 48;

/** Note: n_namesz, n_descsz, n_type (u32 each), then name and descriptor, both padded. */
export const NOTE_HEADER_BYTES = 12;
export const N_NAMESZ_OFFSET = 0;
export const N_DESCSZ_OFFSET = 4;
export const N_TYPE_OFFSET = 8;
/** XEN_ELFNOTE_PHYS32_ENTRY: the 32-bit entry point of PVH, 4 or 8 bytes. */
export const XEN_ELFNOTE_PHYS32_ENTRY = 18;
