/**
 * The CPUID leaves of one vCPU, made from what the host's KVM supports.
 *
 * Everything passes through as KVM offers it (its paravirtual leaves from 0x40000000 too) except
 * what would describe the host instead of the guest: topology, cache sharing, performance counters,
 * power management, brand string. The guest has one socket; the APIC id is the vCPU's index; with
 * `smt` each core has two threads, neighbours in APIC id. Leaves are those of Firecracker's
 * normalisation (reference: Intel SDM volume 2A and AMD APM volume 3, CPUID). A CPU template is
 * applied before this, so that topology always wins over it.
 */
import { EstaloError } from "../errors.js";
import type { VcpuId } from "../units.js";
import * as regs from "./cpuid.regs.js";
import { VCPU_COUNT_MAX } from "./layout.js";

/** Whose CPUID this is. */
export interface CpuidTopology {
  /** 0 to vcpuCount - 1; becomes the APIC id. */
  readonly vcpuId: VcpuId;
  /** 1 to 32; with `smt`, 1 or even. */
  readonly vcpuCount: number;
  /** Two threads per core. */
  readonly smt: boolean;
}

/** What the leaves below are computed from. */
interface Shape {
  readonly apicId: number;
  readonly vcpuCount: number;
  readonly threadsPerCore: number;
  /** Width of the thread number in the APIC id. */
  readonly threadBits: number;
  /** Width of thread and core number together. */
  readonly packageBits: number;
}

/**
 * Normalises KVM_GET_SUPPORTED_CPUID's entries for one vCPU.
 *
 * @param supported - `struct kvm_cpuid_entry2` records, ten u32 each; not changed
 * @returns entries for KVM_SET_CPUID2, of the same form
 */
export function normalizeCpuid(supported: Uint32Array, topology: CpuidTopology): Uint32Array {
  const shape = shapeOf(topology);
  const entries: Uint32Array[] = [];
  let vendorEbx = 0;
  let highestBasic = 0;
  for (let at = 0; at + regs.ENTRY_WORDS <= supported.length; at += regs.ENTRY_WORDS) {
    const entry = supported.slice(at, at + regs.ENTRY_WORDS);
    const leaf = entry[regs.FUNCTION_WORD];
    if (leaf === regs.LEAF_VENDOR) {
      vendorEbx = entry[regs.EBX_WORD];
      highestBasic = entry[regs.EAX_WORD];
    }
    // Replaced as a whole below: their number of subleaves is the guest's.
    if (leaf !== regs.LEAF_TOPOLOGY && leaf !== regs.LEAF_TOPOLOGY_V2) entries.push(entry);
  }
  const brand = brandString(vendorEbx, entries);
  for (const entry of entries) {
    normalizeEntry(entry, shape, brand);
    if (vendorEbx === regs.VENDOR_INTEL_EBX) normalizeIntelEntry(entry, shape);
    if (vendorEbx === regs.VENDOR_AMD_EBX) normalizeAmdEntry(entry, shape);
  }
  for (const leaf of [regs.LEAF_TOPOLOGY, regs.LEAF_TOPOLOGY_V2]) {
    if (highestBasic >= leaf) entries.push(...topologyEntries(leaf, shape));
  }
  const normalized = new Uint32Array(entries.length * regs.ENTRY_WORDS);
  for (const [i, entry] of entries.entries()) normalized.set(entry, i * regs.ENTRY_WORDS);
  return normalized;
}

function shapeOf({ vcpuId, vcpuCount, smt }: CpuidTopology): Shape {
  const valid =
    Number.isInteger(vcpuCount) &&
    vcpuCount >= 1 &&
    vcpuCount <= VCPU_COUNT_MAX &&
    !(smt && vcpuCount > 1 && vcpuCount % 2 !== 0);
  if (!valid) {
    throw new EstaloError(
      "ERR_ESTALO_CONFIG_INVALID",
      `a microVM has 1 to ${VCPU_COUNT_MAX} vCPUs, with smt 1 or an even number, not ${vcpuCount}`,
      { data: { vcpuCount, smt } },
    );
  }
  const threadsPerCore = smt && vcpuCount > 1 ? 2 : 1;
  return {
    apicId: vcpuId,
    vcpuCount,
    threadsPerCore,
    threadBits: bitsFor(threadsPerCore),
    packageBits: bitsFor(vcpuCount),
  };
}

