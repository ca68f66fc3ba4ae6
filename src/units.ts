/**
 * Branded numbers and the sizes everything is counted in.
 *
 * A guest-physical address, a GSI and a byte count are all numbers to V8 and must not be mixed up by us;
 * the brands cost nothing at run time. Every 64-bit quantity here is below 2^53, which is checked once
 * where it enters (a guest's u64 is narrowed in devices/, an API's number in the configuration).
 */

declare const brand: unique symbol;
type Branded<Name extends string> = number & { readonly [brand]?: Name };

/** A guest-physical address in bytes. */
export type Gpa = Branded<"Gpa">;
/** A Global System Interrupt number: 0 to 23 on the IOAPIC. */
export type Gsi = Branded<"Gsi">;
/** Index of a vCPU in its microVM, 0 to 31; also its APIC id. */
export type VcpuId = Branded<"VcpuId">;

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** x86's base page, the grain of KVM memory slots and MMIO windows. */
export const PAGE_BYTES = 4 * KIB;

/** Rounds `value` up to a multiple of `grain` (a power of two or not, both positive). */
export function alignUp(value: number, grain: number): number {
  return Math.ceil(value / grain) * grain;
}

/** The longest that a timer takes, ms: Node takes a longer time for 1 ms. */
export const TIMER_MS_MAX = 2 ** 31 - 1;

/** Rounds `value` down to a multiple of `grain`. */
export function alignDown(value: number, grain: number): number {
  return Math.floor(value / grain) * grain;
}

/** `value` as `0x…`, the way addresses are written in logs and errors. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
