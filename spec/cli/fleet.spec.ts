/** The verbs that ask a server: what they ask, what they print, and their statuses. */
import { relative } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FleetEvent, Microvm, MicrovmMetrics } from "../../src/api/client/types.js";
import { skippedBytes } from "../../src/cli/fleet/console.js";
import { eventLine } from "../../src/cli/fleet/events.js";
import { complete } from "../../src/cli/fleet/index.js";
import { statusText } from "../../src/cli/fleet/ps.js";
import { useOf } from "../../src/cli/fleet/stats.js";
import { printable, size, span, tableText } from "../../src/cli/fleet/table.js";
import { captured, fleetCommand } from "../support/fleet-command.js";
import {
  type PlayedReply,
  PlayedServer,
  playedMicrovm,
  problem,
} from "../support/played-server.js";
import { Scratch } from "../support/tiny-guest.js";

let server: PlayedServer;
let fleet: Record<string, unknown>[];

/** A server with `fleet`, which knows paging's first page, ids and names. */
beforeEach(async () => {
  server = await PlayedServer.open();
  fleet = [
    playedMicrovm({ id: "aaa111", name: "web", labels: { team: "blue", on: "" } }),
    playedMicrovm({ id: "aab222", name: "db", state: "paused", config: { memoryMib: 2048 } }),
  ];
  server.play = ({ method, url, body }) => answer(method, new URL(url, "http://x"), body);
});

afterEach(() => server[Symbol.asyncDispose]());

const estalo = (...words: string[]) => fleetCommand(server.host, ...words);

function answer(method: string, url: URL, body: string): PlayedReply {
  const [, , , id, verb] = url.pathname.split("/");
  if (url.pathname === "/v1/info") {
    const guest = { version: "1", bootArgs: "quiet root=/dev/vda ro" };
    return { body: { version: "1", apiVersion: "v1", guest } };
  }
  if (id === undefined && method === "POST") {
    return { status: 201, body: playedMicrovm({ id: "new", ...JSON.parse(body) }) };
  }
  if (id === undefined) {
    const states = url.searchParams.get("state")?.split(",");
    const items = fleet.filter(({ state }) => states?.includes(state as string) ?? true);
    return { body: { items, next: null } };
  }
  const microvm = fleet.find((one) => one.id === id || one.name === id);
  if (microvm === undefined) {
    return { status: 404, body: problem("ERR_ESTALO_NOT_FOUND", `there is no microVM ${id}`) };
  }
  if (method === "DELETE") return { status: 204, body: "" };
  if (verb === "wait") return { body: { ended: true, microvm } };
  if (verb === "logs") {
    return { headers: { "content-type": "application/octet-stream" }, body: "one\ntwo\nthree\n" };
  }
  if (verb === "pause" && microvm.state === "paused") {
    return { status: 409, body: problem("ERR_ESTALO_STATE", "it is paused") };
  }
  return { body: microvm };
}