/** Bits needed to number `count` things. */
function bitsFor(count: number): number {
  return Math.ceil(Math.log2(count));
}

/** Sets a bit field that `mask` covers. */
function setField(entry: Uint32Array, word: number, mask: number, value: number): void {
  entry[word] = (entry[word] & ~mask) | (value & mask);
}

/** What both vendors share. */
function normalizeEntry(entry: Uint32Array, shape: Shape, brand: Uint32Array): void {
  switch (entry[regs.FUNCTION_WORD]) {
    case regs.LEAF_FEATURES:
      entry[regs.EBX_WORD] =
        (shape.apicId << regs.FEATURES_EBX_APIC_ID_SHIFT) |
        ((1 << shape.packageBits) << regs.FEATURES_EBX_LOGICAL_COUNT_SHIFT) |
        (regs.CLFLUSH_LINE_UNITS << regs.FEATURES_EBX_CLFLUSH_SHIFT);
      entry[regs.ECX_WORD] |= regs.FEATURES_ECX_HYPERVISOR_MASK;
      entry[regs.ECX_WORD] |= regs.FEATURES_ECX_TSC_DEADLINE_MASK;
      entry[regs.ECX_WORD] &= ~regs.FEATURES_ECX_PDCM_MASK;
      if (shape.vcpuCount > 1) entry[regs.EDX_WORD] |= regs.FEATURES_EDX_HTT_MASK;
      else entry[regs.EDX_WORD] &= ~regs.FEATURES_EDX_HTT_MASK;
      break;
    case regs.LEAF_EXTENDED_FEATURES:
      if (entry[regs.INDEX_WORD] === 0) {
        entry[regs.ECX_WORD] &= ~regs.EXTENDED_ECX_WAITPKG_MASK;
      }
      break;
    case regs.LEAF_PERFMON:
      entry.fill(0, regs.EAX_WORD, regs.EDX_WORD + 1);
      break;
    case regs.LEAF_BRAND:
    case regs.LEAF_BRAND + 1:
    case regs.LEAF_BRAND + 2: {
      const words = 4 * (entry[regs.FUNCTION_WORD] - regs.LEAF_BRAND);
      entry.set(brand.subarray(words, words + 4), regs.EAX_WORD);
      break;
    }
  }
}

function normalizeIntelEntry(entry: Uint32Array, shape: Shape): void {
  switch (entry[regs.FUNCTION_WORD]) {
    case regs.LEAF_CACHE_INTEL:
      if (!setCacheSharing(entry, shape)) break;
      setField(
        entry,
        regs.EAX_WORD,
        regs.CACHE_EAX_CORES_MASK,
        ((1 << (shape.packageBits - shape.threadBits)) - 1) << regs.CACHE_EAX_CORES_SHIFT,
      );
      break;
    case regs.LEAF_POWER:
      entry[regs.EAX_WORD] &= ~regs.POWER_EAX_TURBO_MASK;
      entry[regs.ECX_WORD] &= ~regs.POWER_ECX_ENERGY_BIAS_MASK;
      break;
  }
}

function normalizeAmdEntry(entry: Uint32Array, shape: Shape): void {
  switch (entry[regs.FUNCTION_WORD]) {
    case regs.LEAF_AMD_FEATURES:
      entry[regs.ECX_WORD] |= regs.AMD_ECX_TOPOLOGY_EXTENSIONS_MASK;
      break;
    case regs.LEAF_AMD_SIZES:
      setField(entry, regs.ECX_WORD, regs.SIZES_ECX_CORES_MASK, shape.vcpuCount - 1);
      setField(
        entry,
        regs.ECX_WORD,
        regs.SIZES_ECX_APIC_ID_BITS_MASK,
        shape.packageBits << regs.SIZES_ECX_APIC_ID_BITS_SHIFT,
      );
      break;
    case regs.LEAF_CACHE_AMD:
      setCacheSharing(entry, shape);
      break;
    case regs.LEAF_AMD_TOPOLOGY:
      entry[regs.EAX_WORD] = shape.apicId;
      entry[regs.EBX_WORD] =
        (shape.apicId >>> shape.threadBits) |
        ((shape.threadsPerCore - 1) << regs.AMD_TOPOLOGY_EBX_THREADS_SHIFT);
      // One node, numbered 0.
      entry[regs.ECX_WORD] = 0;
      entry[regs.EDX_WORD] = 0;
      break;
  }
}

