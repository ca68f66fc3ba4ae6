import { execFileSync } from "node:child_process";
import {
  existsSync,
  ftruncateSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  GUEST_PAGES,
  type NativeGuestMapping,
  type NativeImageFile,
  native,
} from "../../src/native/binding.js";
import { GuestMemory, type MemoryRegion } from "../../src/native/guest-memory.js";
import { GIB, MIB, PAGE_BYTES } from "../../src/units.js";
import { heldBytes } from "../support/held-memory.js";

/** 7 GiB of RAM around the gap below 4 GiB, as a microVM of that size has it. */
const SEVEN_GIB: readonly MemoryRegion[] = [
  { start: 0, sizeBytes: 3 * GIB },
  { start: 4 * GIB, sizeBytes: 4 * GIB },
];

function withMapping(
  regions: readonly MemoryRegion[],
  use: (memory: GuestMemory, mapping: NativeGuestMapping) => void,
): void {
  const mapping = new (native().GuestMapping)(regions);
  try {
    use(new GuestMemory(mapping.buffer, regions), mapping);
  } finally {
    mapping.close();
  }
}

describe("GuestMapping of 7 GiB", () => {
  it("starts as zeros and keeps what is written, at every edge", () => {
    withMapping(SEVEN_GIB, (memory) => {
      expect(memory.end).toBe(8 * GIB);
      expect(memory.sizeBytes).toBe(7 * GIB);
      const edges = [0, 3 * GIB - 4, 4 * GIB, 6 * GIB, 8 * GIB - 4];
      for (const [index, gpa] of edges.entries()) {
        expect(memory.readU32(gpa)).toBe(0);
        memory.writeU32(gpa, 0xa0 + index);
      }
      expect(edges.map((gpa) => memory.readU32(gpa))).toEqual([0xa0, 0xa1, 0xa2, 0xa3, 0xa4]);
    });
  });

  it("moves bytes right up to the end of each region", () => {
    withMapping(SEVEN_GIB, (memory) => {
      for (const end of [3 * GIB, 8 * GIB]) {
        const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i);
        memory.write(end - 5000, bytes);
        expect(memory.read(end - 5000, 5000)).toEqual(bytes);
        expect(() => memory.write(end - 4999, bytes)).toThrow("no guest memory");
      }
    });
  });

  it("is one memory for all views, in any number of buffers", () => {
    withMapping(SEVEN_GIB, (memory, mapping) => {
      const other = new GuestMemory(mapping.buffer, SEVEN_GIB);
      memory.writeU64(7 * GIB, 0x1234_5678_9abc);
      expect(other.readU64(7 * GIB)).toBe(0x1234_5678_9abc);
      expect(other.ring16(7 * GIB, 8)[1]).toBe(0x5678);
    });
  });

  it("covers 4 GiB and more with slices that meet at the multiples of 4 GiB", () => {
    const regions = [
      { start: 0, sizeBytes: 3 * GIB },
      { start: 4 * GIB, sizeBytes: 6 * GIB },
    ];
    withMapping(regions, (memory) => {
      const parts = memory.slices(4 * GIB, 6 * GIB);
      expect(parts.map((part) => part.length)).toEqual([4 * GIB, 2 * GIB]);
      const across = memory.slices(8 * GIB - 3, 5);
      expect(across.map((part) => part.length)).toEqual([3, 2]);
      memory.write(8 * GIB - 3, Uint8Array.of(1, 2, 3, 4, 5));
      expect([...parts[0].subarray(-3), ...parts[1].subarray(0, 2)]).toEqual([1, 2, 3, 4, 5]);
    });
  });

  it("costs nothing until it is touched, and gives everything back when it is closed", () => {
    const before = heldBytes();
    withMapping(SEVEN_GIB, (memory, mapping) => {
      expect(heldBytes() - before).toBeLessThan(1 * MIB);
      memory.fill(5 * GIB, 64 * MIB, 0xff);
      expect(heldBytes() - before).toBeGreaterThan(63 * MIB);
      mapping.close();
      expect(heldBytes() - before).toBeLessThan(1 * MIB);
    });
  });

  it("reads as zeros, through the views from before, once it is closed", () => {
    withMapping(SEVEN_GIB, (memory, mapping) => {
      const slice = memory.slice(4 * GIB, PAGE_BYTES);
      memory.fill(4 * GIB, PAGE_BYTES, 0xff);
      mapping.close();
      mapping.close();
      expect(memory.readU32(4 * GIB)).toBe(0);
      expect(slice.every((byte) => byte === 0)).toBe(true);
      memory.writeU32(4 * GIB, 1);
      expect(slice[0]).toBe(1);
    });
  });
});

