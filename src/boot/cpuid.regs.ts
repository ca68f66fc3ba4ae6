/**
 * CPUID leaves, registers and bits that Estalo reads or changes.
 *
 * Citations: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E; KVM's leaves in Linux
 * Documentation/virt/kvm/x86/cpuid.rst.
 */

/**
 * u32 words of a `struct kvm_cpuid_entry2`: function, index, flags, eax, ebx, ecx, edx, padding[3].
 */
export const ENTRY_WORDS = 10;
export const FUNCTION_WORD = 0;
export const INDEX_WORD = 1;
export const FLAGS_WORD = 2;
export const EAX_WORD = 3;
export const EBX_WORD = 4;
export const ECX_WORD = 5;
export const EDX_WORD = 6;

/** KVM_CPUID_FLAG_SIGNIFCANT_INDEX: the leaf has subleaves. */
export const FLAG_SIGNIFICANT_INDEX = 0x1;

/** Vendor string and highest basic leaf. */
export const LEAF_VENDOR = 0x0;
/** Vendor words ebx, edx, ecx of `GenuineIntel` and `AuthenticAMD`: ebx is enough to tell. */
export const VENDOR_INTEL_EBX = 0x756e_6547;
export const VENDOR_AMD_EBX = 0x6874_7541;

/** Features and APIC id. */
export const LEAF_FEATURES = 0x1;
export const FEATURES_EBX_CLFLUSH_SHIFT = 8;
export const FEATURES_EBX_LOGICAL_COUNT_SHIFT = 16;
export const FEATURES_EBX_APIC_ID_SHIFT = 24;
/** CLFLUSH line in 8-byte units. */
export const CLFLUSH_LINE_UNITS = 8;
export const FEATURES_ECX_PDCM_MASK = 0x8000;
export const FEATURES_ECX_TSC_DEADLINE_MASK = 0x100_0000;
export const FEATURES_ECX_HYPERVISOR_MASK = 0x8000_0000;
export const FEATURES_EDX_HTT_MASK = 0x1000_0000;

/** Intel's deterministic cache parameters, by subleaf; AMD's leaf 0x8000001d has the same eax. */
export const LEAF_CACHE_INTEL = 0x4;
export const CACHE_EAX_TYPE_MASK = 0x1f;
export const CACHE_EAX_LEVEL_SHIFT = 5;
export const CACHE_EAX_LEVEL_MASK = 0x7;
export const CACHE_EAX_SHARING_SHIFT = 14;
export const CACHE_EAX_SHARING_MASK = 0x3ff_c000;
export const CACHE_EAX_CORES_SHIFT = 26;
export const CACHE_EAX_CORES_MASK = 0xfc00_0000;
/** The first cache level that all cores of the package share. */
export const CACHE_LEVEL_SHARED = 3;

/** Thermal and power management: turbo and the energy bias hint are the host's. */
export const LEAF_POWER = 0x6;
export const POWER_EAX_TURBO_MASK = 0x2;
export const POWER_ECX_ENERGY_BIAS_MASK = 0x8;

/** Structured extended features. */
export const LEAF_EXTENDED_FEATURES = 0x7;
export const EXTENDED_ECX_WAITPKG_MASK = 0x20;

/** Architectural performance monitoring. */
export const LEAF_PERFMON = 0xa;

/** Extended topology, and its second version. */
export const LEAF_TOPOLOGY = 0xb;
export const LEAF_TOPOLOGY_V2 = 0x1f;
/** ecx bits 8 to 15: what a topology subleaf describes. */
export const TOPOLOGY_TYPE_SHIFT = 8;
export const TOPOLOGY_TYPE_SMT = 1;
export const TOPOLOGY_TYPE_CORE = 2;

/** AMD: extended features, bit 22 says that leaves 0x8000001d and 0x8000001e exist. */
export const LEAF_AMD_FEATURES = 0x8000_0001;
export const AMD_ECX_TOPOLOGY_EXTENSIONS_MASK = 0x40_0000;

/** Brand string, three leaves of 16 characters. */
export const LEAF_BRAND = 0x8000_0002;
export const BRAND_LEAVES = 3;
export const BRAND_BYTES = 48;

/** Address sizes; AMD: core count and width of the core number in the APIC id. */
export const LEAF_AMD_SIZES = 0x8000_0008;
export const SIZES_EAX_PHYSICAL_BITS_MASK = 0xff;
/** What processors without that leaf have. */
export const PHYSICAL_BITS_DEFAULT = 36;
export const SIZES_ECX_CORES_MASK = 0xff;
export const SIZES_ECX_APIC_ID_BITS_SHIFT = 12;
export const SIZES_ECX_APIC_ID_BITS_MASK = 0xf000;

/** AMD: cache topology. */
export const LEAF_CACHE_AMD = 0x8000_001d;
/** AMD: extended APIC id, core id and threads per core, node id. */
export const LEAF_AMD_TOPOLOGY = 0x8000_001e;
export const AMD_TOPOLOGY_EBX_THREADS_SHIFT = 8;