/** L1 and L2 belong to a core, L3 and above to the package. False for the list's end (type 0). */
function setCacheSharing(entry: Uint32Array, shape: Shape): boolean {
  const eax = entry[regs.EAX_WORD];
  if ((eax & regs.CACHE_EAX_TYPE_MASK) === 0) return false;
  const level = (eax >>> regs.CACHE_EAX_LEVEL_SHIFT) & regs.CACHE_EAX_LEVEL_MASK;
  const sharingBits = level >= regs.CACHE_LEVEL_SHARED ? shape.packageBits : shape.threadBits;
  const sharing = ((1 << sharingBits) - 1) << regs.CACHE_EAX_SHARING_SHIFT;
  setField(entry, regs.EAX_WORD, regs.CACHE_EAX_SHARING_MASK, sharing);
  return true;
}

/** Leaf 0xb or 0x1f: threads of a core, cores of the package, end. */
function topologyEntries(leaf: number, shape: Shape): Uint32Array[] {
  const levels = [
    [shape.threadBits, shape.threadsPerCore, regs.TOPOLOGY_TYPE_SMT],
    [shape.packageBits, shape.vcpuCount, regs.TOPOLOGY_TYPE_CORE],
    [0, 0, 0],
  ];
  return levels.map(([bits, count, type], index) =>
    Uint32Array.of(
      leaf,
      index,
      regs.FLAG_SIGNIFICANT_INDEX,
      bits,
      count,
      index | (type << regs.TOPOLOGY_TYPE_SHIFT),
      shape.apicId,
      0,
      0,
      0,
    ),
  );
}

/**
 * A brand string that names the family but not the host's model: `Intel(R) Xeon(R) Processor @
 * 2.9GHz` with the host's nominal frequency where its own brand string has one, `AMD EPYC`, or the
 * host's for others.
 */
function brandString(vendorEbx: number, entries: readonly Uint32Array[]): Uint32Array {
  const host = new Uint32Array(regs.BRAND_BYTES / 4);
  for (const entry of entries) {
    const part = entry[regs.FUNCTION_WORD] - regs.LEAF_BRAND;
    if (part >= 0 && part < regs.BRAND_LEAVES) {
      host.set(entry.subarray(regs.EAX_WORD, regs.EDX_WORD + 1), part * 4);
    }
  }
  if (vendorEbx === regs.VENDOR_AMD_EBX) return encodeBrand("AMD EPYC");
  if (vendorEbx !== regs.VENDOR_INTEL_EBX) return host;
  const text = Buffer.from(host.buffer).toString("latin1");
  const frequency = / @ *[0-9]+(\.[0-9]+)?[MGT]Hz/.exec(text)?.[0] ?? "";
  return encodeBrand(`Intel(R) Xeon(R) Processor${frequency}`);
}

function encodeBrand(text: string): Uint32Array {
  const bytes = new Uint8Array(regs.BRAND_BYTES);
  bytes.set(Buffer.from(text, "latin1").subarray(0, regs.BRAND_BYTES - 1));
  return new Uint32Array(bytes.buffer);
}

/** Bits of a physical address, by the records of ten words that KVM gives. */
export function physicalAddressBits(supported: Uint32Array): number {
  for (let at = 0; at < supported.length; at += regs.ENTRY_WORDS) {
    if (supported[at + regs.FUNCTION_WORD] !== regs.LEAF_AMD_SIZES) continue;
    return supported[at + regs.EAX_WORD] & regs.SIZES_EAX_PHYSICAL_BITS_MASK;
  }
  return regs.PHYSICAL_BITS_DEFAULT;
}
