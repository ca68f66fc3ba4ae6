/** The agent through the server: its door over a played fleet, the client and its verbs, and the agent itself. */
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { GuestAgent } from "../../../src/actors/agent/guest-agent.js";
import { encodeFrame, encodePath, FRAME, FrameReader } from "../../../src/actors/agent/protocol.js";
import { checkVsock } from "../../../src/actors/config-vsock.js";
import { VsockFamily } from "../../../src/actors/vsock-family.js";
import { EstaloClient } from "../../../src/api/client/client.js";
import { openAgent } from "../../../src/api/v1/agent-socket.js";
import type { VirtioVsock } from "../../../src/devices/virtio/vsock.js";
import * as regs from "../../../src/devices/virtio/vsock.regs.js";
import { EstaloError } from "../../../src/errors.js";
import { AgentProcess } from "../../support/agent-process.js";
import { DoorHost } from "../../support/door-host.js";
import { FakePeer } from "../../support/fake-peer.js";
import { fleetCommand } from "../../support/fleet-command.js";
import { VsockMachine } from "../../support/vsock-machine.js";

const guest = new AgentProcess();
let host: DoorHost;
let client: EstaloClient;
let count = 0;
const fresh = (name: string) => join(guest.folder, `${name}${++count}`);
const estalo = (...words: string[]) => fleetCommand(`unix://${host.path}`, ...words);

beforeEach(async () => {
  host = await DoorHost.open();
  client = new EstaloClient({ host: `unix://${host.path}`, timeoutMs: 20_000 });
  const { id } = await client.microvms.create({ name: "web" });
  Object.assign(host.fleet.machine(id).devices, { vsock: { agent: guest.agent } });
  await client.microvms.create({ name: "mute" });
});
afterEach(async () => {
  await client[Symbol.asyncDispose]();
  await host.close();
  await guest.ended();
});
afterAll(() => guest[Symbol.dispose]());

describe("client.agent", () => {
  it("runs programs, with more input and output than is kept anywhere", async () => {
    const bytes = randomBytes(2 ** 21);
    const program = client.agent("web").exec(["cat"], { stdin: bytes });
    const hash = createHash("sha256");
    for await (const part of program.stdout) hash.update(part);
    expect(await program).toMatchObject({ exitCode: 0 });
    expect(hash.digest("hex")).toBe(createHash("sha256").update(bytes).digest("hex"));
    expect((await client.agent("web").health()).processes).toBeGreaterThan(1);
  });

  it("copies more than is kept anywhere, both ways", async () => {
    const [source, there, back] = [fresh("source"), fresh("there"), fresh("back")];
    mkdirSync(source);
    writeFileSync(join(source, "big"), randomBytes(2 ** 22));
    writeFileSync(join(source, "small"), "small");
    const { files } = client.agent("web");
    expect((await files.copyIn(source, there)).entries).toBe(3);
    expect((await files.copyOut(there, back)).entries).toBe(3);
    execFileSync("diff", ["-r", source, back]);
  });

  it("kills the program when the call is aborted", async () => {
    const abort = new AbortController();
    const program = client.agent("web").exec(["sleep", "1000"], { signal: abort.signal });
    const pid = await program.pid;
    abort.abort();
    await expect(program).rejects.toMatchObject({ code: "ERR_ESTALO_ABORTED" });
    const isGone = () => {
      try {
        return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
      } catch {
        return true;
      }
    };
    await vi.waitUntil(isGone, { timeout: 20_000 });
  });

  it("says which microVM it does not find, or has no agent", async () => {
    await expect(client.agent("nobody").health()).rejects.toMatchObject({
      code: "ERR_ESTALO_NOT_FOUND",
    });
    await expect(client.agent("mute").exec(["true"])).rejects.toMatchObject({
      code: "ERR_ESTALO_STATE",
      message: expect.stringContaining("it has no vsock device"),
    });
  });
});

describe("openAgent", () => {
  it("closes a client that sends text, and one that sends more than the guest takes", async () => {
    const text = new FakePeer();
    openAgent(host.fleet, "web", text).onMessage?.(Buffer.from("{}"), false);
    expect(text.closed?.code).toBe(1008);
    const much = new FakePeer();
    const session = openAgent(host.fleet, "web", much);
    for (let sent = 0; sent < 5; sent++) session.onMessage?.(new Uint8Array(2 ** 16), true);
    expect(much.closed?.code).toBe(1013);
  });
});

