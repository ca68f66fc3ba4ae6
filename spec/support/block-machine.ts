/** A block device on an in-memory disk, with a driver that knows how requests are framed. */
import { VirtioBlock } from "../../src/devices/virtio/block.js";
import * as regs from "../../src/devices/virtio/block.regs.js";
import type { BlockOptions } from "../../src/devices/virtio/block-config.js";
import { KIB, MIB } from "../../src/units.js";
import { createMemory } from "./fake-memory.js";
import { MemoryDisk, type MemoryDiskOptions } from "./memory-disk.js";
import type { RingDriver, Segment } from "./ring-driver.js";
import { VirtioMachine } from "./virtio-machine.js";

export const DISK_BYTES = 64 * KIB;
/** Where specs put their data. */
export const DATA = 256 * KIB;

/** 1 MiB of memory, a disk of 64 KiB, one queue of 256. */
export class BlockMachine extends VirtioMachine<VirtioBlock> {
  readonly disk: MemoryDisk;
  ring!: RingDriver;
  #next = 128 * KIB;

  constructor(
    disk: MemoryDiskOptions = {},
    options: Partial<BlockOptions> = {},
    memory = createMemory(MIB),
  ) {
    const backend = new MemoryDisk(memory, DISK_BYTES, disk);
    super(memory, (host) => new VirtioBlock(host, { backend, cacheType: "Writeback", ...options }));
    this.disk = backend;
  }

  static started(disk: MemoryDiskOptions = {}, options: Partial<BlockOptions> = {}): BlockMachine {
    const m = new BlockMachine(disk, options);
    m.ring = m.start();
    return m;
  }

  /** Offers a request in one header, the data as given and one status descriptor. */
  request(type: number, sector: number, ...data: Segment[]): { head: number; status: number } {
    const header = this.#next;
    const status = header + regs.HEADER_BYTES;
    this.#next += 32;
    this.memory.writeU32(header, type);
    this.memory.writeU64(header + 8, sector);
    this.memory.writeU8(status, 0xaa);
    const framed = [
      { address: header, length: regs.HEADER_BYTES },
      ...data,
      { address: status, length: 1, writable: true },
    ];
    return { head: this.ring.add(...framed), status };
  }

  /** Offers, rings, and returns what came back. */
  run(type: number, sector: number, ...data: Segment[]): { status: number; length: number } {
    const { status } = this.request(type, sector, ...data);
    this.kick();
    const [used] = this.ring.takeUsed();
    return { status: this.memory.readU8(status), length: used.length };
  }

  /** Lays ranges of a DISCARD or WRITE_ZEROES into memory. */
  ranges(...ranges: [sector: number, sectors: number, flags: number][]): Segment {
    for (const [index, [sector, sectors, flags]] of ranges.entries()) {
      const at = DATA + index * regs.RANGE_BYTES;
      this.memory.writeU64(at, sector);
      this.memory.writeU32(at + 8, sectors);
      this.memory.writeU32(at + 12, flags);
    }
    return { address: DATA, length: ranges.length * regs.RANGE_BYTES };
  }
}

/** A segment that the device reads, or writes. */
export const out = (length: number, address = DATA): Segment => ({ address, length });
export const into = (length: number, address = DATA): Segment => ({
  address,
  length,
  writable: true,
});
