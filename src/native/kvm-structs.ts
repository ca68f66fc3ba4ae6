/**
 * KVM's structures as tables of field, offset and width, with readers and writers made from the
 * tables.
 *
 * The numbers are those of `struct kvm_regs` and its neighbours in Linux's
 * arch/x86/include/uapi/asm/kvm.h (an ABI that does not change). The C core asserts the same
 * numbers and a spec compares both. All fields are little-endian. A u64 is a bigint here: this is
 * the control path (start, snapshot, debugging), where a register must be exact. Writing changes
 * only the fields that are given.
 */

/** One scalar or array of scalars inside a structure. */
export interface StructField {
  /** Bytes from the start of the structure. */
  readonly offset: number;
  /** Bytes of one element: 1, 2, 4 or 8. */
  readonly width: 1 | 2 | 4 | 8;
  /**
   * Number of elements; absent for a scalar. An array's value is an array of its elements' values.
   */
  readonly count?: number;
}

/** A structure inside a structure. */
export interface NestedField {
  readonly offset: number;
  readonly struct: Struct<FieldTable>;
}

export type FieldTable = Readonly<Record<string, StructField | NestedField>>;

type Scalar<Width> = Width extends 8 ? bigint : number;
type FieldValue<F> = F extends { struct: Struct<infer T> }
  ? StructRecord<T>
  : F extends { width: infer W; count: number }
    ? readonly Scalar<W>[]
    : F extends { width: infer W }
      ? Scalar<W>
      : never;

/** The plain record of a structure: numbers, bigints for u64 fields, arrays, nested records. */
export type StructRecord<T extends FieldTable> = { readonly [K in keyof T]: FieldValue<T[K]> };

/** A structure's layout, and its reader and writer. */
export class Struct<T extends FieldTable> {
  /**
   * @param name - the C structure's tag
   * @param sizeBytes - `sizeof` in C
   * @param fields - every field but padding
   */
  constructor(
    readonly name: string,
    readonly sizeBytes: number,
    readonly fields: T,
  ) {}

  /** A zeroed structure. */
  allocate(): Uint8Array {
    return new Uint8Array(this.sizeBytes);
  }

  /** Reads the structure at `offset` of `bytes`. RangeError if it does not fit. */
  read(bytes: Uint8Array, offset = 0): StructRecord<T> {
    const view = new DataView(bytes.buffer, bytes.byteOffset + offset, this.sizeBytes);
    const record: Record<string, unknown> = {};
    for (const [name, field] of Object.entries(this.fields)) {
      if ("struct" in field) record[name] = field.struct.read(bytes, offset + field.offset);
      else if (field.count === undefined) record[name] = getScalar(view, field.offset, field.width);
      else {
        record[name] = Array.from({ length: field.count }, (_, i) =>
          getScalar(view, field.offset + i * field.width, field.width),
        );
      }
    }
    return record as StructRecord<T>;
  }

  /** Writes the given fields at `offset` of `bytes`; the others stay as they are. */
  write(bytes: Uint8Array, record: Partial<StructRecord<T>>, offset = 0): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset + offset, this.sizeBytes);
    for (const [name, value] of Object.entries(record)) {
      const field = this.fields[name];
      if (field === undefined) throw new TypeError(`struct ${this.name} has no field ${name}`);
      if ("struct" in field) {
        field.struct.write(bytes, value as StructRecord<FieldTable>, offset + field.offset);
      } else if (field.count === undefined) {
        setScalar(view, field.offset, field.width, value as number | bigint);
      } else {
        const elements = value as unknown as readonly (number | bigint)[];
        if (elements.length !== field.count) {
          throw new TypeError(`struct ${this.name}.${name} has ${field.count} elements`);
        }
        elements.forEach((element, i) => {
          setScalar(view, field.offset + i * field.width, field.width, element);
        });
      }
    }
  }

  /** A fresh structure with the given fields, all else zero. */
  encode(record: Partial<StructRecord<T>>): Uint8Array {
    const bytes = this.allocate();
    this.write(bytes, record);
    return bytes;
  }
}

function getScalar(view: DataView, offset: number, width: StructField["width"]): number | bigint {
  switch (width) {
    case 1:
      return view.getUint8(offset);
    case 2:
      return view.getUint16(offset, true);
    case 4:
      return view.getUint32(offset, true);
    case 8:
      return view.getBigUint64(offset, true);
  }
}

function setScalar(
  view: DataView,
  offset: number,
  width: StructField["width"],
  value: number | bigint,
): void {
  if (width === 8) view.setBigUint64(offset, value as bigint, true);
  else if (width === 4) view.setUint32(offset, value as number, true);
  else if (width === 2) view.setUint16(offset, value as number, true);
  else view.setUint8(offset, value as number);
}

