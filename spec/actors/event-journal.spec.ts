/**
 * The journal over a real store: numbers, what is kept, who is told what.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { EventJournal, type JournalLimits } from "../../src/actors/event-journal.js";
import type { FleetEvent } from "../../src/actors/fleet-messages.js";
import { FleetStore } from "../../src/actors/fleet-store.js";
import { FleetWriter, type NewEvent } from "../../src/actors/fleet-writer.js";

const folders: string[] = [];
const stores: FleetStore[] = [];

afterEach(() => {
  vi.useRealTimers();
  for (const store of stores.splice(0)) store.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "estalo-journal-"));
  folders.push(folder);
  return folder;
}

async function open(folder = newFolder(), limits: Partial<JournalLimits> = {}) {
  const store = await FleetStore.open(folder);
  stores.push(store);
  const journal = new EventJournal(store, limits);
  return { store, journal, writer: new FleetWriter(store, journal) };
}

function event(name: string): NewEvent {
  return { type: "updated", atMs: Date.now(), microvm: "id", name };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const numbers = (events: FleetEvent[] | "gap") =>
  events === "gap" ? events : events.map(({ sequence }) => sequence);

describe("EventJournal", () => {
  it("numbers from 1 on, and goes on after it was closed", async () => {
    const folder = newFolder();
    const first = await open(folder);
    expect([first.journal.oldest, first.journal.newest]).toEqual([1, 0]);
    expect(first.journal.since(0)).toEqual([]);
    for (const name of ["a", "b"]) first.writer.commit({ events: [event(name)] });
    first.store.close();
    const next = await open(folder);
    next.writer.commit({ events: [event("c")] });
    const events = next.journal.since(0) as FleetEvent[];
    expect(events.map(({ sequence, name }) => [sequence, name])).toEqual([
      [1, "a"],
      [2, "b"],
      [3, "c"],
    ]);
    expect(numbers(next.journal.since(1))).toEqual([2, 3]);
    expect(numbers(next.journal.since(0, 2))).toEqual([1, 2]);
    expect(next.journal.since(3)).toEqual([]);
  });

  it("tells a gap of what is not kept, and of numbers it never gave", async () => {
    const { journal, writer } = await open(newFolder(), { eventsMax: 10 });
    for (let index = 0; index < 50; index += 1) writer.commit({ events: [event("e")] });
    expect(journal.newest).toBe(50);
    expect(journal.oldest).toBeGreaterThan(20);
    expect(journal.oldest).toBeLessThanOrEqual(41);
    expect(journal.since(journal.oldest - 2)).toBe("gap");
    expect(numbers(journal.since(journal.oldest - 1))).toHaveLength(51 - journal.oldest);
    for (const never of [51, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(journal.since(never)).toBe("gap");
    }
  });

  it("forgets what is too old, but never the last number", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    const folder = newFolder();
    const { journal, writer, store } = await open(folder, { lifeMs: 1000 });
    for (const name of ["a", "b", "c"]) writer.commit({ events: [event(name)] });
    vi.setSystemTime(Date.now() + 3_600_000);
    writer.commit({ events: [] });
    expect([journal.oldest, journal.newest]).toEqual([3, 3]);
    store.close();
    const next = await open(folder);
    next.writer.commit({ events: [event("d")] });
    expect(next.journal.newest).toBe(4);
  });

  it("reads no whole table for an event, however many are kept", async () => {
    const folder = newFolder();
    const prepare = vi.spyOn(Database.prototype, "prepare");
    const { store, journal, writer } = await open(folder);
    for (const name of ["a", "b"]) writer.commit({ events: [event(name)] });
    expect(journal.since(1)).toHaveLength(1);
    const statements = prepare.mock.calls.map(([sql]) => sql);
    prepare.mockRestore();
    store.close();
    const database = new Database(join(folder, "fleet.db"), { readonly: true });
    const reads = statements.filter((sql) => /^SELECT.* FROM events/s.test(sql));
    const plans = reads.map((sql) => {
      // By time, for what is too old: once in a thousand events, and it ends at the first that is not.
      if (sql.includes("at_ms >= ?")) return "";
      const parameters = Array.from(sql.matchAll(/\?/g), () => 0);
      const steps = database.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...parameters);
      return (steps as { detail: string }[]).map(({ detail }) => detail).join("; ");
    });
    database.close();
    expect(plans.length).toBeGreaterThanOrEqual(2);
    for (const plan of plans) expect(plan).not.toContain("SCAN events");
  });

  it("tells listeners what is stored, not within the call that stores it, each once and in order", async () => {
    const { journal, writer } = await open();
    const heard: string[] = [];
    const end = journal.subscribe(({ name }) => heard.push(name));
    journal.stream.subscribe(({ name }) => heard.push(`${name}$`));
    writer.note({ events: [event("a")] });
    writer.commit({ events: [event("b")] });
    writer.commit({ events: [event("c")] });
    expect(heard).toEqual([]);
    await turn();
    expect(heard).toEqual(["a", "a$", "b", "b$", "c", "c$"]);
    end();
    writer.note({ events: [event("d")] });
    await turn();
    await turn();
    expect(heard.slice(6)).toEqual(["d$"]);
  });

  it("tells all that waited for room, however many they are, and stores them once", async () => {
    const { journal, writer } = await open();
    const heard: number[] = [];
    journal.subscribe(({ sequence }) => heard.push(sequence));
    const events = Array.from({ length: 1000 }, () => event("a"));
    for (let count = 0; count < 150; count += 1) writer.note({ events });
    writer.commit({ events: [event("b")] });
    await turn();
    expect(heard).toHaveLength(150_001);
    expect([journal.newest, heard.at(-1)]).toEqual([150_001, 150_001]);
  });

  it("tells the others when a listener throws", async () => {
    const { journal, writer } = await open();
    const heard: number[] = [];
    journal.subscribe(() => {
      throw new Error("mine");
    });
    journal.subscribe(({ sequence }) => heard.push(sequence));
    writer.commit({ events: [event("a"), event("b")] });
    await turn();
    expect(heard).toEqual([1, 2]);
    expect(journal.listenerErrors).toBe(2);
  });

  it("gives who comes back at any moment every event once", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom("note", "commit", "turn", "leave", "come back"), {
          maxLength: 60,
        }),
        async (steps) => {
          const { journal, writer } = await open();
          const seen: number[] = [];
          let end: (() => void) | undefined;
          const comeBack = () => {
            end?.();
            seen.push(...(numbers(journal.since(seen.at(-1) ?? 0)) as number[]));
            end = journal.subscribe(({ sequence }) => seen.push(sequence));
          };
          for (const step of steps) {
            if (step === "note") writer.note({ events: [event("n")] });
            if (step === "commit") writer.commit({ events: [event("c"), event("d")] });
            if (step === "turn") await turn();
            if (step === "leave") end?.();
            if (step === "come back") comeBack();
          }
          comeBack();
          writer.close();
          await turn();
          expect(seen).toEqual(Array.from({ length: journal.newest }, (_, index) => index + 1));
        },
      ),
      { numRuns: 30 },
    );
  });
});
