/**
 * The checks of what callers give a fleet: specs, changes, queries, idempotency keys. What comes out is a
 * private copy, complete and within its ranges.
 */
import { createHash } from "node:crypto";
import { checkConfig, type MicroVmConfig } from "./config.js";
import { boolean, integer, invalid, oneOf, onlyFields } from "./config-checks.js";
import type {
  FleetChange,
  FleetQuery,
  FleetSpec,
  FleetState,
  RestartPolicy,
} from "./fleet-messages.js";

/** Every state, in the order of a life. */
export const FLEET_STATES: readonly FleetState[] = [
  "configured",
  "starting",
  "running",
  "paused",
  "stopping",
  "stopped",
  "failed",
  "lost",
];

/** Labels of a microVM at most. */
const LABELS_MAX = 64;
const LIST_LIMIT_MAX = 1000;
const LIST_LIMIT = 100;
const RETRIES_MAX = 1_000_000;

/** A spec with nothing left open but its names, which the fleet gives. */
export interface CheckedFleetSpec {
  readonly name: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  readonly config: MicroVmConfig;
  readonly restart: RestartPolicy;
  readonly autoRemove: boolean;
  readonly start: boolean;
}

/**
 * The spec with its defaults.
 *
 * @throws ERR_ESTALO_CONFIG_INVALID naming the first field that is wrong, and what `checkConfig` throws
 */
export function checkFleetSpec(spec: FleetSpec): CheckedFleetSpec {
  onlyFields("spec", spec, ["name", "labels", "config", "restart", "autoRemove", "start"]);
  return {
    name: spec.name === undefined ? undefined : checkName(spec.name),
    labels: checkLabels(spec.labels ?? {}),
    config: checkMicroVmConfig(spec.config ?? {}),
    restart: checkRestart(spec.restart ?? { policy: "no" }),
    autoRemove: boolean("autoRemove", spec.autoRemove ?? false),
    start: boolean("start", spec.start ?? true),
  };
}

/** A change of a record; fields that are absent stay as they are. */
export function checkFleetChange(change: FleetChange): FleetChange {
  onlyFields("change", change, ["name", "labels", "restart"]);
  const { name, labels, restart } = change;
  return {
    ...(name === undefined ? {} : { name: checkName(name) }),
    ...(labels === undefined ? {} : { labels: checkLabels(labels) }),
    ...(restart === undefined ? {} : { restart: checkRestart(restart) }),
  };
}

/** A copy of the configuration as the caller gave it, if a microVM could be made of it. */
export function checkMicroVmConfig(config: MicroVmConfig): MicroVmConfig {
  checkConfig({ ...config, kernel: config?.kernel ?? "the default guest's" });
  // Code cannot be kept in a file.
  if (config.devices !== undefined) throw invalid("devices", "none in a fleet", config.devices);
  try {
    return JSON.parse(JSON.stringify(config));
  } catch (error) {
    throw invalid("config", "what JSON can hold", (error as Error).message);
  }
}

/** A query with its defaults. `after`: the ordinal that the page comes after. */
export interface CheckedQuery {
  readonly states: ReadonlySet<FleetState> | undefined;
  readonly name: string | undefined;
  readonly labels: readonly (readonly [string, string])[];
  readonly limit: number;
  readonly after: number;
}

export function checkQuery(query: FleetQuery): CheckedQuery {
  onlyFields("query", query, ["states", "name", "labels", "limit", "after"]);
  const { states, name } = query;
  if (states !== undefined && !Array.isArray(states)) throw invalid("states", "a list", states);
  if (name !== undefined && typeof name !== "string") throw invalid("name", "a string", name);
  const known = states?.map((state) => oneOf("states", state, FLEET_STATES));
  return {
    states: known === undefined ? undefined : new Set(known),
    name,
    labels: Object.entries(checkLabels(query.labels ?? {})),
    limit: integer("limit", query.limit ?? LIST_LIMIT, 1, LIST_LIMIT_MAX),
    after: query.after === undefined ? 0 : ordinalOf(query.after),
  };
}

/** The cursor of a page that ends with this ordinal. */
export function cursorOf(ordinal: number): string {
  return Buffer.from(`o${ordinal}`).toString("base64url");
}

function ordinalOf(cursor: unknown): number {
  const text =
    typeof cursor === "string" ? Buffer.from(cursor, "base64url").toString("latin1") : "";
  const digits = /^o(\d{1,15})$/.exec(text)?.[1];
  if (digits === undefined) throw invalid("after", "the `next` of a page", cursor);
  return Number(digits);
}

/** An idempotency key, 1 to 128 printable ASCII characters. */
export function checkIdempotencyKey(key: unknown): string {
  if (typeof key !== "string" || !/^[\x20-\x7e]{1,128}$/.test(key)) {
    throw invalid("idempotencyKey", "1 to 128 printable ASCII characters", key);
  }
  return key;
}

/** The same for two specs that say the same, in whatever order of fields. */
export function specHash(spec: CheckedFleetSpec): string {
  return createHash("sha256").update(canonical(spec)).digest("hex");
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

function checkName(name: unknown): string {
  if (typeof name !== "string" || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) {
    throw invalid(
      "name",
      "1 to 64 letters, digits, hyphens, underscores, dots; first a letter or digit",
      name,
    );
  }
  return name;
}

function checkLabels(labels: unknown): Readonly<Record<string, string>> {
  if (typeof labels !== "object" || labels === null || Array.isArray(labels)) {
    throw invalid("labels", "an object", labels);
  }
  const entries = Object.entries(labels);
  if (entries.length > LABELS_MAX) throw invalid("labels", `at most ${LABELS_MAX}`, entries.length);
  for (const [key, value] of entries) {
    if (!/^[A-Za-z0-9._/-]{1,63}$/.test(key)) {
      throw invalid("labels", "keys of 1 to 63 letters, digits, dots, underscores, / and -", key);
    }
    if (typeof value !== "string" || value.length > 256) {
      throw invalid(`labels.${key}`, "a string of at most 256 characters", value);
    }
  }
  // Also a label named __proto__ is but a label.
  return Object.fromEntries(entries);
}

function checkRestart(restart: RestartPolicy): RestartPolicy {
  onlyFields("restart", restart, ["policy", "maxRetries"]);
  const policy = oneOf("restart.policy", restart.policy, ["no", "on-failure", "always"]);
  if (restart.maxRetries === undefined) return { policy };
  if (policy !== "on-failure") {
    throw invalid("restart.maxRetries", 'the policy "on-failure" beside it', restart.maxRetries);
  }
  return { policy, maxRetries: integer("restart.maxRetries", restart.maxRetries, 0, RETRIES_MAX) };
}
