/**
 * Shared words of one virtio-mmio device: all that its fronts and its back know of each other.
 *
 *     word  1 …             identity and offers      back, before any vCPU runs
 *     word  9 …             what the driver chose    front; cleared by whoever completes a reset
 *     STATUS, INTERRUPT_STATUS                       both, by Atomics only
 *     RESET_REQUESTED       front    RESET_ACKNOWLEDGED   back
 *     queue 0 … queue 16    `QUEUE_WORDS` each: maximum by the back, the rest by the front
 *     configuration         two copies of 256 bytes; the generation's low bit names the current one
 *
 * A change of configuration writes the other copy and then bumps the generation: a driver that
 * reads the same generation before and after has read one copy only (VirtIO 1.2 § 4.2.2.2).
 */
import { FIRST_STATE_WORD } from "../device.js";
import { CONFIG_BYTES } from "./mmio-transport.regs.js";

/** Most queues a device may have: eight pairs and a control queue, of a network device. */
export const MAX_QUEUES = 17;

export const DEVICE_TYPE_WORD = FIRST_STATE_WORD;
export const OFFERED_LOW_WORD = FIRST_STATE_WORD + 1;
export const OFFERED_HIGH_WORD = FIRST_STATE_WORD + 2;
export const CONFIG_LENGTH_WORD = FIRST_STATE_WORD + 3;
/** Range of configuration space that the driver may write: first byte, and first byte after it. */
export const CONFIG_WRITABLE_START_WORD = FIRST_STATE_WORD + 4;
export const CONFIG_WRITABLE_END_WORD = FIRST_STATE_WORD + 5;

/** What the driver chose. */
export const ACCEPTED_LOW_WORD = FIRST_STATE_WORD + 8;
export const ACCEPTED_HIGH_WORD = FIRST_STATE_WORD + 9;
export const DEVICE_FEATURES_SEL_WORD = FIRST_STATE_WORD + 10;
export const DRIVER_FEATURES_SEL_WORD = FIRST_STATE_WORD + 11;
export const QUEUE_SEL_WORD = FIRST_STATE_WORD + 12;

export const STATUS_WORD = FIRST_STATE_WORD + 13;
export const INTERRUPT_STATUS_WORD = FIRST_STATE_WORD + 14;
/** Resets of a live device asked for and done; they differ while one is under way. */
export const RESET_REQUESTED_WORD = FIRST_STATE_WORD + 15;
export const RESET_ACKNOWLEDGED_WORD = FIRST_STATE_WORD + 16;
/** Bumped by the back; its low bit selects the copy of configuration space. */
export const CONFIG_GENERATION_WORD = FIRST_STATE_WORD + 17;
/** Accesses that broke a rule and were ignored; front writes. */
export const IGNORED_READ_COUNT_WORD = FIRST_STATE_WORD + 18;
export const IGNORED_WRITE_COUNT_WORD = FIRST_STATE_WORD + 19;

/** First word of queue 0. */
export const QUEUES_WORD = FIRST_STATE_WORD + 20;
/** Words of each queue, by these indices. */
export const QUEUE_WORDS = 9;
export const QUEUE_MAX = 0;
export const QUEUE_SIZE = 1;
export const QUEUE_READY = 2;
export const QUEUE_DESC_LOW = 3;
export const QUEUE_DESC_HIGH = 4;
export const QUEUE_DRIVER_LOW = 5;
export const QUEUE_DRIVER_HIGH = 6;
export const QUEUE_DEVICE_LOW = 7;
export const QUEUE_DEVICE_HIGH = 8;

/** First word of the two copies of configuration space. */
export const CONFIG_WORD = QUEUES_WORD + MAX_QUEUES * QUEUE_WORDS;
const CONFIG_WORDS = CONFIG_BYTES / Int32Array.BYTES_PER_ELEMENT;

export const MMIO_TRANSPORT_WORDS = CONFIG_WORD + 2 * CONFIG_WORDS;

/** First word of a queue. */
export function queueWord(queueIndex: number): number {
  return QUEUES_WORD + queueIndex * QUEUE_WORDS;
}

/**
 * Both copies of configuration space as bytes; the copy of generation g starts at `(g & 1) * 256`.
 */
export function configBytes(state: Int32Array): Uint8Array {
  return new Uint8Array(
    state.buffer,
    state.byteOffset + CONFIG_WORD * Int32Array.BYTES_PER_ELEMENT,
    2 * CONFIG_BYTES,
  );
}

/**
 * Forgets all that the driver chose. Called by the side that completes a reset, while the other
 * waits.
 */
export function clearDriverWords(state: Int32Array): void {
  state.fill(0, ACCEPTED_LOW_WORD, STATUS_WORD);
  for (let index = 0; index < MAX_QUEUES; index++) {
    const queue = queueWord(index);
    state.fill(0, queue + QUEUE_SIZE, queue + QUEUE_WORDS);
  }
  Atomics.store(state, INTERRUPT_STATUS_WORD, 0);
  Atomics.store(state, STATUS_WORD, 0);
}

/**
 * A transport in a snapshot: the driver's choices. What the device offers comes from its
 * configuration.
 */
export interface MmioTransportState {
  readonly version: 1;
  readonly deviceType: number;
  readonly status: number;
  readonly interruptStatus: number;
  /** Words ACCEPTED_LOW to QUEUE_SEL. */
  readonly choices: readonly number[];
  /** Words of all queues. */
  readonly queues: readonly number[];
}

/** The record of a transport whose vCPUs and back stand still. */
export function saveMmioTransport(state: Int32Array): MmioTransportState {
  return {
    version: 1,
    deviceType: state[DEVICE_TYPE_WORD],
    status: state[STATUS_WORD],
    interruptStatus: state[INTERRUPT_STATUS_WORD],
    choices: [...state.subarray(ACCEPTED_LOW_WORD, STATUS_WORD)],
    queues: [...state.subarray(QUEUES_WORD, CONFIG_WORD)],
  };
}

/** Writes a record into shared words whose back has published the device. */
export function restoreMmioTransport(state: Int32Array, record: MmioTransportState): void {
  state.set(record.choices.slice(0, STATUS_WORD - ACCEPTED_LOW_WORD), ACCEPTED_LOW_WORD);
  state.set(record.queues.slice(0, CONFIG_WORD - QUEUES_WORD), QUEUES_WORD);
  Atomics.store(state, INTERRUPT_STATUS_WORD, record.interruptStatus);
  Atomics.store(state, STATUS_WORD, record.status);
}