describe("GuestMapping with regions that make no sense", () => {
  it.each<[string, MemoryRegion[]]>([
    ["no region", []],
    ["a negative size", [{ start: 0, sizeBytes: -PAGE_BYTES }]],
    ["no size", [{ start: 0, sizeBytes: 0 }]],
    ["a size that is no number", [{ start: 0, sizeBytes: Number.NaN }]],
    ["part of a page", [{ start: 0, sizeBytes: PAGE_BYTES + 1 }]],
    ["a negative address", [{ start: -PAGE_BYTES, sizeBytes: 2 * PAGE_BYTES }]],
    ["an infinite size", [{ start: 0, sizeBytes: Number.POSITIVE_INFINITY }]],
    [
      "regions that overlap",
      [
        { start: 0, sizeBytes: 4 * PAGE_BYTES },
        { start: 2 * PAGE_BYTES, sizeBytes: 4 * PAGE_BYTES },
      ],
    ],
    [
      "descending regions",
      [
        { start: 8 * PAGE_BYTES, sizeBytes: PAGE_BYTES },
        { start: 0, sizeBytes: PAGE_BYTES },
      ],
    ],
  ])("refuses %s and maps nothing", (_, regions) => {
    expect(() => new (native().GuestMapping)(regions)).toThrow(TypeError);
  });

  it("names the system call and errno when the host cannot give that much", () => {
    const regions = [{ start: 0, sizeBytes: 2 ** 52 }];
    expect(() => new (native().GuestMapping)(regions)).toThrow(
      expect.objectContaining({
        code: expect.stringMatching(/^E[A-Z]+$/),
        syscall: expect.any(String),
      }),
    );
  });
});

describe("ImageFile", () => {
  const REGIONS = [{ start: 0, sizeBytes: MIB }];

  function image(sizeBytes: number): NativeImageFile {
    const file = new (native().ImageFile)(sizeBytes);
    writeSync(file.fd, Buffer.alloc(sizeBytes, 9));
    file.seal();
    return file;
  }

  it("does not change any more once it is sealed", () => {
    const file = image(PAGE_BYTES);
    expect(() => writeSync(file.fd, "x", 0)).toThrow("EPERM");
    expect(() => ftruncateSync(file.fd, 0)).toThrow("EPERM");
    file.close();
  });

  it("is mapped in whole pages inside a region, and nowhere else", () => {
    withMapping(REGIONS, (memory, mapping) => {
      const file = image(2 * PAGE_BYTES);
      for (const gpa of [1, MIB - PAGE_BYTES, MIB, 2 ** 40]) {
        expect(() => mapping.mapImage(file, gpa)).toThrow(
          expect.objectContaining({ code: "EINVAL" }),
        );
      }
      expect(() => mapping.mapImage(file, -PAGE_BYTES)).toThrow(TypeError);
      mapping.mapImage(file, MIB - 2 * PAGE_BYTES);
      file.close();
      expect(memory.readU8(MIB - 1)).toBe(9);
      expect(memory.readU8(MIB - 2 * PAGE_BYTES - 1)).toBe(0);
      mapping.close();
      expect(memory.readU8(MIB - 1)).toBe(0);
    });
  });

  it("is not mapped before it is sealed, nor into memory that is closed", () => {
    const open = new (native().ImageFile)(PAGE_BYTES);
    const sealed = image(PAGE_BYTES);
    withMapping(REGIONS, (_, mapping) => {
      expect(() => mapping.mapImage(open, 0)).toThrow(TypeError);
      mapping.close();
      expect(() => mapping.mapImage(sealed, 0)).toThrow(
        expect.objectContaining({ code: "EINVAL" }),
      );
    });
    open.close();
    sealed.close();
  });
});

