/**
 * What the host lends to cells of `estalo serve --isolate`: control groups of either version, and user namespaces
 * where the server has no root. With guests of a few instructions; needs root.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { EstaloClient } from "../../src/api/client/client.js";
import { parseHierarchies } from "../../src/jail/cgroups.js";
import { reasonToSkip } from "../support/guest-host.js";
import { until } from "../support/jails.js";
import { NOBODY, nobody } from "../support/nobody.js";
import { ServeProcess } from "../support/serve-process.js";
import { HALT, print, Scratch, TINY_GUESTS } from "../support/tiny-guest.js";

const reason = reasonToSkip("spec/guest/isolate-host.spec.ts", true);

/** Where the server makes the group of a cell for this controller; `undefined`: there is no such controller. */
function groupsOf(controller: string): { folder: string; version: 1 | 2 } | undefined {
  const version = existsSync("/sys/fs/cgroup/cgroup.controllers") ? 2 : 1;
  const found = parseHierarchies(readFileSync("/proc/mounts", "utf8"))
    .filter((one) => one.version === version)
    .find(({ mount, options }) => {
      if (version === 1) return options.includes(controller);
      const all = readFileSync(join(mount, "cgroup.controllers"), "latin1");
      return all.trim().split(" ").includes(controller);
    });
  return found && { folder: join(found.mount, "cell"), version };
}

const pids = groupsOf("pids");
const memory = groupsOf("memory");
const hasSwap = readFileSync("/proc/swaps", "latin1").trim().split("\n").length > 1;
if (reason === undefined && !(pids && memory)) {
  console.warn("spec/guest/isolate-host.spec.ts leaves out control groups that this host has not");
}

