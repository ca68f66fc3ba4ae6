/** Runs a seccomp filter's program as the kernel does: classic BPF over struct seccomp_data. */

export const X86_64 = 0xc000_003e;

/** The program's answer, a SECCOMP_RET_* word. */
export function runFilter(
  program: Uint8Array,
  syscall: number,
  args: readonly bigint[] = [],
  arch = X86_64,
): number {
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, syscall, true);
  data.setUint32(4, arch, true);
  args.forEach((value, index) => {
    data.setBigUint64(16 + 8 * index, value, true);
  });
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength);
  let accumulator = 0;
  for (let place = 0; ; place++) {
    // Reading past the end throws: no program may run out.
    const operation = code.getUint16(place * 8, true);
    const [whenTrue, whenFalse] = [code.getUint8(place * 8 + 2), code.getUint8(place * 8 + 3)];
    const k = code.getUint32(place * 8 + 4, true);
    const jump = (holds: boolean) => {
      place += holds ? whenTrue : whenFalse;
    };
    if (operation === 0x20) accumulator = data.getUint32(k, true);
    else if (operation === 0x54) accumulator = (accumulator & k) >>> 0;
    else if (operation === 0x05) place += k;
    else if (operation === 0x15) jump(accumulator === k);
    else if (operation === 0x25) jump(accumulator > k);
    else if (operation === 0x35) jump(accumulator >= k);
    else if (operation === 0x06) return k;
    else throw new Error(`no such instruction: ${operation}`);
  }
}