describe("estalo ps", () => {
  it("shows what runs, as a table", async () => {
    fleet[0].startedAtMs = Date.now() - 125_000;
    fleet[0].createdAtMs = Date.now() - 3 * 3_600_000;
    fleet[1].startedAtMs = null;
    fleet[1].createdAtMs = Date.now() - 1000;
    expect(await estalo("ps")).toEqual({
      status: 0,
      stdout: [
        "ID       NAME   STATUS              CREATED        VCPUS     MEMORY",
        "aaa111   web    running 2 minutes   3 hours ago        1    128 MiB",
        "aab222   db     paused              1 second ago       1   2048 MiB",
        "",
      ].join("\n"),
      stderr: "",
    });
    expect(server.asked).toEqual([
      "GET /v1/microvms?state=starting%2Crunning%2Cpaused%2Cstopping&limit=1000",
    ]);
  });

  it("prints ids, whole ones when asked", async () => {
    fleet = [playedMicrovm({ id: "0123456789abcdef" })];
    expect((await estalo("ps", "-q")).stdout).toBe("0123456789ab\n");
    expect((await estalo("ps", "-q", "--no-trunc")).stdout).toBe("0123456789abcdef\n");
    expect((await estalo("ps")).stdout).toContain("0123456789ab  ");
  });

  it("prints JSON Lines", async () => {
    const { stdout } = await estalo("ps", "-a", "--json");
    expect(
      stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual(fleet);
    expect(server.asked).toEqual(["GET /v1/microvms?limit=1000"]);
  });

  it.each<[string[], string[], string]>([
    [["state=paused"], ["aab222"], "?state=paused&limit=1000"],
    [["name=e"], ["aaa111"], ""],
    [["name=e", "name=d"], ["aaa111", "aab222"], ""],
    [["id=aab"], ["aab222"], ""],
    [["label=team"], ["aaa111"], ""],
    [["label=team", "label=none"], [], ""],
    [["label=team=blue"], ["aaa111", "aab222"], "label=team%3Dblue"],
  ])("filters by %j", async (filters, ids, asked) => {
    const words = filters.flatMap((filter) => ["--filter", filter]);
    const { stdout } = await estalo("ps", "-q", ...words);
    expect(stdout.split("\n").filter((line) => line !== "")).toEqual(ids);
    expect(server.asked[0]).toContain(asked);
  });

  it.each([
    [["--filter", "stat=running"], "did you mean state=?"],
    [["--filter", "state=runing"], "did you mean running?"],
    [["--filter", "state"], "--filter is KEY=VALUE"],
    [["--fliter", "x"], "did you mean --filter?"],
    [["web"], "estalo ps takes no operand"],
  ])("refuses %j and says what was meant", async (words, said) => {
    const { status, stderr } = await estalo("ps", ...words).catch((error) => ({
      status: 125,
      stderr: `${error.message} ${error.hint}`,
    }));
    expect(status).toBe(125);
    expect(stderr).toContain(said);
  });

  it("says when there is no server, and what to do", async () => {
    await server.down();
    expect(await estalo("ps")).toEqual({
      status: 125,
      stdout: "",
      stderr: `estalo: connect to ${server.host}: ENOENT [ERR_ESTALO_CONNECT]\nhint: is estalo serve running? ESTALO_HOST or --host names another server\n`,
    });
  });
});

describe("naming a microVM", () => {
  it("takes the beginning of an id that no other has", async () => {
    expect(await estalo("start", "aab")).toMatchObject({ status: 0, stdout: "aab\n" });
    expect(server.asked).toEqual([
      "POST /v1/microvms/aab/start",
      "GET /v1/microvms?limit=1000",
      "POST /v1/microvms/aab222/start",
    ]);
    const { status, stderr } = await estalo("start", "aa");
    expect(status).toBe(125);
    expect(stderr).toBe(
      "estalo: 2 microVMs have an id that begins with aa [ERR_ESTALO_USAGE]\nhint: it may be aaa111 (web) or aab222 (db)\n",
    );
  });

  it("that is not there says what was perhaps meant", async () => {
    expect((await estalo("inspect", "wbe")).stderr).toContain("did you mean web?");
    expect((await estalo("inspect", "something")).stderr).toContain("estalo ps -a lists");
    expect((await estalo("stop")).stderr).toContain("estalo stop MICROVM… needs a microVM");
    expect((await estalo("top", "a", "b")).stderr).toContain("takes one microVM");
  });
});

describe("start, stop, kill, rm, pause, resume", () => {
  it("do it to each, and print each", async () => {
    for (const verb of ["start", "stop", "kill", "resume"]) {
      expect(await estalo(verb, "web", "db")).toEqual({
        status: 0,
        stdout: "web\ndb\n",
        stderr: "",
      });
    }
    expect(server.asked.filter((one) => one.includes("/stop")).sort()).toEqual([
      "POST /v1/microvms/db/stop",
      "POST /v1/microvms/web/stop",
    ]);
  });

  it("go on after one that cannot, and end with 125", async () => {
    expect(await estalo("pause", "web", "db", "none")).toEqual({
      status: 125,
      stdout: "web\n",
      stderr:
        "estalo: it is paused [ERR_ESTALO_STATE]\nestalo: there is no microVM none [ERR_ESTALO_NOT_FOUND]\nhint: estalo ps -a lists the microVMs\n",
    });
  });

  it("say how: a time, by force", async () => {
    let said = "";
    const { play } = server;
    server.play = (request) => {
      if (request.url.endsWith("/stop")) said = request.body;
      return play(request);
    };
    await estalo("stop", "-t", "30", "web");
    expect(said).toBe('{"timeoutMs":30000}');
    await estalo("rm", "-f", "web");
    expect(server.asked.at(-1)).toBe("DELETE /v1/microvms/web?force=true");
    await estalo("rm", "web");
    expect(server.asked.at(-1)).toBe("DELETE /v1/microvms/web");
    expect((await estalo("stop", "-t", "soon", "web")).stderr).toContain(
      "--time is a whole number",
    );
  });

  it("print records as JSON Lines", async () => {
    const { stdout } = await estalo("start", "--json", "web", "db");
    expect(stdout).toBe(fleet.map((one) => `${JSON.stringify(one)}\n`).join(""));
    expect((await estalo("rm", "--json", "web")).stdout).toBe('{"id":"web","deleted":true}\n');
  });
});

describe("inspect and wait", () => {
  it("print what the server knows, and exit codes", async () => {
    expect(JSON.parse((await estalo("inspect", "web", "db")).stdout)).toEqual(fleet);
    expect((await estalo("inspect", "--json", "web")).stdout).toBe(`${JSON.stringify(fleet[0])}\n`);
    expect(await estalo("inspect", "none", "web")).toMatchObject({ status: 125 });
    fleet[0].exit = { reason: "poweroff", guestStatus: 0, error: null, exitCode: 0 };
    fleet[1].exit = { reason: "poweroff", guestStatus: 7, error: null, exitCode: 7 };
    expect(await estalo("wait", "web", "db", "web")).toMatchObject({
      status: 7,
      stdout: "0\n7\n0\n",
    });
    expect(await estalo("wait", "web")).toMatchObject({ status: 0, stdout: "0\n" });
    fleet[0].exit = null;
    fleet[0].state = "lost";
    fleet[0].lostReason = "the server was killed";
    expect(await estalo("wait", "web")).toMatchObject({
      status: 125,
      stderr: expect.stringContaining("it is lost, the server was killed"),
    });
  });

  it("waits for those that it can", async () => {
    fleet = ["a", "b", "c"].map((name) =>
      playedMicrovm({
        id: name,
        name,
        exit: { reason: "poweroff", exitCode: name === "c" ? 7 : 0 },
      }),
    );
    expect(await estalo("wait", "none", "b", "c")).toMatchObject({
      status: 125,
      stdout: "0\n7\n",
      stderr: expect.stringContaining("ERR_ESTALO_NOT_FOUND"),
    });
  });

  it("knows how one with --rm ended while another ran", async () => {
    const exit = { reason: "poweroff", guestStatus: 3, error: null, exitCode: 3 };
    fleet[0].exit = { ...exit, exitCode: 0 };
    let isFirstOver = () => {};
    const firstIsOver = new Promise<void>((resolve) => {
      isFirstOver = resolve;
    });
    const { play } = server;
    server.play = async (request) => {
      if (request.url.startsWith("/v1/microvms/web/wait")) await firstIsOver;
      if (!request.url.startsWith("/v1/microvms/db/wait"))
        return (await play(request)) as PlayedReply;
      fleet[1].exit = exit;
      const reply = (await play(request)) as PlayedReply;
      fleet.pop();
      isFirstOver();
      return reply;
    };
    expect(await estalo("wait", "web", "db")).toMatchObject({ status: 3, stdout: "0\n3\n" });
  });
});

describe("create and run -d", () => {
  async function specOf(...words: string[]): Promise<Record<string, unknown>> {
    let spec: Record<string, unknown> = {};
    const { play } = server;
    server.play = (request) => {
      if (request.method === "POST") spec = JSON.parse(request.body);
      return play(request);
    };
    const { status, stderr } = await estalo(...words);
    expect(stderr).toBe("");
    expect(status).toBe(0);
    return spec;
  }

  it("asks for the default guest with a command on its console", async () => {
    const words = ["-m", "256", "-c2", "--name", "web", "-e", "A=b c", "--", "echo", "hi, you"];
    expect(
      await specOf("run", "-d", "-l", "team=blue", "--restart", "on-failure:3", ...words),
    ).toEqual({
      name: "web",
      labels: { team: "blue" },
      config: {
        bootArgs:
          "quiet root=/dev/vda ro estalo.stdio=console estalo.env=A=b%20c estalo.hostname=web estalo.cmd=echo,hi%2C%20you",
        drives: [],
        vsock: {},
        vcpuCount: 2,
        memoryMib: 256,
      },
      restart: { policy: "on-failure", maxRetries: 3 },
      autoRemove: false,
      start: true,
    });
  });

  it("makes names of files whole for a server of this host", async () => {
    const spec = await specOf("create", "--kernel", "vmlinux", "--rootfs", "r.img:ro", "--rm");
    const here = process.cwd();
    expect(spec).toMatchObject({
      config: {
        kernel: `${here}/vmlinux`,
        drives: [{ id: "rootfs", path: `${here}/r.img`, readOnly: true, isRoot: true }],
      },
      autoRemove: true,
      start: false,
    });
    const own = await specOf("create", "--rootfs", "/r.img", "--drive", "d.img");
    expect(own.config).toMatchObject({
      bootArgs: "quiet",
      drives: [{ path: "/r.img" }, { path: `${here}/d.img` }],
    });
    expect(own.config).not.toHaveProperty("kernel");
  });

  it("makes whole what a configuration file names", async () => {
    using scratch = new Scratch();
    const file = (name: string) => scratch.file(name, new Uint8Array(512));
    const [kernel, initrd, disk, store] = ["vmlinux", "initrd", "disk.img", "store.img"].map(file);
    const socket = `${scratch.path}/vsock.sock`;
    const here = (path: string) => relative(process.cwd(), path);
    const config = {
      "boot-source": { kernel_image_path: here(kernel), initrd_path: here(initrd) },
      drives: [{ drive_id: "disk", path_on_host: here(disk), is_root_device: false }],
      pmem: [{ id: "store", path_on_host: here(store), read_only: true }],
      vsock: { guest_cid: 3, uds_path: here(socket) },
    };
    const path = scratch.file("vm.json", JSON.stringify(config));
    expect((await specOf("create", "--config-file", path)).config).toMatchObject({
      kernel,
      initrd,
      drives: [{ id: "disk", path: disk }],
      pmem: [{ id: "store", path: store, readOnly: true }],
      vsock: { guestCid: 3, udsPath: socket },
    });
  });

  it("prints the id, or the record", async () => {
    expect((await estalo("run", "-d", "--", "true")).stdout).toBe("new\n");
    expect(JSON.parse((await estalo("create", "--json")).stdout)).toMatchObject({ id: "new" });
  });

  it.each([
    [["run", "-d", "--console"], "--console does not go with --detach"],
    [["run", "-d", "--timeout", "3"], "--timeout does not go with --detach"],
    [["create", "--restart", "often"], "--restart is no, on-failure, on-failure:TIMES or always"],
    [["create", "--restart", "always:3"], "--restart is no"],
    [["create", "--label", "x"], "--label is KEY=VALUE"],
    [["create", "--kernel", "k", "--", "ls"], "a command is for the guest that comes with Estalo"],
  ])("refuses %j", async (words, said) => {
    const { status, stderr } = await estalo(...words);
    expect(status).toBe(125);
    expect(stderr).toContain(said);
    expect(server.asked).toEqual([]);
  });
});

describe("logs", () => {
  it("shows all, or the last lines", async () => {
    expect((await estalo("logs", "web")).stdout).toBe("one\ntwo\nthree\n");
    expect((await estalo("logs", "--tail", "2", "web")).stdout).toBe("two\nthree\n");
    expect((await estalo("logs", "-n", "0", "web")).stdout).toBe("");
  });

  it("follows until the microVM ends, from the last lines on", async () => {
    server.onSocket = (socket) => {
      for (const part of ["on", "e\ntwo\nth", "ree\n", "four\n"]) socket.send(Buffer.from(part));
      socket.close(1000);
    };
    expect((await estalo("logs", "-f", "web")).stdout).toBe("one\ntwo\nthree\nfour\n");
    expect((await estalo("logs", "-f", "-n", "1", "web")).stdout).toBe("three\nfour\n");
    expect(server.asked.at(-1)).toBe("WS /v1/microvms/aaa111/console?history=true&write=false");
    server.onSocket = (socket) => socket.close(4409, "it was never started");
    expect(await estalo("logs", "-f", "web")).toMatchObject({
      status: 125,
      stderr: expect.stringContaining("it was never started [ERR_ESTALO_STATE]"),
    });
  });

  it.each([
    ["a\nb\n", 1, "b\n"],
    ["a\nb", 1, "b"],
    ["a\nb\n", 2, "a\nb\n"],
    ["a\nb\n", 9, "a\nb\n"],
    ["\nb\n", 1, "b\n"],
    ["\nb\n", 2, "\nb\n"],
    ["\n\n\n", 1, "\n"],
    ["\n", 1, "\n"],
    ["", 1, ""],
    ["a", 0, ""],
  ])("counts the lines of %j: the last %i are %j", (text, lines, expected) => {
    const bytes = Buffer.from(text);
    expect(bytes.subarray(skippedBytes(bytes, lines)).toString()).toBe(expected);
  });
});

describe("console", () => {
  it("shows it until the microVM ends, and ends as it did", async () => {
    fleet[0].state = "stopped";
    fleet[0].exit = { reason: "poweroff", guestStatus: 3, error: null, exitCode: 3 };
    server.onSocket = (socket) => {
      socket.send(Buffer.from("bye\n"));
      socket.close(1000);
    };
    expect(await estalo("console", "--no-stdin", "web")).toEqual({
      status: 3,
      stdout: "bye\n",
      stderr: "",
    });
    expect(server.asked).toContain("WS /v1/microvms/aaa111/console?history=true&write=false");
    server.onSocket = (socket) => socket.close(1013, "output is lost");
    expect(await estalo("console", "--no-stdin", "--no-history", "web")).toMatchObject({
      status: 125,
      stderr: expect.stringContaining("ERR_ESTALO_CONNECT"),
    });
  });
});

describe("events", () => {
  const events = [
    { sequence: 4, atMs: 0, microvm: "aaa111", name: "web", type: "created" },
    { sequence: 5, atMs: 1, microvm: "aab222", name: "db", type: "booted" },
    { sequence: 6, atMs: 2, microvm: "aaa111", name: "web", type: "state", state: "running" },
  ];

  beforeEach(() => {
    server.onSocket = (socket) => {
      socket.send('{"type":"hello","oldest":4,"newest":6}');
      for (const event of events) socket.send(JSON.stringify(event));
    };
  });

  it("are lines or JSON Lines, up to now when asked", async () => {
    expect((await estalo("events", "--since", "3", "--no-follow")).stdout).toBe(
      [
        "1970-01-01T00:00:00.000Z 4 web (aaa111) created",
        "1970-01-01T00:00:00.001Z 5 db (aab222) booted",
        "1970-01-01T00:00:00.002Z 6 web (aaa111) state state=running",
        "",
      ].join("\n"),
    );
    const { stdout } = await estalo("events", "--since", "3", "--no-follow", "--json");
    expect(stdout).toBe(events.map((event) => `${JSON.stringify(event)}\n`).join(""));
  });

  it("are chosen by type and microVM", async () => {
    const chosen = async (...filters: string[]) => {
      const words = filters.flatMap((filter) => ["-f", filter]);
      const { stdout } = await estalo("events", "--since=3", "--no-follow", "--json", ...words);
      return [...stdout.matchAll(/"sequence":(\d)/g)].map(([, sequence]) => Number(sequence));
    };
    expect(await chosen("microvm=web")).toEqual([4, 6]);
    expect(await chosen("type=booted", "type=state")).toEqual([5, 6]);
    expect(await chosen("type=booted", "microvm=aaa")).toEqual([]);
  });

  it.each([
    [["--filter", "type=boted"], "did you mean booted?"],
    [["--since", "yesterday"], "--since is a whole number"],
    [["--no-follow"], "--no-follow needs --since"],
  ])("refuse %j", async (words, said) => {
    expect(await estalo("events", ...words)).toMatchObject({
      status: 125,
      stderr: expect.stringContaining(said),
    });
  });

  it("that are gone are said", async () => {
    server.onSocket = (socket) => socket.close(4410, "gap");
    expect(await estalo("events", "--since", "1")).toMatchObject({
      status: 125,
      stderr: expect.stringContaining("ERR_ESTALO_EVENTS_GAP"),
    });
  });

  it("are shown without what a terminal obeys", () => {
    const event = { sequence: 1, atMs: 0, microvm: "a", name: "\x1b[2J", type: "created" };
    expect(eventLine(event as FleetEvent)).toBe(
      "1970-01-01T00:00:00.000Z 1 \ufffd[2J (a) created\n",
    );
  });
});

describe("stats and top", () => {
  const metrics = (change: object = {}): MicrovmMetrics =>
    ({
      id: "aaa111",
      state: "running",
      atMs: 0,
      vcpus: [
        { exitIoIn: 1, exitIoOut: 2, exitMmioRead: 3, exitMmioWrite: 4, exitOther: 5, cpuMs: 10 },
      ],
      drives: { rootfs: { read_bytes: 100, write_bytes: 0, read_count: 1, write_count: 0 } },
      serial: { transmittedBytes: 7, receivedBytes: 0 },
      ...change,
    }) as unknown as MicrovmMetrics;

  it("are rates between two looks, also over a new run", () => {
    const later = metrics({
      atMs: 2000,
      vcpus: [
        {
          exitIoIn: 21,
          exitIoOut: 2,
          exitMmioRead: 3,
          exitMmioWrite: 4,
          exitOther: 5,
          cpuMs: 1010,
        },
      ],
      drives: { rootfs: { read_bytes: 2148, write_bytes: 0, read_count: 5, write_count: 0 } },
      serial: { transmittedBytes: 3, receivedBytes: 0 },
    });
    expect(useOf(fleet[0] as unknown as Microvm, metrics(), later)).toMatchObject({
      name: "web",
      cpuPercent: 50,
      exitsPerSecond: 10,
      readBytesPerSecond: 1024,
      consoleBytesPerSecond: 1.5,
      drives: [{ drive: "rootfs", readsPerSecond: 2 }],
    });
  });

  it("look twice, and print a table or JSON Lines", async () => {
    let atMs = 0;
    const { play } = server;
    server.play = (request) => {
      if (!request.url.endsWith("/metrics")) return play(request);
      atMs += 500;
      return { body: metrics({ atMs }) };
    };
    fleet = [fleet[0]];
    expect(await estalo("stats", "--no-stream")).toEqual({
      status: 0,
      stdout: [
        "ID       NAME   STATE       CPU    MEMORY   EXITS/S    READ   WRITTEN   CONSOLE",
        "aaa111   web    running   0.0 %   128 MiB         0   0 B/s     0 B/s     0 B/s",
        "",
      ].join("\n"),
      stderr: "",
    });
    const { stdout } = await estalo("stats", "--no-stream", "--json", "web");
    expect(JSON.parse(stdout)).toMatchObject({
      id: "aaa111",
      exitsPerSecond: 0,
      vcpus: [{ vcpu: 0 }],
    });
    expect((await estalo("top", "--no-stream", "web")).stdout).toBe(
      [
        "web (aaa111): running, 0.0 % CPU",
        "",
        "VCPU     CPU   EXITS/S   IN/S   OUT/S   MMIO R/S   MMIO W/S   OTHER/S",
        "   0   0.0 %         0      0       0          0          0         0",
        "",
        "DRIVE     READ   WRITTEN   READS/S   WRITES/S",
        "rootfs   0 B/s     0 B/s         0          0",
        "",
      ].join("\n"),
    );
    expect(await estalo("stats", "none")).toMatchObject({ status: 125 });
  });

  it("end when what they watch has ended, or never ran", async () => {
    fleet[0].state = "stopped";
    expect(await estalo("top", "web")).toMatchObject({ status: 0, stdout: "it does not run\n" });
    expect(await estalo("stats", "web")).toMatchObject({ status: 0 });
  });
});

describe("__complete", () => {
  const completed = (...words: string[]) =>
    captured(() => complete([words[0], `--host=${server.host}`, ...words.slice(1)], 30_000));

  it("names what a verb can be given, without what it was given", async () => {
    expect(await completed("stop")).toEqual({ status: 0, stdout: "web\ndb\n", stderr: "" });
    expect(await completed("stop", "web")).toMatchObject({ stdout: "db\n" });
    expect(await completed("resume")).toMatchObject({ stdout: "db\n" });
    expect(await completed("start")).toMatchObject({ stdout: "" });
    expect(await completed("ps")).toMatchObject({ stdout: "" });
    expect(await completed("nonsense")).toMatchObject({ status: 0, stdout: "" });
  });

  it("is silent without a server, with one that lies, and with an address that is none", async () => {
    const silent = { status: 0, stdout: "", stderr: "" };
    server.play = () => ({ body: "<html>", headers: { "content-type": "text/html" } });
    expect(await completed("stop")).toEqual(silent);
    server.play = () => undefined;
    expect(await captured(() => complete(["stop", "--host", server.host], 50))).toEqual(silent);
    await server.down();
    expect(await completed("stop")).toEqual(silent);
    expect(await captured(() => complete(["stop", "--host", "nowhere"], 1000))).toEqual(silent);
  });
});

describe("tables", () => {
  it("are coloured by row, without counting colours as text", () => {
    const columns = [
      { title: "A", cell: (row: string) => row, colour: () => 31 },
      { title: "N", cell: () => "1", isNumber: true },
    ];
    expect(tableText(columns, ["xx"], true)).toBe("A    N\n\x1b[31mxx\x1b[0m   1\n");
    expect(tableText(columns, [])).toBe("A   N\n");
  });

  it("say times and sizes in one unit", () => {
    expect([0, 999, 1000, 61_000, 7_200_000, 86_400_000 * 3].map(span)).toEqual([
      ...["less than a second", "less than a second", "1 second", "1 minute", "2 hours", "3 days"],
    ]);
    expect([0, 1023, 1024, 1536, 200 * 1024, 2 ** 40 * 5000].map(size)).toEqual([
      ...["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "200 KiB", "5000 TiB"],
    ]);
    expect(printable("a\u202eb\r\n")).toBe("a\ufffdb\ufffd\ufffd");
  });

  it("say how a microVM is", () => {
    const text = (change: object) =>
      statusText(playedMicrovm(change) as unknown as Microvm, 1_700_000_061_000);
    expect(text({})).toBe("running 1 minute");
    expect(text({ restartCount: 2 })).toBe("running 1 minute, restarted 2×");
    expect(text({ state: "configured", startedAtMs: null })).toBe("configured");
    const exit = { reason: "failed", guestStatus: null, error: null, exitCode: 125 };
    expect(text({ state: "failed", exit, endedAtMs: 1_700_000_060_000 })).toBe(
      "failed (125) 1 second ago",
    );
  });
});
