/**
 * The fleet with played supervisors and a real state folder: what a caller sees of creation, lists, names,
 * keys, restarts, and of a server that died. fleet-member.spec.ts has the calls of one microVM in every order.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { Fleet, type FleetOptions } from "../../src/actors/fleet.js";
import type { FleetEvent, FleetSpec } from "../../src/actors/fleet-messages.js";
import { EstaloError } from "../../src/errors.js";
import { Stage } from "../support/played-supervisor.js";

const folders: string[] = [];
const fleets: Fleet[] = [];

function stateDir(): string {
  const folder = mkdtempSync(join(tmpdir(), "estalo-fleet-"));
  folders.push(folder);
  return folder;
}

async function open(stage: Stage, options: Partial<FleetOptions> = {}): Promise<Fleet> {
  const fleet = await Fleet.open({
    stateDir: options.stateDir ?? stateDir(),
    makeSupervisor: stage.make,
    ...options,
  });
  fleets.push(fleet);
  return fleet;
}

afterEach(async () => {
  for (const fleet of fleets.splice(0)) await fleet.close({ timeoutMs: 0 });
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

const KERNEL = { kernel: "vmlinux" };
const spec = (more: Partial<FleetSpec> = {}): FleetSpec => ({ config: KERNEL, ...more });
const code = (name: string) => expect.objectContaining({ code: name });

async function codeOf(call: () => unknown): Promise<unknown> {
  try {
    await call();
    return undefined;
  } catch (error) {
    return (error as EstaloError).code;
  }
}

describe("Fleet.create", () => {
  it("starts a microVM and gives its record", async () => {
    const stage = new Stage();
    const fleet = await open(stage);
    const { record, isNew } = await fleet.create(spec({ name: "web", labels: { tier: "front" } }));
    expect(isNew).toBe(true);
    expect(record).toMatchObject({ name: "web", state: "running", labels: { tier: "front" } });
    expect(record.startedAtMs).toBeGreaterThanOrEqual(record.createdAtMs);
    expect(stage.last.config.id).toBe(record.id);
    expect(fleet.get("web")).toBe(fleet.get(record.id));
    expect(fleet.counts()).toMatchObject({ running: 1, configured: 0 });
  });
});
