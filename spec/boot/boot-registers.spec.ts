import { describe, expect, it } from "vitest";
import {
  BOOT_FPU,
  BOOT_MSRS,
  bootRegisters,
  setLapicPins,
  writeBootTables,
} from "../../src/boot/boot-registers.js";
import { MIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";

describe("bootRegisters of linux64", () => {
  const { regs, sregs } = bootRegisters("linux64", 0x1000000);

  it("points RSI at the zero page and RSP at the boot stack, interrupts off", () => {
    expect(regs).toMatchObject({
      rip: 0x1000000n,
      rsi: 0x7000n,
      rsp: 0x8ff0n,
      rbp: 0x8ff0n,
      rbx: 0n,
      rflags: 2n,
    });
  });

  it("is in long mode with paging, through the page tables at 0x9000", () => {
    expect(sregs).toMatchObject({
      cr0: 0x8000_0011n,
      cr3: 0x9000n,
      cr4: 0x20n,
      efer: 0x500n,
      cs: { selector: 0x10, type: 0xb, l: 1, db: 0, g: 1, s: 1, present: 1 },
      ds: { selector: 0x18, type: 0x3, l: 0, db: 1 },
      tr: { selector: 0x8, type: 0xb, s: 0, limit: 0x67 },
      gdt: { base: 0x500n, limit: 31 },
      idt: { base: 0x520n, limit: 7 },
    });
  });
});

describe("bootRegisters of pvh", () => {
  const { regs, sregs } = bootRegisters("pvh", 0x1000500);

  it("points EBX at the start info", () => {
    expect(regs).toMatchObject({ rip: 0x1000500n, rbx: 0x6000n, rsi: 0n, rflags: 2n });
  });

  it("is in 32-bit protected mode without paging, flat segments", () => {
    const flat = { base: 0n, limit: 0xffff_ffff, db: 1, l: 0, g: 1 };
    expect(sregs).toMatchObject({ cr0: 0x11n, cr3: 0n, cr4: 0n, efer: 0n, cs: flat, ds: flat });
    expect(sregs).toMatchObject({ es: flat, fs: flat, gs: flat, ss: flat });
  });
});

describe("writeBootTables", () => {
  it("writes the descriptors that match the segments of a 64-bit boot", () => {
    const memory = createMemory(MIB);
    writeBootTables(memory, "linux64");
    const gdt = new BigUint64Array(memory.read(0x500, 32).buffer);
    expect([...gdt]).toEqual([
      0n,
      0x0000_8b00_0000_0067n,
      0x00af_9b00_0000_ffffn,
      0x00cf_9300_0000_ffffn,
    ]);
  });

  it("writes a 32-bit code descriptor for PVH, and no page tables", () => {
    const memory = createMemory(MIB);
    writeBootTables(memory, "pvh");
    expect(new BigUint64Array(memory.read(0x510, 8).buffer)[0]).toBe(0x00cf_9b00_0000_ffffn);
    expect(memory.readU64(0x9000)).toBe(0);
  });

  it("maps the first GiB onto itself in pages of 2 MiB", () => {
    const memory = createMemory(MIB);
    writeBootTables(memory, "linux64");
    expect(memory.readU64(0x9000)).toBe(0xa003);
    expect(memory.readU64(0xa000)).toBe(0xb003);
    for (let i = 0; i < 512; i++) expect(memory.readU64(0xb000 + i * 8)).toBe(i * 2 * MIB + 0x83);
    expect(memory.readU64(0x9008)).toBe(0);
    expect(memory.readU64(0xa008)).toBe(0);
  });
});

describe("state of every vCPU", () => {
  it("has fast strings on and all SYSCALL and SYSENTER registers at 0", () => {
    expect(BOOT_MSRS).toHaveLength(10);
    const nonZero = BOOT_MSRS.filter((msr) => msr.data !== 0n);
    expect(nonZero).toEqual([{ index: 0x1a0, data: 1n }]);
    expect(BOOT_FPU).toEqual({ fcw: 0x37f, mxcsr: 0x1f80 });
  });

  it("delivers LINT0 as ExtINT and LINT1 as NMI, and changes nothing else of the APIC", () => {
    const lapic = new Uint8Array(1024).fill(0xff);
    setLapicPins(lapic);
    const view = new DataView(lapic.buffer);
    expect(view.getUint32(0x350, true)).toBe(0xffff_ffff);
    expect(view.getUint32(0x360, true)).toBe(0xffff_fcff);
    const zero = new Uint8Array(1024);
    setLapicPins(zero);
    expect(new DataView(zero.buffer).getUint32(0x350, true)).toBe(0x700);
    expect(new DataView(zero.buffer).getUint32(0x360, true)).toBe(0x400);
    expect(zero.filter((byte) => byte !== 0)).toHaveLength(2);
  });
});
