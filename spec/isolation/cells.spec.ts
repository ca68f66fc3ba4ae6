/** Which microVM gets which cell; cells are played. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { checkConfig } from "../../src/actors/config.js";
import type { FleetRecord } from "../../src/actors/fleet-messages.js";
import { Cells, type CellsOptions } from "../../src/isolation/cells.js";
import { PlayedCell } from "../support/played-cell.js";
import { Scratch } from "../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const kernel = join(scratch.path, "kernel");
writeFileSync(kernel, "not looked at");
const config = checkConfig({ kernel, id: "one" });
const METRICS = {
  vcpus: [],
  drives: {},
  networkInterfaces: {},
  pmem: {},
  serial: { transmittedBytes: 0, receivedBytes: 0, droppedBytes: 0 },
};

function stage(options: Partial<CellsOptions> = {}) {
  const made: { cell: PlayedCell; id: string; user: number }[] = [];
  const lost: string[] = [];
  const cells = new Cells({
    tenantLabel: undefined,
    ids: { first: 100, last: 103 },
    onLost: (error) => lost.push(error.message),
    ...options,
    start: (id, user) => {
      const cell = new PlayedCell();
      cell.answer = ({ method, vm }) => {
        if (method === "create") return { value: { devices: ["serial"], hasRip: false } };
        if (method === "kill") {
          cell.say({ vm, exit: { reason: "killed", exitCode: 137 }, metrics: METRICS });
        }
        return {};
      };
      cell.say({ hello: 1 });
      made.push({ cell, id, user });
      return cell;
    },
  });
  const make = (labels: Record<string, string> = {}) =>
    cells.make(config, { labels } as unknown as FleetRecord);
  return { cells, made, lost, make };
}

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setImmediate(resolve));
}

describe("Cells", () => {
  it("keeps a spare one, and gives each microVM one with a user of its own", async () => {
    const { cells, made, make } = stage();
    await cells.open();
    expect(made).toHaveLength(1);
    const [a, b] = [await make(), await make()];
    expect(new Set(made.map(({ user }) => user)).size).toBe(made.length);
    expect(new Set(made.map(({ id }) => id)).size).toBe(made.length);
    expect(made[0].cell.calls.map(({ method }) => method)).toEqual(["create"]);
    expect(made[1].cell.calls.map(({ method }) => method)).toEqual(["create"]);
    await Promise.all([a.kill(), b.kill()]);
    await cells.close();
    expect(cells.size).toBe(0);
  });

  it("puts a tenant's microVMs into one, and those without the label into ones of their own", async () => {
    const { cells, made, make } = stage({ tenantLabel: "tenant" });
    const all = [
      await make({ tenant: "a" }),
      await make({ tenant: "b" }),
      await make({ tenant: "a" }),
      await make(),
      await make({ team: "a" }),
    ];
    const counts = made.map(({ cell }) => cell.calls.length).filter((count) => count > 0);
    expect(counts.sort()).toEqual([1, 1, 1, 2]);
    expect(made[0].cell.calls.map(({ vm }) => vm)).toEqual([1, 3]);
    await Promise.all(all.map((microvm) => microvm.kill()));
    await cells.close();
  });

  it("uses no cell again: a tenant's next microVM gets a new one", async () => {
    const { cells, made, make } = stage({ tenantLabel: "tenant" });
    await (await make({ tenant: "a" })).kill();
    const before = made.length;
    const again = await make({ tenant: "a" });
    expect(made.slice(before).some(({ cell }) => cell.calls.length > 0) || before > 1).toBe(true);
    expect(made[0].cell.calls.filter(({ method }) => method === "create")).toHaveLength(1);
    await again.kill();
    await cells.close();
  });

  it("fails those in a cell that ends, and no other; what comes next gets a new one", async () => {
    const { cells, made, lost, make } = stage({ tenantLabel: "tenant" });
    const [a1, a2, b] = [
      await make({ tenant: "a" }),
      await make({ tenant: "a" }),
      await make({ tenant: "b" }),
    ];
    made[0].cell.end("SIGKILL");
    for (const microvm of [a1, a2]) {
      expect(await microvm.exited).toMatchObject({
        reason: "failed",
        exitCode: 125,
        error: { code: "ERR_ESTALO_CELL", message: expect.stringContaining("SIGKILL") },
      });
      expect(microvm.state).toBe("failed");
    }
    expect(b.state).toBe("created");
    await until(() => lost.length === 1);
    const a3 = await make({ tenant: "a" });
    expect(made[0].cell.calls).toHaveLength(2);
    await Promise.all([a3.kill(), b.kill()]);
    await cells.close();
  });

  it("says so when there is no user left, and opens no cell that never comes up", async () => {
    const { cells, make } = stage({ ids: { first: 100, last: 101 } });
    const two = [await make(), await make()];
    await expect(make()).rejects.toMatchObject({ code: "ERR_ESTALO_ISOLATION" });
    await Promise.all(two.map((microvm) => microvm.kill()));
    await cells.close();
    const dead = new Cells({
      tenantLabel: undefined,
      ids: { first: 1, last: 1 },
      onLost: () => {},
      start: () => {
        const cell = new PlayedCell();
        setImmediate(() => cell.end("status 1: Error: estalo jail: unshare user namespace: EPERM"));
        return cell;
      },
    });
    await expect(dead.open()).rejects.toMatchObject({
      code: "ERR_ESTALO_CELL",
      message: expect.stringContaining("EPERM"),
    });
  });
});
