import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { checkVsock } from "../../../src/actors/config-vsock.js";
import { type VsockConnect, VsockFamily } from "../../../src/actors/vsock-family.js";
import type { VirtioVsock } from "../../../src/devices/virtio/vsock.js";
import * as regs from "../../../src/devices/virtio/vsock.regs.js";
import { type Packet, VsockMachine } from "../../support/vsock-machine.js";

let folder: string;
let udsPath: string;
let family: VsockFamily;
let m: VsockMachine;
const sockets: Socket[] = [];
/** Packets that nobody has asked for yet. */
const backlog: Packet[] = [];

beforeEach(() => {
  backlog.length = 0;
  folder = mkdtempSync(join(tmpdir(), "estalo-vsock-"));
  udsPath = join(folder, "v.sock");
  family = new VsockFamily(checkVsock({ udsPath }));
  m = VsockMachine.with((host) => family.requests[0].create(host) as VirtioVsock);
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  family.close();
  rmSync(folder, { recursive: true });
});

/** A program that connects and says these parts, one after the other. */
async function program(...parts: string[]): Promise<Socket> {
  const socket = connect({ path: udsPath, allowHalfOpen: true });
  sockets.push(socket);
  socket.on("error", () => {});
  await once(socket, "connect");
  for (const part of parts) {
    socket.write(part);
    await new Promise(setImmediate);
  }
  return socket;
}

/** Packets of the device until one is of this operation. */
async function packet(operation: number): Promise<Packet> {
  const found = () => {
    backlog.push(...m.got());
    return backlog.findIndex((candidate) => candidate.operation === operation);
  };
  await vi.waitUntil(() => found() >= 0, { timeout: 20_000, interval: 2 });
  return backlog.splice(0, found() + 1).at(-1) as Packet;
}

async function text(socket: Socket, wanted: RegExp): Promise<string> {
  let all = "";
  socket.on("data", (bytes) => {
    all += bytes;
  });
  await vi.waitUntil(() => wanted.test(all), { timeout: 20_000, interval: 2 });
  return all;
}

