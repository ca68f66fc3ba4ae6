/**
 * The verbs that ask a server, and the client, as a user meets them: the built command, `estalo serve` as a
 * process of its own, and the default guest.
 */
import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { EstaloClient, type FleetEvent } from "estalo/client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Doing, execute, type Outcome } from "../support/guest-child.js";
import { reasonToSkip } from "../support/guest-host.js";
import { ServeProcess } from "../support/serve-process.js";

const COMMAND = fileURLToPath(new URL("../../bin/estalo.js", import.meta.url));

const reason = reasonToSkip("spec/guest/client.spec.ts");

let server: ServeProcess;
beforeAll(async () => {
  if (reason === undefined) server = await ServeProcess.start();
});
afterAll(() => server?.[Symbol.asyncDispose]());

const estalo = (words: readonly string[], doing: Doing = {}): Promise<Outcome> =>
  execute(process.execPath, [COMMAND, ...words], {
    ...doing,
    env: { ESTALO_HOST: server.host, ...doing.env },
  });

/** What a good command prints. */
async function printed(words: readonly string[], doing?: Doing): Promise<string> {
  const { status, stdout, stderr } = await estalo(words, doing);
  expect(stderr).toBe("");
  expect(status).toBe(0);
  return stdout;
}

describe("estalo/client", () => {
  it("has nothing native in it", () => {
    const bundle = readFileSync(new URL("../../dist/client.js", import.meta.url), "utf8");
    const imported = [...bundle.matchAll(/\b(?:from|import)\s*\(?\s*"([^"]+)"/g)].map(
      ([, name]) => name,
    );
    expect(imported).toContain("ws");
    expect(imported.filter((name) => name !== "ws" && !name.startsWith("node:"))).toEqual([]);
    expect(bundle).not.toContain("estalo.node");
  });
});

describe.skipIf(reason !== undefined)("a guest on the server", () => {
  it("goes its way from run -d to rm", async () => {
    const script = "echo ready; read line; echo got $line; read line; exit 5";
    const words = ["--name", "web", "--label", "team=blue", "--", "sh", "-c", script];
    const id = (await printed(["run", "-d", ...words])).trim();
    expect(id).toMatch(/^[0-9a-f]{12}$/);
    expect(await printed(["ps"])).toMatch(new RegExp(`^${id} +web +(starting|running) `, "m"));
    expect(await printed(["ps", "-q", "--filter", "label=team=blue"])).toBe(`${id}\n`);

    // A console that is a pipe: types when the guest is ready, and shows what it answers.
    await using client = new EstaloClient({ host: server.host });
    const followed = estalo(["logs", "-f", "web"]);
    const joined = await estalo(["console", "web"], {
      keepsInput: true,
      when: [
        "ready",
        (child) => {
          child.stdin.write("one\n");
          let shown = "";
          child.stdout.on("data", (chunk) => {
            const before = shown;
            shown += chunk;
            const isAnswer = shown.includes("got one") && !before.includes("got one");
            if (isAnswer) child.stdin.write("two\n");
          });
        },
      ],
    });
    expect(joined.stdout).toContain("got one");
    expect(joined.status, joined.stderr).toBe(5);
    expect((await followed).stdout).toContain("got one");
    expect(await estalo(["wait", "web"])).toEqual({ status: 5, stdout: "5\n", stderr: "" });
    expect(await printed(["logs", "--tail", "2", id.slice(0, 6)])).toContain("got one");

    const [microvm] = JSON.parse(await printed(["inspect", "web"]));
    expect(microvm).toMatchObject({
      id,
      name: "web",
      labels: { team: "blue" },
      state: "stopped",
      exit: { reason: "poweroff", guestStatus: 5, exitCode: 5 },
    });
    expect(await client.microvms.get("web")).toEqual(microvm);
    expect(await printed(["ps", "-a"])).toMatch(/web +stopped \(5\)/);

    const lines = (await printed(["events", "--since", "0", "--no-follow", "--json"])).trimEnd();
    const events = lines.split("\n").map((line) => JSON.parse(line) as FleetEvent);
    const own = events.filter((event) => event.microvm === id);
    expect(own.map(({ type }) => type)).toEqual(
      expect.arrayContaining(["created", "state", "booted", "command-exited", "exited"]),
    );
    expect(own.flatMap((event) => (event.type === "exited" ? [event.exit.exitCode] : []))).toEqual([
      5,
    ]);
    expect(await printed(["rm", "web"])).toBe("web\n");
    expect(await printed(["ps", "-aq"])).toBe("");
  });

  it("is stopped, killed and left, on a terminal too", async () => {
    const id = (await printed(["create", "--name", "shell"])).trim();
    expect(await printed(["start", "shell"])).toBe("shell\n");
    const session = `${process.execPath} ${COMMAND} console shell; echo status $?`;
    const left = await execute("script", ["-qec", session, "/dev/null"], {
      keepsInput: true,
      env: { SHELL: "/bin/sh", ESTALO_HOST: server.host },
      when: ["# ", (child) => child.stdin.write("\x10\x11")],
    });
    expect(left.stdout).toContain("left the console; estalo console shell comes back");
    expect(left.stdout).toContain("status 0");
    expect(JSON.parse(await printed(["stats", "--no-stream", "--json"]))).toMatchObject({
      id,
      state: "running",
      cpuPercent: expect.any(Number),
    });
    expect(await printed(["pause", "shell"])).toBe("shell\n");
    expect(await printed(["resume", "shell"])).toBe("shell\n");
    const { status, stderr } = await estalo(["rm", "shell"]);
    expect(status).toBe(125);
    expect(stderr).toContain("ERR_ESTALO_STATE");
    expect(await printed(["__complete", "stop"], { env: { ESTALO_HOST: server.host } })).toMatch(
      /^(shell\n)?$/,
    );
    expect(await printed(["stop", "-t", "1", "shell"])).toBe("shell\n");
    expect(await printed(["rm", "-f", "shell"])).toBe("shell\n");
  });

  it("that is gone with its server is lost, and events go on over its restart", async () => {
    await using client = new EstaloClient({ host: server.host });
    const events = client.events({ since: 0 });
    const { id } = await client.microvms.create({ name: "victim", labels: { a: "b" } });
    const isOf = (event: FleetEvent) => event.microvm === id;
    let first: FleetEvent = (await events.next()).value;
    while (!isOf(first)) first = (await events.next()).value;
    expect(first.type).toBe("created");
    const console = text(client.console(id)).catch((error) => error);
    await server.end("SIGKILL");
    expect(await console).toMatchObject({ code: "ERR_ESTALO_CONNECT" });
    const down = await estalo(["ps"]);
    expect(down.status).toBe(125);
    expect(down.stderr).toContain("hint: is estalo serve running?");
    await server.start();
    const sequences = [first.sequence];
    for await (const event of events) {
      sequences.push(event.sequence);
      if (event.type === "lost") break;
    }
    expect(sequences).toEqual(sequences.map((_, index) => sequences[0] + index));
    expect(await printed(["ps", "-a"])).toMatch(/victim +lost/);
    expect((await estalo(["wait", "victim"])).stderr).toContain("it is lost");
    expect(await printed(["rm", "victim"])).toBe("victim\n");
  });
});
