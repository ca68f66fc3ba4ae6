import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { AGENT_PORT } from "../../src/actors/agent/protocol.js";
import { checkVsock } from "../../src/actors/config-vsock.js";
import { type VsockConnect, VsockFamily } from "../../src/actors/vsock-family.js";
import type { VsockStream } from "../../src/actors/vsock-stream.js";
import type { VirtioVsock } from "../../src/devices/virtio/vsock.js";
import * as regs from "../../src/devices/virtio/vsock.regs.js";
import { VsockMachine } from "../support/vsock-machine.js";

const families: VsockFamily[] = [];
afterEach(() => {
  for (const family of families.splice(0)) family.close();
});

function started(config = {}) {
  const family = new VsockFamily(checkVsock(config));
  families.push(family);
  const m = VsockMachine.with((host) => family.requests[0].create(host) as VirtioVsock);
  return { family, m };
}

/** A stream to the guest's port 52, and its ports. */
async function opened({ family, m }: ReturnType<typeof started>) {
  const { stream } = family.open(52);
  const [{ hostPort, guestPort }] = m.got();
  const ports = { hostPort, guestPort };
  m.send({ ...ports, operation: regs.RESPONSE });
  return { stream: await stream, ports };
}

describe("VsockFamily for this process", () => {
  it("opens a stream that carries bytes both ways and ends both ways", async () => {
    const it = started();
    const { stream, ports } = await opened(it);
    expect(stream.guestPort).toBe(52);
    stream.write("question");
    await vi.waitUntil(() =>
      it.m.got().some(({ payload }) => `${Buffer.from(payload)}` === "question"),
    );
    it.m.send({ ...ports, operation: regs.DATA, payload: Buffer.from("answer"), forwarded: 8 });
    it.m.send({ ...ports, operation: regs.SHUTDOWN, flags: 2, forwarded: 8 });
    let answer = "";
    stream.on("data", (bytes) => {
      answer += bytes;
    });
    await once(stream, "end");
    expect(answer).toBe("answer");
    stream.end();
    await vi.waitUntil(() => it.m.got().some(({ flags }) => flags === 3));
    it.m.send({ ...ports, operation: regs.RESET });
    await vi.waitUntil(() => stream.closed || stream.destroyed);
    expect(stream.errored).toBeNull();
  });

  it("rejects when nobody listens in the guest, and before there is a driver", async () => {
    const { family, m } = started();
    const { stream } = family.open(52);
    const [{ hostPort }] = m.got();
    m.send({ operation: regs.RESET, hostPort, guestPort: 52 });
    await expect(stream).rejects.toMatchObject({
      code: "ERR_ESTALO_VSOCK",
      data: { port: 52, reason: "refused" },
    });
    const early = new VsockFamily(checkVsock({}));
    await expect(early.open(1).stream).rejects.toMatchObject({ code: "ERR_ESTALO_VSOCK" });
    early.close();
  });

  it("tells the guest when the caller gave up", async () => {
    const { family, m } = started();
    const { stream, cancel } = family.open(52);
    m.got();
    cancel();
    await expect(stream).rejects.toMatchObject({ code: "ERR_ESTALO_VSOCK" });
    expect(m.operations()).toEqual([regs.RESET]);
  });

  it("gives the guest's connections to the port's handler, and refuses other ports", async () => {
    const { family, m } = started();
    const taken: VsockStream[] = [];
    const stop = family.listen(80, (stream) => taken.push(stream));
    expect(() => family.listen(80, () => {})).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_VSOCK" }),
    );
    m.send({ operation: regs.REQUEST, hostPort: 80, guestPort: 1 });
    m.send({ operation: regs.REQUEST, hostPort: 81, guestPort: 1 });
    expect(m.operations()).toEqual([regs.RESPONSE, regs.RESET]);
    expect(taken).toHaveLength(1);
    stop();
    m.send({ operation: regs.REQUEST, hostPort: 80, guestPort: 2 });
    expect(m.operations()).toEqual([regs.RESET]);
  });

  it("asks functions before it takes the guest's connections", async () => {
    const { family, m } = started();
    const taken: number[] = [];
    for (const port of [80, 81]) family.listen(port, () => taken.push(port));
    const remove = family.middleware.use(async ({ port, guestPort }, next) => {
      await Promise.resolve();
      if (port === 80 && guestPort === 1) await next();
    });
    m.send({ operation: regs.REQUEST, hostPort: 80, guestPort: 1 });
    m.send({ operation: regs.REQUEST, hostPort: 81, guestPort: 1 });
    m.send({ operation: regs.REQUEST, hostPort: 80, guestPort: 2 });
    // The guest gives up before its function has decided.
    m.send({ operation: regs.RESET, hostPort: 80, guestPort: 2 });
    await new Promise((resolve) => setImmediate(resolve));
    expect(taken).toEqual([80]);
    expect(m.operations().filter((operation) => operation === regs.RESPONSE).length).toBe(1);
    remove();
    m.send({ operation: regs.REQUEST, hostPort: 81, guestPort: 3 });
    expect(taken).toEqual([80, 81]);
    expect(family.middleware.metrics).toMatchObject({ seen: 3, passed: 1, kept: 2 });
  });

  it("asks functions before it asks the guest", async () => {
    const { family, m } = started();
    const asked: VsockConnect[] = [];
    family.middleware.use(async (connect, next) => {
      asked.push(connect);
      await Promise.resolve();
      if (connect.port === 52) await next();
    });
    await expect(family.connectTo(53, undefined)).rejects.toMatchObject({
      code: "ERR_ESTALO_VSOCK",
      data: { port: 53, reason: "refused" },
    });
    expect(m.got()).toEqual([]);
    const connecting = family.connectTo(52, undefined);
    expect(m.got()).toEqual([]);
    await new Promise(setImmediate);
    const [{ operation, hostPort, guestPort }] = m.got();
    expect([operation, guestPort]).toEqual([regs.REQUEST, 52]);
    m.send({ hostPort, guestPort, operation: regs.RESPONSE });
    expect((await connecting).guestPort).toBe(52);
    expect(asked).toEqual([
      { direction: "to-guest", port: 53, guestPort: 53 },
      { direction: "to-guest", port: 52, guestPort: 52 },
    ]);
    m.send({ operation: regs.REQUEST, hostPort: 80, guestPort: 1 });
    expect(asked.at(-1)).toEqual({ direction: "from-guest", port: 80, guestPort: 1 });
  });

  it("asks no function for the agent's connections", () => {
    const { family, m } = started();
    family.middleware.use(() => {});
    void family.agent.openStream().catch(() => {});
    expect(m.got()).toMatchObject([{ operation: regs.REQUEST, guestPort: AGENT_PORT }]);
    expect(family.middleware.metrics.seen).toBe(0);
  });

  it("rejects a call that functions hold when it is aborted, and at the end of the microVM", async () => {
    const { family, m } = started();
    const passes: (() => Promise<void>)[] = [];
    family.middleware.use((_connect, next) => {
      passes.push(next);
      return new Promise(() => {});
    });
    const abort = new AbortController();
    const aborted = family.connectTo(52, abort.signal);
    const ended = family.connectTo(52, undefined);
    abort.abort();
    await expect(aborted).rejects.toMatchObject({ code: "ERR_ESTALO_ABORTED" });
    family.close();
    await expect(ended).rejects.toMatchObject({ code: "ERR_ESTALO_VSOCK" });
    await Promise.all(passes.map((next) => next()));
    expect(m.got()).toEqual([]);
  });

  it("takes no turn more where no function is installed, either way", () => {
    const { family, m } = started();
    const send = vi.spyOn(family.middleware, "send");
    const taken: VsockStream[] = [];
    family.listen(80, (stream) => taken.push(stream));
    for (const isBefore of [true, false]) {
      if (!isBefore) family.middleware.use(() => {})();
      void family.connectTo(52, undefined).catch(() => {});
      expect(m.operations()).toEqual([regs.REQUEST]);
      m.send({ operation: regs.REQUEST, hostPort: 80, guestPort: 1 + taken.length });
      expect(m.operations()).toEqual([regs.RESPONSE]);
    }
    expect(taken).toHaveLength(2);
    expect(send).not.toHaveBeenCalled();
  });

  it("makes a fast writer wait for the guest, and a fast guest for the reader", async () => {
    const it = started();
    const { stream, ports } = await opened(it);
    let written = 0;
    const part = Buffer.alloc(50_000, 7);
    while (written < 20 && stream.write(part)) written++;
    expect(written).toBeLessThan(20);
    let got = 0;
    const drained = once(stream, "drain");
    while (got < (written + 1) * part.length) {
      for (const { payload } of it.m.got()) got += payload.length;
      it.m.send({ ...ports, operation: regs.CREDIT_UPDATE, forwarded: got });
      await new Promise(setImmediate);
    }
    await drained;
    const payload = Buffer.alloc(32_768, 9);
    it.m.send({ ...ports, operation: regs.DATA, payload, forwarded: got });
    it.m.send({ ...ports, operation: regs.DATA, payload, forwarded: got });
    // More than the stream's buffer came, and nobody has read yet: not all of it is room again.
    it.m.send({ ...ports, operation: regs.CREDIT_REQUEST, forwarded: got });
    const update = it.m.got().at(-1);
    expect(update?.forwarded).toBeLessThan(65_536);
    stream.resume();
    await vi.waitUntil(() => {
      it.m.send({ ...ports, operation: regs.CREDIT_REQUEST, forwarded: got });
      return it.m.got().at(-1)?.forwarded === 65_536;
    });
  });

  it("destroys a stream with an error when the guest resets it, and at the end of the microVM", async () => {
    const it = started();
    const first = await opened(it);
    const failed = once(first.stream, "error");
    it.m.send({ ...first.ports, operation: regs.RESET });
    expect((await failed)[0]).toMatchObject({
      code: "ERR_ESTALO_VSOCK",
      data: { reason: "reset" },
    });
    const second = await opened(it);
    const ended = once(second.stream, "error");
    it.family.close();
    await ended;
  });

  it("resets the guest's end of a stream that is destroyed", async () => {
    const it = started();
    const { stream } = await opened(it);
    stream.destroy();
    await vi.waitUntil(() => it.m.operations().includes(regs.RESET));
  });
});

describe("VsockFamily with a path", () => {
  it("raises what is wrong with it", () => {
    const folder = mkdtempSync(join(tmpdir(), "estalo-vsock-"));
    const udsPath = join(folder, "missing", "socket");
    expect(() => new VsockFamily(checkVsock({ udsPath }))).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_VSOCK_SOCKET" }),
    );
    rmSync(folder, { recursive: true });
  });
});
