/**
 * One operation of door 1: its description for OpenAPI, when it may be called, what counts it, and what does it.
 */
import type { RouteSpec } from "../route.js";
import type { ApiCounters } from "./api-counters.js";
import type { FirecrackerLog } from "./log.js";
import { Fault as FaultSchema } from "./schemas.js";
import type { FirecrackerTarget } from "./target.js";

/** What an operation is given; its body and id are checked. */
export interface OperationCall {
  readonly target: FirecrackerTarget;
  readonly body: unknown;
  /** The id in the path; empty where there is none. */
  readonly id: string;
  readonly log: FirecrackerLog;
  readonly counters: ApiCounters;
  /** Marks the reply with `Deprecation: true` and says so in the log. */
  deprecated(what: string): void;
}

/** See the file's header. */
export interface Operation extends RouteSpec {
  /** Before the microVM is started only, after it only, or whenever. */
  readonly when: "before boot" | "after boot" | "always";
  /** The field of the body that repeats the path's id, and how a difference is told. */
  readonly id?: {
    readonly field: string;
    readonly mismatch: (path: string, body: string) => string;
  };
  /** Name in the metrics `get_`, `put_` or `patch_api_requests`, without `_count` and `_fails`. */
  readonly counter?: string;
  /** The 200 reply's value; `undefined`: 204. Raises a Fault or an EstaloError. */
  run(call: OperationCall): unknown;
}

/** Replies of an operation that answers nothing. */
export const NO_CONTENT = {
  204: { description: "Done." },
  400: { description: "Refused.", schema: FaultSchema },
} as const;
