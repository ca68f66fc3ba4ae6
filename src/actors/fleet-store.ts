/**
 * The fleet's state on disk: one SQLite database in a folder of its own, and the only user of better-sqlite3.
 *
 *     fleet.db, fleet.db-wal   the state (0600)       fleet.pid   who has it open, for the error of the next one
 *
 * Invariants: one process has a state folder (SQLite's exclusive locking mode, which the kernel ends with the
 * process); a batch is stored whole or not at all. What a caller was promised (created, changed, removed) is
 * synchronised to the disk. What a microVM did by itself is only written (`synchronous=NORMAL`): it survives
 * any end of this process, and when the host itself dies, nothing runs any more that it could be wrong about;
 * an fsync for each would hold up the thread that serves the guests' disks.
 */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type Database from "better-sqlite3";
import { EstaloError, hostError } from "../errors.js";
import { sqliteCode, stateError, WRITE_HINT } from "./fleet-errors.js";
import type { FleetEvent, FleetRecord } from "./fleet-messages.js";
import { check, MIGRATIONS, migrate } from "./fleet-schema.js";
import type { MicroVmExit } from "./messages.js";

const DATABASE_FILE = "fleet.db";
const PID_FILE = "fleet.pid";

/** How far event numbers jump after the host died: further than what it may have lost. */
const SEQUENCE_JUMP = 1_000_000;

/** Removed idempotency keys at most, and how long each is kept. */
const KEYS_MAX = 100_000;
export const KEY_LIFE_MS = 24 * 3_600_000;

/** A microVM as it is stored. */
export interface StoredMicrovm {
  /** Grows with every creation, never given twice. */
  readonly ordinal: number;
  readonly record: FleetRecord;
  /** A fleet that opens this state starts it, whatever `record.state` says of its end. */
  readonly startsAtOpen: boolean;
}

/** What is left of a microVM's last run. */
export interface LastRun {
  readonly console: Uint8Array;
  readonly metrics: unknown;
}

/** An idempotency key with what it made. */
export interface IdempotencyKey {
  readonly key: string;
  readonly specHash: string;
  readonly microvm: string;
  readonly atMs: number;
  /** The microVM as it was when it was removed; `undefined` while it exists. */
  readonly removed: FleetRecord | undefined;
}

/** Changes that are stored together. */
export interface StoreBatch {
  readonly microvms: readonly StoredMicrovm[];
  /** As they were; their last runs go with them. */
  readonly removed: readonly FleetRecord[];
  readonly lastRuns: ReadonlyMap<string, LastRun>;
  readonly keys: readonly Omit<IdempotencyKey, "removed">[];
  /** Before `keys`, which may have one of them anew. */
  readonly forgottenKeys: readonly string[];
  readonly events: readonly FleetEvent[];
  /** Events up to this one are forgotten; 0: none. */
  readonly trimThrough: number;
}

interface Meta {
  readonly bootId: string;
  readonly pid: number;
  readonly isClosed: boolean;
}

/** See the file's header. Thread: main; every call blocks for as long as the disk takes. */
export class FleetStore {
  /** How the server before this one left: `undefined` when it closed the state, or there was none. */
  readonly deadServer: { readonly pid: number; readonly hostDied: boolean } | undefined;
  readonly folder: string;
  readonly #database: Database.Database;
  readonly #statements = new Map<string, Database.Statement>();
  #sequenceBase = 0;

  private constructor(folder: string, database: Database.Database) {
    this.folder = folder;
    this.#database = database;
    const meta = this.#meta();
    const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    this.deadServer =
      meta === undefined || meta.isClosed
        ? undefined
        : { pid: meta.pid, hostDied: meta.bootId !== bootId };
    this.#sequenceBase = Number(this.#metaValue("sequenceBase") ?? 0);
    if (this.deadServer?.hostDied) this.#jump();
    this.#setMeta("server", JSON.stringify({ bootId, pid: process.pid, isClosed: false }));
  }

  /**
   * Opens the state folder, and makes it if it is not there.
   *
   * @param migrations - the schema's; others than its own only for specs
   * @throws ERR_ESTALO_STATE_LOCKED when another server has it; ERR_ESTALO_STATE_FILE when the database is
   * damaged, not a fleet's, or of a newer version; ERR_ESTALO_STATE_WRITE when folder or disk take no writes
   */
  static async open(folder: string, migrations = MIGRATIONS): Promise<FleetStore> {
    const path = join(folder, DATABASE_FILE);
    makeFiles(folder, path);
    const { default: Sqlite } = await import("better-sqlite3");
    let database: Database.Database | undefined;
    try {
      database = new Sqlite(path, { timeout: 0 });
      database.pragma("locking_mode = EXCLUSIVE");
      database.pragma("journal_mode = WAL");
      database.pragma("foreign_keys = ON");
      database.pragma("journal_size_limit = 4194304");
      // Takes the lock for good, also where the file was in WAL mode before.
      database.exec("BEGIN IMMEDIATE; COMMIT");
      check(path, database, migrations.length);
      migrate(database, migrations);
      const store = new FleetStore(folder, database);
      writeFileSync(join(folder, PID_FILE), `${process.pid}\n`, { mode: 0o600 });
      return store;
    } catch (error) {
      database?.close();
      throw openError(folder, path, error);
    }
  }

