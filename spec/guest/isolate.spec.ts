/**
 * `estalo serve --isolate` as its users start it, with guests of a few instructions: what each cell has, what its end
 * ends, and what is left when the server is killed. Needs root.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { afterAll, describe, expect, it } from "vitest";
import { EstaloClient } from "../../src/api/client/client.js";
import { passtIsUsable, reasonToSkip } from "../support/guest-host.js";
import { ServeProcess } from "../support/serve-process.js";
import { HALT, print, Scratch, TINY_GUESTS } from "../support/tiny-guest.js";

const reason = reasonToSkip("spec/guest/isolate.spec.ts", true);

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 20_000;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`in vain for ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Lists what may be gone by now. */
function listed<T>(list: () => T[]): T[] {
  try {
    return list();
  } catch {
    return [];
  }
}

const childrenOf = (pid: number) =>
  listed(() => {
    const threads = readdirSync(`/proc/${pid}/task`);
    const lists = threads.map((id) => readFileSync(`/proc/${pid}/task/${id}/children`, "latin1"));
    return lists.join(" ").split(/\s+/).filter(Boolean).map(Number);
  });

const descendantsOf = (pid: number): number[] =>
  childrenOf(pid).flatMap((child) => [child, ...descendantsOf(child)]);

/** What a process has open. */
const targetsOf = (pid: number) =>
  listed(() =>
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) =>
      listed(() => [readlinkSync(`/proc/${pid}/fd/${fd}`)]),
    ),
  );

/** Virtual machines that a process has open. */
const machinesOf = (pid: number) =>
  targetsOf(pid).filter((target) => target === "anon_inode:kvm-vm").length;

/** The cells that have virtual machines, and how many. */
const cellsOf = ({ pid }: ServeProcess) =>
  new Map(
    descendantsOf(pid)
      .map((cell): [number, number] => [cell, machinesOf(cell)])
      .filter(([, machines]) => machines > 0),
  );

const isRunning = (pid: number) =>
  listed(() => [readFileSync(`/proc/${pid}/status`, "latin1")]).some(
    (status) => !/^State:\s+Z/m.test(status),
  );

const guests = {
  waits: scratch.guest("waits", print("here\n", HALT)),
  ends: scratch.guest("ends", print("bye\n", TINY_GUESTS.poweroff)),
};
const config = { kernel: guests.waits, memoryMib: 64 };

const tap = `eiso${process.pid}`;
const addTap = ["tuntap", "add", tap, "mode", "tap", "vnet_hdr"];
const hasTap = reason === undefined && spawnSync("ip", addTap).status === 0;
afterAll(() => void (hasTap && spawnSync("ip", ["link", "del", tap])));

