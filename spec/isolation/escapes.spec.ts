/**
 * Code planted in a cell of a server, which may make any system call and has the cell's two sockets, tries to get
 * out: past the seccomp filters (as if there were none), under them, and by what it says to the server.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { checkNothing } from "../../src/isolation/cell-checks.js";
import { CellLink, type CellProcess } from "../../src/isolation/cell-link.js";
import { encodeFrame, FRAME } from "../../src/isolation/frames.js";
import { startCell } from "../../src/isolation/jailed-cell.js";
import { cellProgram } from "../../src/jail/program.js";
import {
  ATTEMPTS,
  type Attempt,
  FORBIDDEN,
  helpers,
  type Outside,
  outsideOf,
  tryAll,
  unexpected,
} from "../support/escapes.js";
import { isRoot, JAIL_USER, makeBase, until } from "../support/jails.js";
import { canBuildPlant, Plant } from "../support/plant.js";

/** Root, or where users may make namespaces: then every cell is this user's. */
const canJail = isRoot || spawnSync("unshare", ["--user", "true"]).status === 0;
const USER = isRoot
  ? { uid: JAIL_USER, gid: JAIL_USER }
  : { uid: process.geteuid?.() as number, gid: process.getegid?.() as number };
const BUNDLE = "/estalo/dist/cell.js";
const jailsIn = (folder: string) => ({
  folder,
  cgroups: [],
  cgroupVersion: "1",
});

/** Without SO_PEERPIDFD; or the process is found, and nothing can be done to it. */
const REFUSED = ["ENOPROTOOPT", "EPERM", "EINVAL", "ENOSYS"];
/** Socket 0 brings open files from the server, 1 carries frames, 2 is standard error. */
const CELL_ATTEMPTS: readonly Attempt[] = [
  ...ATTEMPTS,
  ...[0, 1, 2].flatMap((fd): Attempt[] => [
    [`end the server by socket ${fd}`, `byPeer(${fd}, n.pidfd_send_signal, 9, 0, 0)`, REFUSED],
    [`take a file of the server's by socket ${fd}`, `byPeer(${fd}, n.pidfd_getfd, 0, 0)`, REFUSED],
    [`enter the server's network by socket ${fd}`, `byPeer(${fd}, n.setns, 0x40000000)`, REFUSED],
  ]),
  ["take a file that nobody sent", `call(n.recvmsg, 0, message(byte).head, 64)`, ["EAGAIN"]],
  ["open its socket anew", `call(n.openat, -100, s("/proc/self/fd/1"), 2)`, ["ENOENT"]],
  ["enter the server's folder", `call(n.openat, -100, s("/../../../state"), 0)`, ["ENOENT"]],
];

let plant: Plant | undefined;
beforeAll(() => {
  if (canJail && canBuildPlant) plant = new Plant();
});
afterAll(() => plant?.[Symbol.dispose]());

/** A folder that was there before would not go with the cell: what is planted comes after the start. */
const UNTIL_PLANTED = `while (!require("node:fs").existsSync("/plant.node"));`;

/** A cell that runs `code` instead of, or beside, what cells run. */
function plantedCell(base: string, code: string): CellProcess {
  const program = cellProgram();
  const command = [program.command[0], "-e", `${UNTIL_PLANTED} ${code}`, "--"];
  const process = startCell(jailsIn(base), "one", USER, { ...program, command });
  onTestFinished(() => process.kill());
  plant?.into(process.root);
  return process;
}

/** An honest cell with the same user, and what else is outside. */
async function setUp(): Promise<{ base: string; neighbour: CellLink; outside: Outside }> {
  const base = makeBase();
  const process = startCell(jailsIn(base), "two", USER);
  onTestFinished(() => process.kill());
  const neighbour = new CellLink(process);
  await neighbour.ready;
  return { base, neighbour, outside: await outsideOf(process.pid as number, plant as Plant) };
}

/** Whether a cell answers. */
const answer = (link: CellLink) =>
  link.call(1, "pause", {}, checkNothing).catch(({ code }: { code: string }) => code);

const planted = (outside: Outside) => `${helpers(outside, "/cell", BUNDLE, CELL_ATTEMPTS)}
  const byte = Buffer.alloc(1);
  const byPeer = (socket, number, ...words) => {
    const found = peer(socket);
    return found < 0 ? found : call(number, found, ...words);
  };`;

const message = (value: unknown) =>
  encodeFrame(FRAME.MESSAGE, 0, Buffer.from(JSON.stringify(value)));
const HELLO = message({ hello: 1 });
const saying = (bytes: Buffer) =>
  `require("node:fs").writeSync(1, Buffer.from("${bytes.toString("base64")}", "base64"));`;