  /** All microVMs, oldest first. */
  microvms(): StoredMicrovm[] {
    const rows = this.#all("SELECT ordinal, record, starts_at_open FROM microvms ORDER BY ordinal");
    return rows.map((row) => ({
      ordinal: row.ordinal as number,
      record: recordOf(row.record as string),
      startsAtOpen: row.starts_at_open === 1,
    }));
  }

  /** The highest ordinal ever given; 0 when none was. */
  lastOrdinal(): number {
    const [row] = this.#all("SELECT seq FROM sqlite_sequence WHERE name = 'microvms'");
    return (row?.seq as number | undefined) ?? 0;
  }

  lastRun(id: string): LastRun | undefined {
    const [row] = this.#all("SELECT console, metrics FROM last_runs WHERE id = ?", id);
    if (row === undefined) return undefined;
    return { console: row.console as Buffer, metrics: JSON.parse(row.metrics as string) };
  }

  /** A key that is not forgotten yet. */
  key(key: string, nowMs: number): IdempotencyKey | undefined {
    const [row] = this.#all(
      "SELECT * FROM idempotency_keys WHERE key = ? AND at_ms > ?",
      key,
      nowMs - KEY_LIFE_MS,
    );
    if (row === undefined) return undefined;
    return {
      key,
      specHash: row.spec_hash as string,
      microvm: row.microvm as string,
      atMs: row.at_ms as number,
      removed: row.record === null ? undefined : recordOf(row.record as string),
    };
  }

  /** The first and last stored event; without any, the next one will be `newest + 1`. */
  eventRange(): { readonly oldest: number; readonly newest: number } {
    // Apart: SQLite reads the whole table for both in one.
    const [row] = this.#all(
      `SELECT (SELECT min(sequence) FROM events) AS oldest,
              (SELECT max(sequence) FROM events) AS newest`,
    );
    const newest = (row.newest as number | null) ?? this.#sequenceBase;
    return { oldest: (row.oldest as number | null) ?? newest + 1, newest };
  }

  /** Stored events after this one, oldest first. */
  eventsAfter(sequence: number, limit: number): FleetEvent[] {
    return this.#all(
      "SELECT event FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?",
      sequence,
      limit,
    ).map((row) => JSON.parse(row.event as string));
  }

  /** The last event before this time; 0 when there is none. */
  lastEventBefore(atMs: number): number {
    const [row] = this.#all(
      "SELECT sequence - 1 AS last FROM events WHERE at_ms >= ? ORDER BY sequence LIMIT 1",
      atMs,
    );
    return (row?.last as number | undefined) ?? this.eventRange().newest;
  }

  /**
   * Stores a batch, whole or not at all.
   *
   * @param isDurable - returns only when it is on the disk; else it is in the kernel's hands
   * @throws ERR_ESTALO_STATE_WRITE, and then nothing of it is stored
   */
  commit(batch: StoreBatch, isDurable: boolean): void {
    try {
      this.#database.pragma(`synchronous = ${isDurable ? "FULL" : "NORMAL"}`);
      this.#database.transaction(() => this.#write(batch))();
    } catch (error) {
      throw stateError("store fleet state in", join(this.folder, DATABASE_FILE), error);
    }
  }

  /** Says that nothing runs any more, and lets go of the folder. Idempotent. */
  close(): void {
    if (!this.#database.open) return;
    try {
      const meta = this.#meta();
      this.#setMeta("server", JSON.stringify({ ...meta, isClosed: true }));
    } catch (error) {
      throw stateError("store fleet state in", join(this.folder, DATABASE_FILE), error);
    } finally {
      this.#database.close();
    }
  }

  #write(batch: StoreBatch): void {
    for (const record of batch.removed) {
      this.#run("DELETE FROM microvms WHERE id = ?", record.id);
      const json = JSON.stringify(record);
      this.#run(
        "UPDATE idempotency_keys SET record = ? WHERE microvm = ? AND record IS NULL",
        json,
        record.id,
      );
    }
    for (const { ordinal, record, startsAtOpen } of batch.microvms) {
      this.#run(
        `INSERT INTO microvms (ordinal, id, record, starts_at_open) VALUES (?, ?, ?, ?)
         ON CONFLICT (ordinal) DO UPDATE SET record = excluded.record, starts_at_open = excluded.starts_at_open`,
        ordinal,
        record.id,
        JSON.stringify(record),
        startsAtOpen ? 1 : 0,
      );
    }
    for (const [id, { console, metrics }] of batch.lastRuns) {
      const json = JSON.stringify(metrics);
      this.#run("INSERT OR REPLACE INTO last_runs VALUES (?, ?, ?)", id, console, json);
    }
    for (const key of batch.forgottenKeys) {
      this.#run("DELETE FROM idempotency_keys WHERE key = ?", key);
    }
    for (const key of batch.keys) this.#writeKey(key);
    for (const event of batch.events) {
      const json = JSON.stringify(event);
      this.#run("INSERT INTO events VALUES (?, ?, ?)", event.sequence, event.atMs, json);
    }
    if (batch.trimThrough > 0) {
      this.#run("DELETE FROM events WHERE sequence <= ?", batch.trimThrough);
    }
  }

  #writeKey({ key, specHash, microvm, atMs }: Omit<IdempotencyKey, "removed">): void {
    this.#run("DELETE FROM idempotency_keys WHERE at_ms <= ?", atMs - KEY_LIFE_MS);
    this.#run(
      `DELETE FROM idempotency_keys WHERE at_ms <=
       (SELECT at_ms FROM idempotency_keys ORDER BY at_ms DESC LIMIT 1 OFFSET ?)`,
      KEYS_MAX - 1,
    );
    this.#run(
      "INSERT INTO idempotency_keys VALUES (?, ?, ?, ?, NULL)",
      key,
      specHash,
      microvm,
      atMs,
    );
  }

  /**
   * The host died: the last events that were told may be lost. Their numbers are not given again, and who
   * asks for what came after them hears of the gap.
   */
  #jump(): void {
    const base = this.eventRange().newest + SEQUENCE_JUMP;
    this.#database.transaction(() => {
      this.#setMeta("sequenceBase", String(base));
      this.#run("DELETE FROM events");
    })();
    this.#sequenceBase = base;
  }

  #meta(): Meta | undefined {
    const value = this.#metaValue("server");
    return value === undefined ? undefined : JSON.parse(value);
  }

  #metaValue(key: string): string | undefined {
    return this.#all("SELECT value FROM meta WHERE key = ?", key)[0]?.value as string | undefined;
  }

  #setMeta(key: string, value: string): void {
    this.#run("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value);
  }

  #statement(sql: string): Database.Statement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #run(sql: string, ...values: unknown[]): void {
    this.#statement(sql).run(...values);
  }

  #all(sql: string, ...values: unknown[]): Record<string, unknown>[] {
    if (!this.#database.open) {
      throw new EstaloError("ERR_ESTALO_STATE", `fleet state ${this.folder} is closed`, {
        data: { folder: this.folder, state: "closed" },
      });
    }
    try {
      return this.#statement(sql).all(...values) as Record<string, unknown>[];
    } catch (error) {
      throw stateError("read fleet state from", join(this.folder, DATABASE_FILE), error);
    }
  }
}

