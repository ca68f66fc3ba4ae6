/**
 * The fleet's tables, and how older ones become them. A migration is never changed once released: what
 * comes next is appended. Times are Unix milliseconds; records and events are JSON as fleet-messages.ts
 * describes them.
 */
import type Database from "better-sqlite3";
import { badFile } from "./fleet-errors.js";

/** Marks a database as a fleet's, in its header (`PRAGMA application_id`): "Esta" in ASCII. */
const APPLICATION_ID = 0x45737461;

/** One step from a version of the schema to the next; its version is its place in the list, from 1 on. */
export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
   -- AUTOINCREMENT: an ordinal is never given twice, so that cursors of lists stay right.
   CREATE TABLE microvms (
     ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
     id TEXT NOT NULL UNIQUE,
     record TEXT NOT NULL,
     starts_at_open INTEGER NOT NULL
   );
   CREATE TABLE last_runs (
     id TEXT PRIMARY KEY REFERENCES microvms (id) ON DELETE CASCADE,
     console BLOB NOT NULL,
     metrics TEXT NOT NULL
   ) WITHOUT ROWID;
   -- record: what the microVM was when it was removed, NULL before that.
   CREATE TABLE idempotency_keys (
     key TEXT PRIMARY KEY,
     spec_hash TEXT NOT NULL,
     microvm TEXT NOT NULL,
     at_ms INTEGER NOT NULL,
     record TEXT
   ) WITHOUT ROWID;
   CREATE INDEX idempotency_keys_microvm ON idempotency_keys (microvm);
   CREATE INDEX idempotency_keys_at_ms ON idempotency_keys (at_ms);
   CREATE TABLE events (sequence INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, event TEXT NOT NULL);`,
];

/** Refuses what is damaged, another program's, or made by a version that knows more than this one. */
export function check(path: string, database: Database.Database, newest: number): void {
  const version = database.pragma("user_version", { simple: true }) as number;
  const application = database.pragma("application_id", { simple: true });
  const isEmpty = database.prepare("SELECT 1 FROM sqlite_schema").get() === undefined;
  if (!isEmpty && application !== APPLICATION_ID) throw badFile(path, "it is not a fleet's");
  if (version > newest) {
    throw badFile(path, `its version is ${version}, and this Estalo knows ${newest} at most`);
  }
  const result = database.pragma("quick_check(1)", { simple: true });
  if (result !== "ok") throw badFile(path, String(result));
}

/** Brings the tables to the newest version, each step whole or not at all. */
export function migrate(database: Database.Database, migrations: readonly string[]): void {
  const version = database.pragma("user_version", { simple: true }) as number;
  for (const [index, sql] of migrations.entries()) {
    if (index < version) continue;
    database.transaction(() => {
      database.exec(sql);
      database.pragma(`application_id = ${APPLICATION_ID}`);
      database.pragma(`user_version = ${index + 1}`);
    })();
  }
}
