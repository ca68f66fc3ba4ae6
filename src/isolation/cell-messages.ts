/**
 * What a server and a cell say to each other. A call is answered by a reply with its number, in any order; what
 * happens in the cell comes as it happens. cell-checks.ts checks what a cell says.
 */
import type { CheckedConfig } from "../actors/config.js";
import type { CheckedInterface } from "../actors/config-net.js";
import type { ExitWatchOptions } from "../actors/exit-filter.js";
import type { MicroVmEvent, MicroVmExit } from "../actors/messages.js";
import type { TokenBucketConfig } from "../devices/rate-limiter.js";
import type { ErrorRecord } from "../errors.js";

/** What the open files are for (actors/given-files.ts), in the order in which they were sent before the call. */
export type SentFiles = readonly string[];

/** A configuration as JSON: an address is no array of bytes there. */
export type SentConfig = Omit<CheckedConfig, "networkInterfaces"> & {
  readonly networkInterfaces: readonly (Omit<CheckedInterface, "mac"> & { mac: number[] })[];
};

/** For a call. */
export function sentConfig(config: CheckedConfig): SentConfig {
  const networkInterfaces = config.networkInterfaces.map((one) => ({ ...one, mac: [...one.mac] }));
  return { ...config, networkInterfaces };
}

/** What was sent. */
export function receivedConfig(sent: SentConfig): CheckedConfig {
  const networkInterfaces = sent.networkInterfaces.map((one) => ({
    ...one,
    mac: Uint8Array.from(one.mac),
  }));
  return { ...sent, networkInterfaces };
}

/** The calls: what each is given. `vm` is the server's number of a microVM. */
export interface CellCalls {
  /** Console and lifecycle from its making on; `console`: the stream that carries its bytes. */
  create: { config: SentConfig; files: SentFiles; console: number };
  start: Record<string, never>;
  pause: Record<string, never>;
  resume: Record<string, never>;
  kill: Record<string, never>;
  ctrlAltDelete: Record<string, never>;
  metrics: Record<string, never>;
  updateDrive: { drive: string; change: object; files: SentFiles };
  updateInterface: { id: string; change: object };
  limitPmem: { id: string; change: object };
  limitEntropy: { change: object };
  limitSerial: { bucket: TokenBucketConfig };
  metadata: { data: object };
  balloon: { operation: string; value?: number | boolean };
  plugMemory: { requestedSizeMib: number };
  pluggedMemory: Record<string, never>;
  agent: { stream: number };
  exits: { stream: number; options: ExitWatchOptions };
  rateLimits: { stream: number };
}

export type CellCall = keyof CellCalls;

/** Characters of an error's text, and of its data as JSON, that a server takes. */
export const ERROR_TEXT_MAX = 4096;
export const ERROR_DATA_MAX = 4096;

/** An error as the server takes it: it may repeat what a client sent, of any length. What is behind it stays here. */
export function sentError({ code, message, hint, data }: ErrorRecord): ErrorRecord {
  const cut = (text: string) =>
    text.length <= ERROR_TEXT_MAX ? text : `${text.slice(0, ERROR_TEXT_MAX - 1)}…`;
  const isShort = data !== undefined && JSON.stringify(data).length <= ERROR_DATA_MAX;
  return {
    code,
    message: cut(message),
    ...(hint === undefined ? {} : { hint: cut(hint) }),
    ...(isShort ? { data } : {}),
  };
}

/** From the server. */
export interface CallMessage {
  readonly call: number;
  readonly vm: number;
  readonly method: CellCall;
  readonly args: unknown;
}

/** From the cell. */
export type CellMessage =
  | { readonly hello: 1 }
  | { readonly reply: number; readonly value?: unknown; readonly error?: ErrorRecord }
  | { readonly vm: number; readonly event: MicroVmEvent }
  | { readonly vm: number; readonly exit: MicroVmExit; readonly metrics: unknown };