describe("a client's messages, however small", () => {
  /** A guest that takes nothing until it is told to, and the writes that it was given. */
  const busyGuest = () => {
    const writes: Buffer[] = [];
    const next: (() => void)[] = [];
    const stream = new Duplex({
      read() {},
      write(bytes, _encoding, written) {
        writes.push(bytes);
        next.push(written);
      },
    });
    const takeAll = async () => {
      for (let idle = 0; idle < 5; idle++) {
        await new Promise((resolve) => setImmediate(resolve));
        for (const written of next.splice(0)) {
          idle = 0;
          written();
        }
      }
    };
    return { stream, writes, takeAll };
  };
  const open = (connecting: Promise<Duplex>) => {
    const { id } = host.fleet.get("mute");
    const agent = new GuestAgent(() => connecting);
    Object.assign(host.fleet.machine(id).devices, { vsock: { agent } });
    const peer = new FakePeer();
    return { peer, session: openAgent(host.fleet, "mute", peer) };
  };
  const MESSAGES = 100_000;

  it("wait together, before there is a connection and behind what the guest has", async () => {
    const { stream, writes, takeAll } = busyGuest();
    let connect: (stream: Duplex) => void = () => {};
    const { peer, session } = open(
      new Promise((resolve) => {
        connect = resolve;
      }),
    );
    const sent: number[] = [];
    const send = () => {
      for (let count = 0; count < MESSAGES; count++) {
        session.onMessage?.(new Uint8Array(0), true);
        sent.push(sent.length % 251);
        session.onMessage?.(Uint8Array.of(sent.at(-1) as number), true);
      }
    };
    send();
    connect(stream);
    await vi.waitUntil(() => writes.length > 0, { timeout: 20_000 });
    send();
    await takeAll();
    expect(Buffer.concat(writes).equals(Buffer.from(sent))).toBe(true);
    expect(writes.length).toBeLessThan(10);
    expect(peer.closed).toBeUndefined();
    const told = peer.json.at(-1)?.bytes as number;
    expect(2 * MESSAGES - told).toBeLessThan(64 * 1024);
    session.onClose();
    expect(stream.destroyed).toBe(true);
  });
});

describe("the socket", () => {
  it("ends when the agent has answered and hung up, with everything sent", async () => {
    const peer = new FakePeer();
    const session = openAgent(host.fleet, "web", peer);
    session.onMessage?.(encodeFrame(FRAME.STAT, encodePath("/nowhere")), true);
    await vi.waitUntil(() => peer.closed !== undefined, { timeout: 20_000 });
    expect(peer.closed?.code).toBe(1000);
    const [frame] = [...new FrameReader().take(Buffer.from(peer.text, "latin1"))];
    expect(frame.type).toBe(FRAME.FAILED);
  });

  it("ends when the guest has accepted and reset the connection before anybody looked", async () => {
    const family = new VsockFamily(checkVsock({}));
    const m = VsockMachine.with((device) => family.requests[0].create(device) as VirtioVsock);
    const { id } = host.fleet.get("mute");
    Object.assign(host.fleet.machine(id).devices, { vsock: family });
    const peer = new FakePeer();
    openAgent(host.fleet, "mute", peer);
    const [{ hostPort, guestPort }] = m.got();
    // Both in one turn, as a doorbell's.
    setImmediate(() => {
      m.send({ hostPort, guestPort, operation: regs.RESPONSE });
      m.send({ hostPort, guestPort, operation: regs.RESET });
    });
    await vi.waitUntil(() => peer.closed !== undefined, { timeout: 20_000 });
    expect(peer.closed?.code).toBe(1000);
    family.close();
  });
});

describe("the verbs", () => {
  it("exec passes output, status and what it is given", async () => {
    const words = ["-e", "A=b c", "-w", "/tmp", "web", "--", "sh", "-c", 'echo "$A" $PWD; exit 3'];
    expect(await estalo("exec", ...words)).toEqual({ status: 3, stdout: "b c /tmp\n", stderr: "" });
    expect(await estalo("exec", "web", "nothing-like-it")).toMatchObject({
      status: 127,
      stderr: "nothing-like-it: No such file or directory\n",
    });
    expect((await estalo("exec", "-t", "web", "tty")).stdout).toMatch(/^\/dev\/pts\/\d+\r\n$/);
  });

  it("exec ends by a signal while it waits for a guest that is not up", async () => {
    const machine = host.fleet.machine(host.fleet.get("mute").id);
    const refused = new EstaloError("ERR_ESTALO_VSOCK", "no");
    const agent = new GuestAgent(() => Promise.reject(refused));
    let isAsked = false;
    const openStream = (signal?: AbortSignal) => {
      isAsked = true;
      return agent.openStream(signal);
    };
    Object.assign(machine.devices, { vsock: { agent: { openStream } } });
    const running = estalo("exec", "mute", "true");
    await vi.waitUntil(() => isAsked, { timeout: 20_000 });
    process.emit("SIGTERM", "SIGTERM");
    expect((await running).status).toBe(143);
  });

  it("cp copies in and out", async () => {
    const [source, there, back] = [fresh("source"), fresh("there"), fresh("back")];
    writeFileSync(source, "content");
    expect(await estalo("cp", source, `web:${there}`)).toMatchObject({ status: 0, stdout: "" });
    const { stdout } = await estalo("cp", "--json", `web:${there}`, back);
    expect(JSON.parse(stdout)).toEqual({ entries: 1, bytes: 7, skipped: 0 });
    expect(readFileSync(back, "utf8")).toBe("content");
  });

  it.each([
    ["exec", "web"],
    ["exec"],
    ["exec", "-e", "novalue", "web", "true"],
    ["cp", "a"],
    ["cp", "a", "b"],
    ["cp", "web:a", "web:b"],
    ["exec", "mute", "true"],
    ["exec", "nobody", "true"],
  ])("say what is wrong with %s %s", async (...words) => {
    expect(await estalo(...words)).toMatchObject({ status: 125, stdout: "" });
  });
});