/** General-purpose registers, 144 bytes. */
export const KVM_REGS = new Struct("kvm_regs", 144, {
  rax: { offset: 0, width: 8 },
  rbx: { offset: 8, width: 8 },
  rcx: { offset: 16, width: 8 },
  rdx: { offset: 24, width: 8 },
  rsi: { offset: 32, width: 8 },
  rdi: { offset: 40, width: 8 },
  rsp: { offset: 48, width: 8 },
  rbp: { offset: 56, width: 8 },
  r8: { offset: 64, width: 8 },
  r9: { offset: 72, width: 8 },
  r10: { offset: 80, width: 8 },
  r11: { offset: 88, width: 8 },
  r12: { offset: 96, width: 8 },
  r13: { offset: 104, width: 8 },
  r14: { offset: 112, width: 8 },
  r15: { offset: 120, width: 8 },
  rip: { offset: 128, width: 8 },
  rflags: { offset: 136, width: 8 },
} as const);
export type KvmRegs = StructRecord<typeof KVM_REGS.fields>;

/** A segment register with its hidden part, 24 bytes. */
export const KVM_SEGMENT = new Struct("kvm_segment", 24, {
  base: { offset: 0, width: 8 },
  limit: { offset: 8, width: 4 },
  selector: { offset: 12, width: 2 },
  type: { offset: 14, width: 1 },
  present: { offset: 15, width: 1 },
  dpl: { offset: 16, width: 1 },
  db: { offset: 17, width: 1 },
  s: { offset: 18, width: 1 },
  l: { offset: 19, width: 1 },
  g: { offset: 20, width: 1 },
  avl: { offset: 21, width: 1 },
  unusable: { offset: 22, width: 1 },
} as const);
export type KvmSegment = StructRecord<typeof KVM_SEGMENT.fields>;

/** GDTR or IDTR, 16 bytes. */
export const KVM_DTABLE = new Struct("kvm_dtable", 16, {
  base: { offset: 0, width: 8 },
  limit: { offset: 8, width: 2 },
} as const);
export type KvmDtable = StructRecord<typeof KVM_DTABLE.fields>;

/** Segments, descriptor tables and control registers, 312 bytes. */
export const KVM_SREGS = new Struct("kvm_sregs", 312, {
  cs: { offset: 0, struct: KVM_SEGMENT },
  ds: { offset: 24, struct: KVM_SEGMENT },
  es: { offset: 48, struct: KVM_SEGMENT },
  fs: { offset: 72, struct: KVM_SEGMENT },
  gs: { offset: 96, struct: KVM_SEGMENT },
  ss: { offset: 120, struct: KVM_SEGMENT },
  tr: { offset: 144, struct: KVM_SEGMENT },
  ldt: { offset: 168, struct: KVM_SEGMENT },
  gdt: { offset: 192, struct: KVM_DTABLE },
  idt: { offset: 208, struct: KVM_DTABLE },
  cr0: { offset: 224, width: 8 },
  cr2: { offset: 232, width: 8 },
  cr3: { offset: 240, width: 8 },
  cr4: { offset: 248, width: 8 },
  cr8: { offset: 256, width: 8 },
  efer: { offset: 264, width: 8 },
  apic_base: { offset: 272, width: 8 },
  interrupt_bitmap: { offset: 280, width: 8, count: 4 },
} as const);
export type KvmSregs = StructRecord<typeof KVM_SREGS.fields>;

/** One CPUID leaf, 40 bytes: ten u32, of which the last three are padding. */
export const KVM_CPUID_ENTRY2 = new Struct("kvm_cpuid_entry2", 40, {
  function: { offset: 0, width: 4 },
  index: { offset: 4, width: 4 },
  flags: { offset: 8, width: 4 },
  eax: { offset: 12, width: 4 },
  ebx: { offset: 16, width: 4 },
  ecx: { offset: 20, width: 4 },
  edx: { offset: 24, width: 4 },
} as const);

/** One model-specific register, 16 bytes. */
export const KVM_MSR_ENTRY = new Struct("kvm_msr_entry", 16, {
  index: { offset: 0, width: 4 },
  data: { offset: 8, width: 8 },
} as const);
export type KvmMsrEntry = StructRecord<typeof KVM_MSR_ENTRY.fields>;

/** x87 and SSE state, 416 bytes. */
export const KVM_FPU = new Struct("kvm_fpu", 416, {
  fpr: { offset: 0, width: 1, count: 128 },
  fcw: { offset: 128, width: 2 },
  fsw: { offset: 130, width: 2 },
  ftwx: { offset: 132, width: 1 },
  last_opcode: { offset: 134, width: 2 },
  last_ip: { offset: 136, width: 8 },
  last_dp: { offset: 144, width: 8 },
  xmm: { offset: 152, width: 1, count: 256 },
  mxcsr: { offset: 408, width: 4 },
} as const);
export type KvmFpu = StructRecord<typeof KVM_FPU.fields>;

/** All of them, for the comparison with the C core. */
export const KVM_STRUCTS = [
  KVM_REGS,
  KVM_SEGMENT,
  KVM_DTABLE,
  KVM_SREGS,
  KVM_CPUID_ENTRY2,
  KVM_MSR_ENTRY,
  KVM_FPU,
] as const;