describe.skipIf(reason !== undefined)("estalo serve --isolate", () => {
  it("runs a microVM in a jail, with its console, its end and its events", async () => {
    await using server = await ServeProcess.start(["--isolate"]);
    await using client = new EstaloClient({ host: server.host });
    const events = client.events({ since: 0 });
    const drive = scratch.file("drive", Buffer.alloc(4096));
    const drives = [{ path: drive }];
    const { id } = await client.microvms.create({ config: { ...config, drives } });
    const [cell] = cellsOf(server).keys();
    const status = readFileSync(`/proc/${cell}/status`, "latin1");
    expect(status).toMatch(/^Uid:\t19000\d{5}\t/m);
    expect(status).toMatch(/^CapEff:\t0+$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    expect(machinesOf(server.pid)).toBe(0);
    let output = "";
    for await (const bytes of client.console(id)) {
      output += bytes;
      if (output.includes("here")) break;
    }
    expect((await client.microvms.metrics(id)).serial.transmittedBytes).toBe(5);
    expect((await client.microvms.pause(id)).state).toBe("paused");
    expect((await client.microvms.resume(id)).state).toBe("running");
    await client.microvms.delete(id, { force: true });
    await until(() => !isRunning(cell));

    const ending = await client.microvms.create({ config: { ...config, kernel: guests.ends } });
    expect(await client.microvms.wait(ending.id)).toMatchObject({
      state: "stopped",
      exit: { reason: "poweroff", exitCode: 0 },
    });
    expect(Buffer.from(await client.microvms.logs(ending.id)).toString()).toBe("bye\n");
    const seen: string[] = [];
    for await (const event of events) {
      if (event.microvm !== ending.id) continue;
      seen.push(event.type === "state" ? event.state : event.type);
      if (event.type === "exited") break;
    }
    expect(seen).toEqual(["created", "starting", "running", "stopping", "stopped", "exited"]);
  });

  it("loses the microVM of a cell that is killed, and no other", async () => {
    await using server = await ServeProcess.start(["--isolate"]);
    await using client = new EstaloClient({ host: server.host });
    const [first, second] = [
      await client.microvms.create({ config }),
      await client.microvms.create({ config }),
    ];
    const cells = cellsOf(server);
    expect([...cells.values()]).toEqual([1, 1]);
    process.kill([...cells.keys()][0], "SIGKILL");
    const states = async () => [
      (await client.microvms.get(first.id)).state,
      (await client.microvms.get(second.id)).state,
    ];
    await until(async () => (await states()).includes("failed"));
    expect((await states()).sort()).toEqual(["failed", "running"]);
    const [failed, other] = (await states())[0] === "failed" ? [first, second] : [second, first];
    expect((await client.microvms.get(failed.id)).exit).toMatchObject({
      reason: "failed",
      exitCode: 125,
    });
    expect((await client.microvms.pause(other.id)).state).toBe("paused");
    expect((await client.microvms.start(failed.id)).state).toBe("running");
  });

  it("leaves no process, mount or folder when it is killed", async () => {
    await using server = await ServeProcess.start(["--isolate"]);
    await using client = new EstaloClient({ host: server.host });
    await client.microvms.create({ config });
    await client.microvms.create({ config });
    const processes = descendantsOf(server.pid);
    const jails = join(server.stateFolder, "cells", "cell");
    expect(cellsOf(server).size).toBe(2);
    expect(readdirSync(jails).length).toBeGreaterThanOrEqual(2);
    await server.end("SIGKILL");
    await until(() => !processes.some(isRunning));
    await until(() => !existsSync(jails) || readdirSync(jails).length === 0);
    expect(readFileSync("/proc/self/mounts", "utf8")).not.toContain(server.stateFolder);
  });

  it("leaves nothing when it is killed at the moment that a cell's folder is made", async () => {
    for (let round = 0; round < 5; round++) {
      await using server = await ServeProcess.start(["--isolate"]);
      await using client = new EstaloClient({ host: server.host });
      const jails = join(server.stateFolder, "cells", "cell");
      const spare = readdirSync(jails);
      // It takes the spare one, in whose place another is made.
      const creating = client.microvms.create({ config }).catch(() => {});
      const isMade = () => readdirSync(jails).some((name) => !spare.includes(name));
      // A timer's turn would be too late.
      for (let tries = 0; !isMade() && tries < 1e6; tries++) await setImmediate();
      expect(isMade()).toBe(true);
      await server.end("SIGKILL");
      await creating;
      await until(() => !existsSync(jails) || readdirSync(jails).length === 0);
    }
  });

  it("has a process for each tenant, and it ends with the tenant's last microVM", async () => {
    await using server = await ServeProcess.start(["--isolate=tenant"]);
    await using client = new EstaloClient({ host: server.host });
    const drives = [
      { id: "same", path: scratch.file("shared", Buffer.alloc(4096)), readOnly: true },
    ];
    const make = (tenant: string) =>
      client.microvms.create({ config: { ...config, drives }, labels: { tenant } });
    const made = [await make("red"), await make("red"), await make("blue")];
    expect([...cellsOf(server).values()].sort()).toEqual([1, 2]);
    for (const { id } of made.slice(0, 2)) await client.microvms.delete(id, { force: true });
    await until(() => cellsOf(server).size === 1);
    expect((await client.microvms.get(made[2].id)).state).toBe("running");
  });

  it.skipIf(!hasTap)(
    "gives a cell an open tap, in a network of its own, and the new file of a drive (needs ip)",
    async () => {
      await using server = await ServeProcess.start(["--isolate"]);
      await using client = new EstaloClient({ host: server.host });
      const drives = [{ id: "data", path: scratch.file("small", Buffer.alloc(4096)) }];
      const networkInterfaces = [{ tap }];
      const { id } = await client.microvms.create({
        config: { ...config, drives, networkInterfaces },
      });
      const [cell] = cellsOf(server).keys();
      const open = () => targetsOf(cell);
      expect(open().filter((target) => target === "/dev/net/tun")).toHaveLength(1);
      expect(targetsOf(server.pid)).not.toContain("/dev/net/tun");
      expect(readFileSync(`/proc/${cell}/net/dev`, "utf8")).not.toContain(tap);
      expect(open().some((target) => target.endsWith("/small"))).toBe(true);
      const path_on_host = scratch.file("large", Buffer.alloc(8192));
      await client.configuration(id).patchDrive({ drive_id: "data", path_on_host });
      expect(open().some((target) => target.endsWith("/large"))).toBe(true);
      expect(open().some((target) => target.endsWith("/small"))).toBe(false);
      await client.microvms.delete(id, { force: true });
    },
  );

  it.skipIf(!passtIsUsable())(
    "gives a cell persistent memory, memory to plug and a user's network (needs passt)",
    async () => {
      await using server = await ServeProcess.start(["--isolate"]);
      await using client = new EstaloClient({ host: server.host });
      const { id } = await client.microvms.create({
        config: {
          ...config,
          pmem: [{ id: "data", path: scratch.file("pmem", Buffer.alloc(4096)) }],
          memoryHotplug: { totalSizeMib: 256 },
          networkInterfaces: [{ user: {} }],
        },
      });
      const [cell] = cellsOf(server).keys();
      expect(targetsOf(cell).some((target) => target.endsWith("/pmem"))).toBe(true);
      const door = client.configuration(id);
      const rate_limiter = { ops: { size: 1, refill_time: 100 } };
      await door.patchPmem({ id: "data", rate_limiter });
      await expect(door.patchPmem({ id: "none", rate_limiter })).rejects.toMatchObject({
        code: "ERR_ESTALO_PMEM_UNKNOWN",
      });
      await door.patchMemoryHotplug({ requested_size_mib: 128 });
      expect(await door.getMemoryHotplug()).toMatchObject({
        requested_size_mib: 128,
        plugged_size_mib: 0,
      });
      expect(await client.microvms.metrics(id)).toMatchObject({
        pmem: { data: { event_fails: 0 } },
        memoryHotplug: { plug_bytes: 0 },
        vsock: null,
      });
      await client.microvms.delete(id, { force: true });
    },
  );
});