/** The folder, for its owner only if we make it, and the database's file, for its owner only in any case. */
function makeFiles(folder: string, path: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    try {
      // SQLite gives the journal beside it the same mode.
      writeFileSync(path, "", { flag: "wx", mode: 0o600 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      // By name: closing a descriptor of it would end the lock of a fleet in this very process.
      chmodSync(path, 0o600);
    }
  } catch (error) {
    throw hostError("open state folder", folder, error, "ERR_ESTALO_STATE_WRITE", WRITE_HINT);
  }
}

const UNDEFINED_FIELDS: Partial<FleetRecord> = {
  startedAtMs: undefined,
  endedAtMs: undefined,
  exit: undefined,
  lostReason: undefined,
  restartAtMs: undefined,
};
const UNDEFINED_EXIT: Partial<MicroVmExit> = { guestStatus: undefined, error: undefined };

/** A record as it was stored: JSON leaves out what is undefined. */
function recordOf(json: string): FleetRecord {
  const record: FleetRecord = { ...UNDEFINED_FIELDS, ...JSON.parse(json) };
  return record.exit === undefined
    ? record
    : { ...record, exit: { ...UNDEFINED_EXIT, ...record.exit } };
}

function openError(folder: string, path: string, error: unknown): EstaloError {
  if (error instanceof EstaloError) return error;
  if (sqliteCode(error) !== "SQLITE_BUSY") return stateError("open fleet state", path, error);
  const pid = pidOf(folder);
  const who = pid === undefined ? "another process" : `process ${pid}`;
  return new EstaloError("ERR_ESTALO_STATE_LOCKED", `${who} has the state folder ${folder} open`, {
    data: { folder, ...(pid === undefined ? {} : { pid }) },
    hint: "one server has a state folder: use that server, or name another folder with --state",
  });
}

/** Who has the folder open, as they wrote it there. */
function pidOf(folder: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(folder, PID_FILE), "utf8"));
    return Number.isInteger(pid) && pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}
