/**
 * The state on disk: what is refused with which error, what a batch leaves, and what is done without room.
 */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterEach, describe, expect, it } from "vitest";
import { EventJournal } from "../../src/actors/event-journal.js";
import type { FleetRecord } from "../../src/actors/fleet-messages.js";
import { MIGRATIONS } from "../../src/actors/fleet-schema.js";
import { FleetStore, type StoreBatch } from "../../src/actors/fleet-store.js";
import { FleetWriter } from "../../src/actors/fleet-writer.js";
import { smallFileSystem } from "../support/small-file-system.js";
import { runAlone } from "../support/threads.js";

const folders: string[] = [];
const stores: FleetStore[] = [];

afterEach(() => {
  for (const store of stores.splice(0)) store.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "estalo-store-"));
  folders.push(folder);
  return folder;
}

async function open(folder: string, migrations = MIGRATIONS): Promise<FleetStore> {
  const store = await FleetStore.open(folder, migrations);
  stores.push(store);
  return store;
}

function record(id: string, labels: Record<string, string> = {}): FleetRecord {
  return {
    id,
    name: id,
    labels,
    config: { id },
    restart: { policy: "no" },
    autoRemove: false,
    state: "configured",
    createdAtMs: 1,
    startedAtMs: undefined,
    endedAtMs: undefined,
    exit: undefined,
    lostReason: undefined,
    restartCount: 0,
    restartAtMs: undefined,
  };
}

function batch(more: Partial<StoreBatch> = {}): StoreBatch {
  return {
    microvms: [],
    removed: [],
    lastRuns: new Map(),
    keys: [],
    forgottenKeys: [],
    events: [],
    trimThrough: 0,
    ...more,
  };
}

const stored = (id: string, ordinal: number, labels = {}) => ({
  ordinal,
  record: record(id, labels),
  startsAtOpen: false,
});

const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);

describe("FleetStore.open", () => {
  it("makes folder and files for their owner only, also over files of another mode", async () => {
    const folder = join(newFolder(), "a", "b");
    const first = await open(folder);
    first.commit(batch({ microvms: [stored("x", 1)] }), true);
    expect(mode(folder)).toBe("700");
    for (const file of ["fleet.db", "fleet.db-wal", "fleet.pid"]) {
      expect(mode(join(folder, file))).toBe("600");
    }
    first.close();
    chmodSync(join(folder, "fleet.db"), 0o644);
    await open(folder);
    expect(mode(join(folder, "fleet.db"))).toBe("600");
  });

  it("refuses a folder that is open, here and in another process, naming folder and process", async () => {
    const folder = newFolder();
    const first = await open(folder);
    const locked = expect.objectContaining({
      code: "ERR_ESTALO_STATE_LOCKED",
      message: expect.stringContaining(`process ${process.pid}`),
      data: { folder, pid: process.pid },
    });
    await expect(FleetStore.open(folder)).rejects.toEqual(locked);
    const other = await runAlone(`
      import { FleetStore } from "./src/actors/fleet-store.ts";
      FleetStore.open(${JSON.stringify(folder)}).then(() => {}, (error) => console.log(error.code));
    `);
    expect(other.trim()).toBe("ERR_ESTALO_STATE_LOCKED");
    // The refused ones took nothing from who has it.
    first.commit(batch({ microvms: [stored("x", 1)] }), true);
    await expect(FleetStore.open(folder)).rejects.toEqual(locked);
    first.close();
    expect((await open(folder)).microvms()).toHaveLength(1);
  });

  it.each([
    ["text", (path: string) => writeFileSync(path, "not a database ".repeat(1000))],
    ["a torn end", (path: string) => truncateSync(path, statSync(path).size - 6000)],
    [
      "overwritten pages",
      (path: string) => {
        const bytes = readFileSync(path);
        bytes.fill(0xa5, 4096 + 100, 4096 * 4);
        writeFileSync(path, bytes);
      },
    ],
    [
      "another program's tables",
      (path: string) => {
        rmSync(path);
        const other = new Database(path);
        other.exec("CREATE TABLE notes (text TEXT)");
        other.close();
      },
    ],
    [
      "a newer version",
      (path: string) => {
        const newer = new Database(path);
        newer.pragma(`user_version = ${MIGRATIONS.length + 1}`);
        newer.close();
      },
    ],
  ])("refuses a file with %s, leaves it alone, and lets go", async (_what, damage) => {
    const folder = newFolder();
    const path = join(folder, "fleet.db");
    const store = await open(folder);
    const microvms = Array.from({ length: 50 }, (_, i) =>
      stored(`vm-${i}`, i + 1, { a: "x".repeat(200) }),
    );
    store.commit(batch({ microvms }), true);
    store.close();
    damage(path);
    const before = readFileSync(path);
    for (let attempt = 0; attempt < 2; attempt += 1) {
      await expect(FleetStore.open(folder)).rejects.toEqual(
        expect.objectContaining({
          code: "ERR_ESTALO_STATE_FILE",
          message: expect.stringContaining(path),
        }),
      );
    }
    expect(readFileSync(path).subarray(100).equals(before.subarray(100))).toBe(true);
  });

  it("brings an older state to the newest version, each step once", async () => {
    const folder = newFolder();
    const first = await open(folder);
    first.commit(batch({ microvms: [stored("x", 1)] }), true);
    first.close();
    const more = [...MIGRATIONS, "CREATE TABLE extra (n); INSERT INTO extra VALUES (1)"];
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const store = await open(folder, more);
      expect(store.microvms().map((microvm) => microvm.record.id)).toEqual(["x"]);
      store.close();
    }
    const plain = new Database(join(folder, "fleet.db"));
    expect(plain.prepare("SELECT count(*) AS n FROM extra").get()).toEqual({ n: 1 });
    plain.close();
  });

  it("takes back a step that fails, and leaves the older state as it was", async () => {
    const folder = newFolder();
    (await open(folder)).close();
    const broken = [...MIGRATIONS, "CREATE TABLE extra (n); INSERT INTO nowhere VALUES (1)"];
    await expect(FleetStore.open(folder, broken)).rejects.toThrow();
    expect((await open(folder)).microvms()).toEqual([]);
  });

  it("refuses a place that cannot be a folder", async () => {
    const file = join(newFolder(), "file");
    writeFileSync(file, "");
    await expect(FleetStore.open(join(file, "state"))).rejects.toEqual(
      expect.objectContaining({
        code: "ERR_ESTALO_STATE_WRITE",
        data: expect.objectContaining({ errno: "ENOTDIR" }),
      }),
    );
  });
});