describe.runIf(canJail && canBuildPlant)(
  "code in a cell (needs namespaces and a C compiler)",
  () => {
    it("past the seccomp filters cannot get out", async () => {
      const { base, outside } = await setUp();
      const code = `${planted(outside)}
      fs.writeFileSync("/run/part", JSON.stringify(${tryAll(CELL_ATTEMPTS)}));
      fs.renameSync("/run/part", "/run/results");
      setInterval(() => {}, 1000)`;
      const process = plantedCell(base, code);
      const file = join(process.root, "run/results");
      await until(() => existsSync(file), "it has tried all");
      const results = JSON.parse(readFileSync(file, "utf8")) as number[];
      expect(unexpected(CELL_ATTEMPTS, results)).toEqual([]);
      expect(results).toHaveLength(CELL_ATTEMPTS.length);
    });

    it.each(FORBIDDEN)("under the filters dies when it tries to %s", async (_, attempt, name) => {
      const outside = { hostPid: process.pid, jailPid: process.pid, port: 1 };
      const code = `${planted(outside)} import(bundle).then(() => ${attempt})`;
      const cell = plantedCell(makeBase(), code);
      expect(await cell.ended).toMatch(
        new RegExp(`^status 148: .*bad syscall .*, ${name}, in thread cell`),
      );
    });

    it("has three sockets to its server and nothing of the host's", async () => {
      const { neighbour } = await setUp();
      const { pid, root } = neighbour.process;
      const links = readdirSync(`/proc/${pid}/fd`).map((fd) =>
        readlinkSync(`/proc/${pid}/fd/${fd}`),
      );
      const known = /^(socket:|pipe:|anon_inode:)|^\/dev\/(null|urandom)$/;
      expect(links.filter((link) => !known.test(link))).toEqual([]);
      expect(links.filter((link) => link.startsWith("socket:"))).toHaveLength(3);
      const names = readdirSync(root).filter((name) => !name.startsWith("lib"));
      expect(names).toEqual(["cell", "cell.pid", "dev", "estalo", "firecracker.pid", "run"]);
    });

    it.each([
      ["no frame", Buffer.alloc(64, 0xff)],
      ["a frame without end", Buffer.from([1, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0])],
      ["no JSON", encodeFrame(FRAME.MESSAGE, 0, Buffer.from("{"))],
      ["an answer that nobody waits for", message({ reply: 1, value: true })],
      ["bytes of a stream that nobody opened", encodeFrame(FRAME.BYTES, 7, Buffer.alloc(9))],
      ["a new kind of error", message({ reply: 1, error: { code: "x", message: "" } })],
    ])("ends when it says %s, and no other cell does", async (_, bytes) => {
      const { base, neighbour } = await setUp();
      const code = `${saying(HELLO)} ${saying(bytes)} setInterval(() => {}, 1000)`;
      const link = new CellLink(plantedCell(base, code));
      await link.gone;
      expect(link.lost).toMatchObject({ code: "ERR_ESTALO_CELL" });
      expect(await answer(neighbour)).toBe("ERR_ESTALO_STATE");
    });

    it("says nothing of another cell's microVM", async () => {
      const { base, neighbour } = await setUp();
      const heard: unknown[] = [];
      const hear = (what: unknown) => void heard.push(what);
      neighbour.listen(1, { onEvent: hear, onExit: hear, onLost: hear });
      const lie = message({ vm: 1, event: { type: "state", state: "failed" } });
      const code = `${saying(Buffer.concat([HELLO, lie, lie]))} process.exit()`;
      const link = new CellLink(plantedCell(base, code));
      await link.gone;
      expect(await answer(neighbour)).toBe("ERR_ESTALO_STATE");
      expect(heard).toEqual([]);
    });

    it("does not keep the server from others by never stopping to speak", async () => {
      const { base, neighbour } = await setUp();
      const link = new CellLink(plantedCell(base, `for (;;) ${saying(HELLO)}`));
      await link.ready;
      expect(await answer(neighbour)).toBe("ERR_ESTALO_STATE");
      expect(link.lost).toBeUndefined();
    });

    it("sends the server no files", async () => {
      const { base, outside } = await setUp();
      const code = `${planted(outside)}
      const fd = fs.openSync("/run/planted", "w");
      const hello = Buffer.from("${HELLO.toString("base64")}", "base64");
      const results = [0, 2, 1].map((socket) => {
        let last = 0;
        for (let i = 0; i < 200 && last >= 0; i++) {
          const bytes = socket === 1 ? hello : byte;
          const given = message(bytes, fd);
          last = call(n.sendmsg, socket, given.head, 0x40);
        }
        return last;
      });
      fs.writeFileSync("/run/part", JSON.stringify(results));
      fs.renameSync("/run/part", "/run/results");
      setInterval(() => {}, 1000)`;
      const link = new CellLink(plantedCell(base, code));
      await link.ready;
      const file = join(link.process.root, "run/results");
      await until(() => existsSync(file), "it has sent them");
      const results = JSON.parse(readFileSync(file, "utf8")) as number[];
      expect(results.at(-1)).toBe(HELLO.length);
      const links = readdirSync("/proc/self/fd").map((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`);
        } catch {
          return "";
        }
      });
      expect(links.filter((target) => target.includes("planted"))).toEqual([]);
      expect(link.lost).toBeUndefined();
    });
  },
);