describe("GuestMapping.reclaim around a kernel's image", () => {
  it("gives back what lies before, below and after it, and has the image as it was", () => {
    const regions = [{ start: 0, sizeBytes: MIB }];
    withMapping(regions, (memory, mapping) => {
      const file = new (native().ImageFile)(16 * PAGE_BYTES);
      writeSync(file.fd, Buffer.alloc(16 * PAGE_BYTES, 9));
      file.seal();
      const [start, end] = [MIB / 4, MIB / 4 + 16 * PAGE_BYTES];
      mapping.mapImage(file, start);
      file.close();
      const before = heldBytes();
      const ranges = [
        [0, start],
        [start - PAGE_BYTES, start + PAGE_BYTES],
        [start + PAGE_BYTES, end - PAGE_BYTES],
        [end - PAGE_BYTES, end + PAGE_BYTES],
        [end, MIB],
        [0, MIB],
      ];
      for (const [from, to] of ranges) {
        memory.fill(0, MIB, 5);
        const bytes = to - from;
        expect(mapping.reclaim(Float64Array.of(from), Float64Array.of(bytes), 1)).toBe(bytes);
        const expected = Buffer.alloc(MIB, 5).fill(0, from, to);
        expected.fill(9, Math.max(from, start), Math.max(from, start, Math.min(to, end)));
        expect(expected.equals(memory.read(0, MIB))).toBe(true);
      }
      mapping.reclaim(Float64Array.of(0), Float64Array.of(MIB), 1);
      expect(heldBytes() - before).toBeLessThan(MIB / 4);
    });
  });

  const cc = "/usr/bin/cc";
  it.runIf(existsSync(cc))(
    "asks the host once for what lies on each side of it, however large (needs a C compiler)",
    () => {
      const folder = mkdtempSync(join(tmpdir(), "estalo-madvise-"));
      try {
        const [source, library] = [join(folder, "count.c"), join(folder, "count.so")];
        writeFileSync(
          source,
          `#define _GNU_SOURCE
          #include <stdio.h>
          #include <sys/mman.h>
          #include <sys/syscall.h>
          #include <unistd.h>
          static int removals;
          int madvise(void* at, size_t bytes, int advice) {
            removals += advice == MADV_REMOVE;
            return syscall(SYS_madvise, at, bytes, advice);
          }
          __attribute__((destructor)) static void tell(void) { dprintf(1, "%d\\n", removals); }`,
        );
        execFileSync(cc, ["-shared", "-fPIC", source, "-o", library]);
        const addon = new URL("../../dist/estalo.node", import.meta.url).pathname;
        const program = `const { GuestMapping, ImageFile } = require(${JSON.stringify(addon)});
          const mapping = new GuestMapping([{ start: 0, sizeBytes: ${64 * MIB} }]);
          const image = new ImageFile(${64 * PAGE_BYTES});
          image.seal();
          mapping.mapImage(image, ${MIB});
          mapping.reclaim(Float64Array.of(0), Float64Array.of(${64 * MIB}), 1);`;
        const env = { ...process.env, LD_PRELOAD: library };
        const said = execFileSync(process.execPath, ["-e", program], { env, encoding: "utf8" });
        expect(said).toBe("2\n");
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );
});

describe("huge pages of guest memory", () => {
  const BYTES = 8 * MIB;
  const regions = [{ start: 0, sizeBytes: BYTES }];
  const setting = (file: string) => {
    const path = `/sys/kernel/mm/${file}`;
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  };
  const isTransparent = /\[(always|madvise)\]/.test(setting("transparent_hugepage/enabled"));

  it.runIf(isTransparent)(
    "are there where they were asked for (needs transparent huge pages)",
    () => {
      const held = () => {
        const mapping = new (native().GuestMapping)(regions, GUEST_PAGES.transparent);
        const memory = new GuestMemory(mapping.buffer, regions);
        const before = heldBytes();
        for (let gpa = 0; gpa < BYTES; gpa += 2 * MIB) memory.writeU8(gpa, 1);
        const bytes = heldBytes() - before;
        mapping.close();
        return bytes;
      };
      // A touch of one brings two megabytes, where the host has them at hand.
      expect(held()).toBeGreaterThanOrEqual(2 * MIB);
    },
  );

  it("are all reserved ones, or none: nothing is left to a touch", () => {
    const free = Number(setting("hugepages/hugepages-2048kB/free_hugepages"));
    const tooLarge = [{ start: 0, sizeBytes: (free + 1) * 2 * MIB }];
    expect(() => new (native().GuestMapping)(tooLarge, GUEST_PAGES.reserved)).toThrow(
      expect.objectContaining({ code: "ENOMEM" }),
    );
  });
});