describe("VsockSockets", () => {
  it("is there as soon as it is made, and gone after it was closed", () => {
    expect(existsSync(udsPath)).toBe(true);
    family.close();
    expect(existsSync(udsPath)).toBe(false);
  });

  it("leaves alone what has its path by then", () => {
    rmSync(udsPath);
    writeFileSync(udsPath, "somebody else's");
    family.close();
    expect(existsSync(udsPath)).toBe(true);
  });

  it("refuses a path that is taken", () => {
    expect(() => new VsockFamily(checkVsock({ udsPath }))).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_VSOCK_SOCKET",
        data: expect.objectContaining({ errno: "EEXIST" }),
      }),
    );
  });

  it.each([
    ["at once", ["CONNECT 52\n"]],
    ["in pieces", ["conn", "ECT  5", "2", "\n"]],
    ["with bytes for the guest behind it", ["CONNECT 52\nearly"]],
    ["in a line that ends as on Windows", ["CONNECT 52\r\n"]],
    ["with blanks around the words", [" Connect\t 52 \t\n"]],
    ["with further words", ["connect 52 please, if you can.\n"]],
    ["with a long number", ["CONNECT +0000000000000000000052\n"]],
  ])("connects a program that says so %s", async (_what, parts) => {
    const socket = await program(...parts);
    const { hostPort, guestPort } = await packet(regs.REQUEST);
    expect(guestPort).toBe(52);
    m.send({ hostPort, guestPort, operation: regs.RESPONSE });
    expect(await text(socket, /\n/)).toBe(`OK ${hostPort}\n`);
    socket.write("late");
    let sent = "";
    await vi.waitUntil(() => {
      for (const { payload } of m.got()) sent += Buffer.from(payload).toString();
      return sent.endsWith("late");
    });
    expect(sent).toBe(parts[0].endsWith("early") ? "earlylate" : "late");
    m.send({
      hostPort,
      guestPort,
      operation: regs.DATA,
      payload: Buffer.from("hi"),
      forwarded: sent.length,
    });
    await text(socket, /hi$/);
  });

  it("carries what a program said that ended its side before the guest accepted", async () => {
    const socket = await program("CONNECT 52\nall there is");
    socket.end();
    const { hostPort } = await packet(regs.REQUEST);
    await new Promise((resolve) => setTimeout(resolve, 50));
    m.send({ hostPort, guestPort: 52, operation: regs.RESPONSE });
    expect(Buffer.from((await packet(regs.DATA)).payload).toString()).toBe("all there is");
    expect((await packet(regs.SHUTDOWN)).flags).toBe(regs.SHUTDOWN_SEND_MASK);
    m.send({ hostPort, guestPort: 52, operation: regs.DATA, payload: Buffer.from("answer") });
    await text(socket, /answer$/);
  });

  it.each([
    ["something else", "HELLO\n"],
    ["no port", "CONNECT \n"],
    ["a port beyond 2^32", "CONNECT 4294967296\n"],
    ["a port that is no number", "CONNECT 52a\n"],
    ["a port below 0", "CONNECT -1\n"],
    ["one word", "CONNECT52\n"],
    ["a first word of its own", "GET CONNECT 52\n"],
    ["a longer line", "CONNECT 52 please, if you can...\n"],
    ["a line without an end", "CONNECT 0000000000000000000000000052"],
    ["binary", "\0\0\0\0\n"],
  ])("hangs up on a program that says %s", async (_what, line) => {
    const socket = await program(line);
    await vi.waitUntil(() => socket.closed || socket.readableEnded, { timeout: 20_000 });
    expect(m.got()).toEqual([]);
    expect(family.metrics).toMatchObject({ conn_event_fails: 1 });
  });

  it("asks functions before it asks the guest, and hangs up on whom they refuse", async () => {
    const decisions: (() => void)[] = [];
    const asked: VsockConnect[] = [];
    const leave = family.middleware.use(async (connect, next) => {
      asked.push(connect);
      if (await new Promise((resolve) => decisions.push(() => resolve(connect.port === 52)))) {
        await next();
      }
    });
    const refused = await program("CONNECT 53\n");
    const passed = await program("CONNECT 52\nearly");
    await vi.waitUntil(() => asked.length === 2, { timeout: 20_000 });
    leave();
    expect(asked[0]).toEqual({ direction: "to-guest", port: 53, guestPort: 53 });
    expect(m.got()).toEqual([]);
    for (const decide of decisions) decide();
    const { hostPort, guestPort } = await packet(regs.REQUEST);
    m.send({ hostPort, guestPort, operation: regs.RESPONSE });
    expect(await text(passed, /\n/)).toBe(`OK ${hostPort}\n`);
    expect(Buffer.from((await packet(regs.DATA)).payload).toString()).toBe("early");
    refused.resume();
    await vi.waitUntil(() => refused.readableEnded || refused.closed, { timeout: 20_000 });
    expect(guestPort).toBe(52);
    expect(family.metrics).toMatchObject({ conn_event_fails: 1 });
  });

  it("carries what a program said that ended its side before functions decided", async () => {
    let decide = () => {};
    const leave = family.middleware.use(async (_connect, next) => {
      await new Promise<void>((resolve) => {
        decide = resolve;
      });
      await next();
    });
    const socket = await program("CONNECT 52\nall there is");
    socket.end();
    await new Promise((resolve) => setTimeout(resolve, 50));
    leave();
    decide();
    const { hostPort } = await packet(regs.REQUEST);
    m.send({ hostPort, guestPort: 52, operation: regs.RESPONSE });
    expect(Buffer.from((await packet(regs.DATA)).payload).toString()).toBe("all there is");
    expect((await packet(regs.SHUTDOWN)).flags).toBe(regs.SHUTDOWN_SEND_MASK);
    m.send({ hostPort, guestPort: 52, operation: regs.DATA, payload: Buffer.from("answer") });
    await text(socket, /answer$/);
  });

  it("hangs up when the guest refuses, as its client expects that tries again", async () => {
    const socket = await program("CONNECT 52\n");
    const { hostPort } = await packet(regs.REQUEST);
    m.send({ hostPort, guestPort: 52, operation: regs.RESET });
    socket.resume();
    await vi.waitUntil(() => socket.readableEnded || socket.closed, { timeout: 20_000 });
  });

  it("connects the guest to the program that listens at its port's path", async () => {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.push(socket);
      socket.on("data", (bytes) => socket.write(bytes));
      socket.on("end", () => socket.end("bye"));
    });
    server.listen(`${udsPath}_7`);
    await once(server, "listening");
    const ports = { hostPort: 7, guestPort: 99 };
    m.send({ ...ports, operation: regs.REQUEST });
    await packet(regs.RESPONSE);
    m.send({ ...ports, operation: regs.DATA, payload: Buffer.from("echo") });
    expect(Buffer.from((await packet(regs.DATA)).payload).toString()).toBe("echo");
    m.send({ ...ports, operation: regs.SHUTDOWN, flags: regs.SHUTDOWN_SEND_MASK, forwarded: 4 });
    expect(Buffer.from((await packet(regs.DATA)).payload).toString()).toBe("bye");
    expect((await packet(regs.SHUTDOWN)).flags).toBe(3);
    server.close();
  });

  it("keeps few sockets of connections that a guest has closed, whose programs do not read", async () => {
    const own = join(folder, "few.sock");
    const few = new VsockFamily(checkVsock({ udsPath: own, connectionsMax: 2 }));
    const its = VsockMachine.with((host) => few.requests[0].create(host) as VirtioVsock);
    const server = createServer({ pauseOnConnect: true }, (socket) => sockets.push(socket));
    const piece = Buffer.alloc(4096);
    let answered = 0;
    let taken = 0;
    const look = () => {
      for (const { operation, forwarded } of its.got()) {
        if (operation === regs.RESPONSE || operation === regs.RESET) answered = operation;
        taken = forwarded;
      }
    };
    const ask = async (guestPort: number) => {
      answered = 0;
      its.send({ hostPort: 7, guestPort, operation: regs.REQUEST });
      const isAnswered = () => {
        look();
        return answered !== 0;
      };
      await vi.waitUntil(isAnswered, { timeout: 20_000, interval: 1 });
      return answered === regs.RESPONSE;
    };
    try {
      await new Promise<void>((resolve) => server.listen(`${own}_7`, resolve));
      let guestPort = 1;
      for (; guestPort < 20 && (await ask(guestPort)); guestPort++) {
        const ports = { hostPort: 7, guestPort };
        for (let sent = 0, idle = 0; idle < 20; idle++) {
          for (; sent + piece.length - taken <= regs.BUFFER_BYTES; sent += piece.length) {
            its.send({ ...ports, operation: regs.DATA, payload: piece });
            look();
            idle = 0;
          }
          await new Promise((resolve) => setTimeout(resolve, 1));
          look();
        }
        its.send({ ...ports, operation: regs.SHUTDOWN, flags: 3 });
        look();
      }
      expect(guestPort).toBeGreaterThan(4);
      expect(guestPort).toBeLessThan(20);
      // What was said is still there for who reads it after all, and then there is room again.
      for (const socket of sockets) socket.resume();
      const areRead = () => sockets.every(({ readableEnded }) => readableEnded);
      await vi.waitUntil(areRead, { timeout: 20_000 });
      await vi.waitUntil(() => ask(++guestPort), { timeout: 20_000 });
    } finally {
      few.close();
      server.close();
    }
  });

  it("refuses the guest a port where nobody listens", async () => {
    m.send({ hostPort: 8, guestPort: 99, operation: regs.REQUEST });
    await packet(regs.RESET);
    expect(family.metrics).toMatchObject({ conn_event_fails: 1 });
  });

  it("resets the guest when its program dies, and hangs up when the guest resets", async () => {
    const first = await program("CONNECT 52\n");
    const one = await packet(regs.REQUEST);
    m.send({ ...one, operation: regs.RESPONSE, payload: new Uint8Array(0) });
    await text(first, /OK/);
    first.destroy();
    const { operation, flags } = (await vi.waitUntil(
      () => m.got().find((it) => it.operation !== 0),
      {
        timeout: 20_000,
      },
    )) as Packet;
    expect(operation === regs.RESET || (operation === regs.SHUTDOWN && flags > 0)).toBe(true);
    const second = await program("CONNECT 53\n");
    const two = await packet(regs.REQUEST);
    m.send({ ...two, operation: regs.RESPONSE, payload: new Uint8Array(0) });
    await text(second, /OK/);
    m.send({ hostPort: two.hostPort, guestPort: 53, operation: regs.RESET });
    await vi.waitUntil(() => second.readableEnded || second.closed, { timeout: 20_000 });
  });

  it("stops reading from a program while the guest takes nothing, and loses nothing", async () => {
    const socket = await program("CONNECT 52\n");
    const { hostPort } = await packet(regs.REQUEST);
    const ports = { hostPort, guestPort: 52 };
    m.send({ ...ports, operation: regs.RESPONSE, buffer: 1000 });
    await text(socket, /OK/);
    const all = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => index % 253));
    let isWritten = false;
    socket.write(all, () => {
      isWritten = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(isWritten).toBe(false);
    const parts: Uint8Array[] = [];
    let got = 0;
    await vi.waitUntil(
      () => {
        for (const { payload } of m.got()) {
          parts.push(payload);
          got += payload.length;
        }
        m.send({ ...ports, operation: regs.CREDIT_UPDATE, buffer: 200_000, forwarded: got });
        return got === all.length;
      },
      { timeout: 60_000, interval: 1 },
    );
    expect(Buffer.concat(parts).equals(all)).toBe(true);
  });

  /** A program that is connected to this port of the guest's. */
  async function connected(guestPort: number) {
    const socket = await program(`CONNECT ${guestPort}\n`);
    const { hostPort } = await packet(regs.REQUEST);
    m.send({ hostPort, guestPort, operation: regs.RESPONSE });
    const [greeting] = await once(socket, "data");
    expect(String(greeting)).toMatch(/^OK \d+\n$/);
    return { socket, ports: { hostPort, guestPort } };
  }

  it("holds a guest back whose program never reads, loses nothing, and lets others go on", async () => {
    const deaf = await connected(52);
    deaf.socket.pause();
    const piece = Buffer.from(Array.from({ length: 4096 }, (_, index) => index % 251));
    let sent = 0;
    let taken = 0;
    /** Sends for as long as there is room; whether there was any. */
    const send = () => {
      for (const packet of m.got()) {
        if (packet.guestPort === 52) taken = packet.forwarded;
        else backlog.push(packet);
      }
      const before = sent;
      for (; sent + piece.length - taken <= regs.BUFFER_BYTES; sent += piece.length) {
        m.send({ ...deaf.ports, operation: regs.DATA, payload: piece });
      }
      return sent > before;
    };
    let idle = 0;
    await vi.waitUntil(
      () => {
        idle = send() ? 0 : idle + 1;
        return idle > 50;
      },
      { timeout: 60_000, interval: 2 },
    );
    // The kernel's buffer and ours are full, and nothing is kept beyond them.
    expect(sent).toBeLessThan(2 ** 20);
    const other = await connected(53);
    m.send({ ...other.ports, operation: regs.DATA, payload: Buffer.from("still here") });
    await text(other.socket, /still here$/);
    const parts: Buffer[] = [];
    let got = 0;
    deaf.socket.on("data", (bytes: Buffer) => {
      parts.push(bytes);
      got += bytes.length;
    });
    deaf.socket.resume();
    await vi.waitUntil(() => got === sent, { timeout: 60_000, interval: 2 });
    const all = Buffer.concat(Array.from({ length: sent / piece.length }, () => piece));
    expect(Buffer.concat(parts).equals(all)).toBe(true);
    await vi.waitUntil(send, { timeout: 60_000 });
  });

  it("keeps a guest's small packets together for a program that does not read", async () => {
    const write = vi.spyOn(Socket.prototype, "write");
    const { socket, ports } = await connected(52);
    socket.pause();
    const piece = Buffer.alloc(24 * 1024, "a");
    let sent = 0;
    let taken = 0;
    const send = (payload: Buffer) => {
      for (const { forwarded } of m.got()) taken = forwarded;
      if (sent + payload.length - taken > regs.BUFFER_BYTES) return false;
      m.send({ ...ports, operation: regs.DATA, payload });
      sent += payload.length;
      return true;
    };
    // Until the kernel takes no more, with room for single bytes left.
    let idle = 0;
    await vi.waitUntil(
      () => {
        idle = send(piece) ? 0 : idle + 1;
        return idle > 50;
      },
      { timeout: 60_000, interval: 2 },
    );
    const before = write.mock.calls.length;
    let small = 0;
    while (small < 4096 && send(Buffer.from("b"))) small++;
    await new Promise(setImmediate);
    expect(small).toBe(4096);
    expect(write.mock.calls.length).toBe(before);
    m.send({ ...ports, operation: regs.SHUTDOWN, flags: regs.SHUTDOWN_SEND_MASK });
    const all = await buffer(socket);
    write.mockRestore();
    expect(all.length).toBe(sent);
    expect(all.subarray(sent - small).equals(Buffer.alloc(small, "b"))).toBe(true);
  });

  it("closes the socket of a guest that closes, with all it said, while its program is stuck in a write", async () => {
    const { socket, ports } = await connected(52);
    let failure: NodeJS.ErrnoException | undefined;
    socket.on("error", (error) => {
      failure = error;
    });
    // The guest takes nothing, so our end is paused.
    socket.write(Buffer.alloc(4_000_000));
    await packet(regs.CREDIT_REQUEST);
    const said = text(socket, /last words$/);
    const closed = new Promise((resolve) => socket.once("close", resolve));
    m.send({ ...ports, operation: regs.DATA, payload: Buffer.from("last words") });
    m.send({ ...ports, operation: regs.SHUTDOWN, flags: 3 });
    expect(await said).toBe("last words");
    await closed;
    expect(failure?.code).toMatch(/^(EPIPE|ECONNRESET)$/);
  });

  it("takes all that a program writes whose guest receives no more, and its end", async () => {
    const { socket, ports } = await connected(52);
    socket.end(Buffer.alloc(4_000_000));
    await packet(regs.CREDIT_REQUEST);
    m.send({ ...ports, operation: regs.SHUTDOWN, flags: regs.SHUTDOWN_RECEIVE_MASK });
    expect((await packet(regs.SHUTDOWN)).flags).toBe(regs.SHUTDOWN_SEND_MASK);
    m.send({ ...ports, operation: regs.DATA, payload: Buffer.from("still said") });
    await text(socket, /still said$/);
  });

  it("keeps its connections when its path vanishes", async () => {
    const { socket, ports } = await connected(52);
    rmSync(udsPath);
    m.send({ ...ports, operation: regs.DATA, payload: Buffer.from("as before") });
    await text(socket, /as before$/);
    const late = connect({ path: udsPath });
    sockets.push(late);
    expect(((await once(late, "error")) as [NodeJS.ErrnoException])[0].code).toBe("ENOENT");
    expect(() => family.close()).not.toThrow();
  });

  it.each([
    ["a folder that is missing", () => join(folder, "none", "v.sock"), "ENOENT"],
    ["a folder that may not be written", () => "/proc/v.sock", /^(ENOENT|EACCES|EPERM|EROFS)$/],
  ])("refuses %s", (_what, path, errno) => {
    let failure: unknown;
    try {
      new VsockFamily(checkVsock({ udsPath: path() }));
    } catch (error) {
      failure = error;
    }
    expect(failure).toMatchObject({
      code: "ERR_ESTALO_VSOCK_SOCKET",
      hint: expect.stringContaining("writable"),
      data: { errno: typeof errno === "string" ? errno : expect.stringMatching(errno) },
    });
  });
});