describe("FleetStore.commit", () => {
  it("stores a batch whole or not at all", async () => {
    const store = await open(newFolder());
    const twice = { ordinal: 2, record: record("x"), startsAtOpen: false };
    const wrong = batch({ microvms: [stored("x", 1), twice] });
    expect(() => store.commit(wrong, false)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_STATE_WRITE" }),
    );
    expect(store.microvms()).toEqual([]);
  });

  it("never gives an ordinal again, also when the last microVM is gone", async () => {
    const folder = newFolder();
    const store = await open(folder);
    store.commit(batch({ microvms: [stored("x", 1), stored("y", 2)] }), true);
    store.commit(batch({ removed: [record("y")] }), true);
    store.close();
    expect((await open(folder)).lastOrdinal()).toBe(2);
  });

  it("keeps last runs with their microVMs", async () => {
    const store = await open(newFolder());
    const run = { console: Buffer.from([1, 2, 3]), metrics: { a: 1 } };
    store.commit(batch({ microvms: [stored("x", 1)], lastRuns: new Map([["x", run]]) }), false);
    expect(store.lastRun("x")).toEqual(run);
    store.commit(batch({ removed: [record("x")] }), false);
    expect(store.lastRun("x")).toBeUndefined();
  });

  it("says how the server before left", async () => {
    const folder = newFolder();
    const first = await open(folder);
    expect(first.deadServer).toBeUndefined();
    first.close();
    const closed = await open(folder);
    expect(closed.deadServer).toBeUndefined();
    closed.close();
    const path = join(folder, "fleet.db");
    const server = (value: object) => {
      const plain = new Database(path);
      plain.prepare("UPDATE meta SET value = ? WHERE key = 'server'").run(JSON.stringify(value));
      plain.close();
    };
    const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    server({ bootId, pid: 7, isClosed: false });
    const killed = await open(folder);
    expect(killed.deadServer).toEqual({ pid: 7, hostDied: false });
    const event = { sequence: 1, atMs: 1, microvm: "x", name: "x", type: "created" } as const;
    killed.commit(batch({ events: [event] }), false);
    killed.close();
    server({ bootId: "another", pid: 8, isClosed: false });
    // What the dead host told last may be lost: those numbers are never given again.
    const journal = new EventJournal(await open(folder));
    expect(journal.newest).toBeGreaterThan(1000);
    expect(journal.since(1)).toBe("gap");
    expect(journal.since(journal.newest)).toEqual([]);
  });
});

const small = smallFileSystem(400 * 1024);

describe.skipIf(small === undefined)("without room (needs a file system of its own)", () => {
  const folder = join(small ?? "", "state");
  const ballast = join(small ?? "", "ballast");
  const fill = () => {
    mkdirSync(folder, { recursive: true });
    try {
      writeFileSync(ballast, Buffer.alloc(1 << 20));
    } catch {
      // ENOSPC: it is full now.
    }
  };
  const noRoom = expect.objectContaining({
    code: "ERR_ESTALO_STATE_WRITE",
    data: expect.objectContaining({ errno: "ENOSPC" }),
  });

  it("says so, keeps what is to be stored, and stores it when there is", async () => {
    const store = await open(folder);
    const journal = new EventJournal(store);
    const writer = new FleetWriter(store, journal);
    const heard: number[] = [];
    journal.subscribe(({ sequence }) => heard.push(sequence));
    const event = { atMs: 1, microvm: "x", name: "x", type: "updated" } as const;
    writer.commit({ microvm: stored("x", 1), events: [event] });
    fill();
    const large = stored("y", 2, { a: "x".repeat(200_000) });
    expect(() => writer.commit({ microvm: large, events: [event] })).toThrow(noRoom);
    const noted = { ...stored("x", 1, { a: "y".repeat(200_000) }), startsAtOpen: true };
    writer.note({ microvm: noted, events: [event, event] });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(writer.lastError).toEqual(noRoom);
    expect(writer.errors).toBe(2);
    expect([journal.newest, store.microvms()[0].startsAtOpen]).toEqual([1, false]);
    rmSync(ballast);
    while (writer.lastError !== undefined) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(store.microvms()).toEqual([noted]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(heard).toEqual([1, 2, 3]);
    store.close();
  });

  it("refuses to open, and opens when there is", async () => {
    rmSync(folder, { recursive: true, force: true });
    fill();
    await expect(FleetStore.open(folder)).rejects.toEqual(noRoom);
    rmSync(ballast);
    (await open(folder)).close();
  });

  it("refuses a folder that is read-only", async () => {
    execFileSync("mount", ["-o", "remount,ro", small as string]);
    try {
      await expect(FleetStore.open(folder)).rejects.toEqual(
        expect.objectContaining({
          code: "ERR_ESTALO_STATE_WRITE",
          data: expect.objectContaining({ errno: "EROFS" }),
        }),
      );
    } finally {
      execFileSync("mount", ["-o", "remount,rw", small as string]);
    }
  });
});