/** Some hosts forbid their users the namespaces that a jail is made of. */
const usersMayIsolate =
  reason === undefined &&
  spawnSync("setpriv", [
    ...[`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", "--inh-caps=-all", "--"],
    ...["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "true"],
  ]).status === 0;

const scratch = new Scratch();
// Another user's server opens what is in there.
chmodSync(scratch.path, 0o755);
afterAll(() => scratch[Symbol.dispose]());
const u32 = (value: number) => [0, 8, 16, 24].map((shift) => (value >> shift) & 0xff);
/** Writes to each of 48 Ki pages from 32 MiB on: mov edi; mov ecx; again: mov byte [rdi], 1; add edi, 4096; loop again. */
const FILL = [
  ...[0xbf, ...u32(32 << 20), 0xb9, ...u32(48 << 10)],
  ...[0xc6, 0x07, 0x01, 0x81, 0xc7, ...u32(4096), 0xe2, 0xf5],
];
const guests = {
  waits: scratch.guest("waits", print("here\n", HALT)),
  ends: scratch.guest("ends", print("bye\n", TINY_GUESTS.poweroff)),
  fills: scratch.guest("fills", [...FILL, ...print("full\n", HALT)]),
};
const config = { kernel: guests.waits, memoryMib: 64 };

const groupsIn = (folder: string) =>
  existsSync(folder)
    ? readdirSync(folder, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => join(folder, name))
    : [];

/** Names of a group's processes. */
const inmatesOf = (group: string) =>
  readFileSync(join(group, "cgroup.procs"), "latin1")
    .split("\n")
    .filter(Boolean)
    .map((pid) => readFileSync(`/proc/${pid}/comm`, "latin1"));

describe.skipIf(reason !== undefined)("control groups of cells (need root)", () => {
  it.runIf(pids)("hold each cell, and go with it (needs the controller pids)", async () => {
    const { folder } = pids as { folder: string };
    await using server = await ServeProcess.start(["--isolate", "--isolate-cgroup", "pids.max=77"]);
    await using client = new EstaloClient({ host: server.host });
    const { id } = await client.microvms.create({ config });
    await until(() => groupsIn(folder).length === 2, "the microVM's cell and a spare one");
    for (const group of groupsIn(folder)) {
      const limit = () => readFileSync(join(group, "pids.max"), "latin1");
      await until(() => limit() === "77\n", "the cell's limit");
      await until(() => inmatesOf(group).includes("cell\n"), "the cell is in it");
    }
    await client.microvms.delete(id, { force: true });
    await until(() => groupsIn(folder).length === 1, "the spare one is left");
    await server.end();
    await until(() => groupsIn(folder).length === 0, "none is left");
  });

  it.runIf(memory && !hasSwap)(
    "end a cell whose guest takes more, and no other (needs the controller memory, no swap)",
    async () => {
      const file = memory?.version === 2 ? "memory.max" : "memory.limit_in_bytes";
      const limit = `${file}=${160 << 20}`;
      await using server = await ServeProcess.start(["--isolate", "--isolate-cgroup", limit]);
      await using client = new EstaloClient({ host: server.host });
      const other = await client.microvms.create({ config });
      const hog = await client.microvms.create({
        config: { kernel: guests.fills, memoryMib: 256 },
      });
      expect(await client.microvms.wait(hog.id)).toMatchObject({
        state: "failed",
        exit: { exitCode: 125, error: { code: "ERR_ESTALO_CELL" } },
      });
      expect((await client.microvms.get(other.id)).state).toBe("running");
    },
  );

  it("that the host has not end the server at its start, and nothing is left", async () => {
    const words = ["--isolate", "--isolate-cgroup", "nonsense.max=1"];
    await expect(ServeProcess.start(words)).rejects.toThrow(
      /microVMs cannot be isolated here: Controller nonsense is unavailable/,
    );
  });
});

describe.skipIf(reason !== undefined)("a server without root (the spec needs root)", () => {
  it.skipIf(usersMayIsolate)(
    "says so where users may not make namespaces (here they may)",
    async () => {
      await expect(ServeProcess.start(["--isolate"], nobody())).rejects.toThrow(
        /cannot be isolated here: .*user namespace/,
      );
    },
  );
});

describe.skipIf(!usersMayIsolate)("a server without root (users may make namespaces)", () => {
  it("runs microVMs in cells of its own user, with no rights and no processes but theirs", async () => {
    await using server = await ServeProcess.start(["--isolate"], nobody());
    await using client = new EstaloClient({ host: server.host });
    const kernel = guests.ends;
    const ending = await client.microvms.create({ config: { ...config, kernel } });
    expect(await client.microvms.wait(ending.id)).toMatchObject({
      state: "stopped",
      exit: { reason: "poweroff" },
    });
    expect(Buffer.from(await client.microvms.logs(ending.id)).toString()).toBe("bye\n");
    const { id } = await client.microvms.create({ config });
    const jails = join(server.stateFolder, "cells/cell");
    const look = (name: string) => {
      try {
        const proc = `/proc/${readFileSync(join(jails, name, "root/cell.pid"), "latin1")}`;
        const [status, links] = [`${proc}/status`, `${proc}/net/dev`].map((file) =>
          readFileSync(file, "latin1"),
        );
        return { status, links: links.trim().split("\n") };
      } catch {
        // It is being made, or taken away.
        return { status: "", links: [] };
      }
    };
    let cells: ReturnType<typeof look>[] = [];
    // The spare one has only just been started.
    await until(() => {
      cells = readdirSync(jails).map(look);
      return cells.length > 0 && cells.every(({ status }) => /^Seccomp:\t2$/m.test(status));
    }, "all cells are confined");
    for (const { status, links } of cells) {
      expect(status).toMatch(new RegExp(`^Uid:\\t${NOBODY}\\t${NOBODY}\\t`, "m"));
      expect(status).toMatch(/^CapEff:\t0+$/m);
      expect(status).toMatch(/^NoNewPrivs:\t1$/m);
      expect(status).toMatch(/^NSpid:\t\d+\t1$/m);
      expect(links).toHaveLength(3);
    }
    await client.microvms.delete(id, { force: true });
    await server.end();
    await until(() => !existsSync(jails) || readdirSync(jails).length === 0, "no jail is left");
  });

  it("has no cells where its user may not open what they need", async () => {
    const user = nobody();
    const [unshare, mount, sh, flag, script, ...rest] = user.command;
    const closed = script.replace("mknod -m 666", "mknod -m 600");
    await using server = await ServeProcess.start(["--isolate"], {
      ...user,
      command: [unshare, mount, sh, flag, closed, ...rest],
    });
    await using client = new EstaloClient({ host: server.host });
    await expect(client.microvms.create({ config })).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_ESTALO_KVM/),
    });
  });
});
