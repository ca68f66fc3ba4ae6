/**
 * Exits as the objects that JSON is written from. The objects are used again for the next batch: they are
 * written at once, by whoever asked for them.
 */
import type { Static } from "typebox";
import {
  ACCESS_SIZE_MASK,
  ACCESS_WRITE,
  EXIT_KINDS,
  type ExitBatch,
  NONE,
} from "../../actors/exit-batch.js";
import type { Exit } from "./exit-schemas.js";

type Row = Static<typeof Exit>;

const HIGH_WORD = 2 ** 32;

const pool: Row[] = [];

function newRow(): Row {
  return {
    ...{ kind: "", vcpu: null, sequence: 0, device: null, address: "", sizeBytes: 0 },
    ...{ direction: null, data: "", count: 0, atNs: 0, guestNs: 0, hostNs: 0 },
  };
}

/** All exits of a batch; valid until the next call. */
export function exitRows(batch: ExitBatch): Row[] {
  while (pool.length < batch.length) pool.push(newRow());
  for (let i = 0; i < batch.length; i++) fillRow(pool[i], batch, i);
  return pool.slice(0, batch.length);
}

function fillRow(row: Row, batch: ExitBatch, i: number): void {
  const access = batch.access[i];
  const vcpu = batch.vcpu[i];
  row.kind = EXIT_KINDS[batch.kind[i]] ?? "other";
  row.vcpu = vcpu === NONE ? null : vcpu;
  row.sequence = batch.sequence[i];
  row.device = batch.devices[batch.device[i]] ?? null;
  row.address = hexAddress(batch.address[i]);
  row.sizeBytes = access & ACCESS_SIZE_MASK;
  row.direction = row.sizeBytes === 0 ? null : (access & ACCESS_WRITE) !== 0 ? "write" : "read";
  row.data = hex64(batch.dataWords, i);
  row.count = batch.count[i];
  if (batch.ripWords === undefined) delete row.rip;
  else row.rip = hex64(batch.ripWords, i);
  row.atNs = batch.atNs[i];
  row.guestNs = batch.guestNs[i];
  row.hostNs = batch.hostNs[i];
}

/** Two digits of each byte: numbers to other bases than ten are slow in V8. */
const BYTES = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
/** Of the same, without a leading zero. */
const SHORT_BYTES = Array.from({ length: 256 }, (_, byte) => byte.toString(16));

/** A 64-bit value, low word first, without a BigInt. */
function hex64(words: Uint32Array, i: number): string {
  const low = words[2 * i];
  const high = words[2 * i + 1];
  return high === 0 ? `0x${hex32(low)}` : `0x${hex32(high)}${eightDigits(low)}`;
}

function eightDigits(value: number): string {
  return (
    BYTES[value >>> 24] +
    BYTES[(value >>> 16) & 0xff] +
    BYTES[(value >>> 8) & 0xff] +
    BYTES[value & 0xff]
  );
}

function hex32(value: number): string {
  if (value < 0x100) return SHORT_BYTES[value];
  if (value < 0x10000) return SHORT_BYTES[value >>> 8] + BYTES[value & 0xff];
  if (value < 0x1000000) {
    return SHORT_BYTES[value >>> 16] + BYTES[(value >>> 8) & 0xff] + BYTES[value & 0xff];
  }
  return (
    SHORT_BYTES[value >>> 24] +
    BYTES[(value >>> 16) & 0xff] +
    BYTES[(value >>> 8) & 0xff] +
    BYTES[value & 0xff]
  );
}

/** An address, as accesses repeat: most are the one before. */
let lastAddress = 0;
let lastAddressHex = "0x0";

function hexAddress(address: number): string {
  if (address !== lastAddress) {
    lastAddress = address;
    const high = Math.floor(address / HIGH_WORD);
    lastAddressHex =
      high === 0 ? `0x${hex32(address)}` : `0x${hex32(high)}${eightDigits(address % HIGH_WORD)}`;
  }
  return lastAddressHex;
}
