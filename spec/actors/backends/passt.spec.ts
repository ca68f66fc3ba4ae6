/**
 * The user's network against a program that plays passt (it answers each frame with itself, in pieces), and
 * against passt.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { closeSync, existsSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { PasstBackend } from "../../../src/actors/backends/passt.js";
import type { FrameSegments } from "../../../src/devices/backend.js";
import { HEADER_BYTES } from "../../../src/devices/virtio/net.regs.js";
import { native } from "../../../src/native/binding.js";
import { createMemory } from "../../support/fake-memory.js";
import { calls, ECHO, program } from "../../support/played-passt.js";
import { sparePort } from "../../support/spare-port.js";

// As it is, but for what a spec has it do once.
vi.mock("node:child_process", async (original) => {
  const actual = await original<typeof import("node:child_process")>();
  return { ...actual, spawn: vi.fn(actual.spawn) };
});

function chains(...all: (readonly (readonly [number, number])[])[]): FrameSegments {
  let end = 0;
  return {
    addresses: Float64Array.from(all.flat(), ([address]) => address),
    lengths: Uint32Array.from(all.flat(), ([, length]) => length),
    ends: Uint32Array.from(all, (one) => {
      end += one.length;
      return end;
    }),
  };
}

const frame = (bytes: number, seed: number) => {
  const whole = Uint8Array.from({ length: bytes }, (_, index) => (index * 3 + seed) % 256);
  return whole.fill(0, 0, HEADER_BYTES);
};

async function connected(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  return socket;
}

describe("PasstBackend", () => {
  const memory = createMemory();
  const errors: unknown[] = [];
  const frameBytes = new Uint32Array(64);
  const frameBuffers = new Uint16Array(64);
  let backend: PasstBackend | undefined;
  beforeEach(() => void errors.splice(0));
  afterEach(() => backend?.close());

  function started(path: string, forwards: { hostPort: number; guestPort: number }[] = []) {
    backend = new PasstBackend({ forwards, hostLoopback: false }, { program: path });
    backend.connect({ memory, onError: (error) => errors.push(error) });
    return backend;
  }

  it("says what to do when the program is missing", () => {
    const network = { forwards: [], hostLoopback: false };
    expect(() => new PasstBackend(network, { program: "/nowhere/passt" })).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_PASST",
        hint: expect.stringContaining("apt-get install passt"),
      }),
    );
  });

  it("sends frames however they are cut, and fills buffers, one or several to a frame", async () => {
    const ours = started(program("echo", ECHO));
    const frames = [frame(60, 1), frame(1514 + HEADER_BYTES, 2)];
    memory.write(0, frames[0]);
    memory.write(4096, frames[1]);
    const said = chains(
      [
        [0, 5],
        [5, 55],
      ],
      [[4096, 1526]],
    );
    expect(ours.send(said, 0, 2)).toBe(2);
    let buffer = 0;
    const buffers = chains(
      ...Array.from({ length: 8 }, (_, i) => [[65_536 + i * 512, 512] as const]),
    );
    const got: Uint8Array[] = [];
    await vi.waitUntil(
      () => {
        const count = ours.receive(buffers, buffer, 8, true, frameBytes, frameBuffers);
        for (let i = 0; i < count; i++) {
          got.push(memory.read(65_536 + buffer * 512, frameBytes[i]));
          buffer += frameBuffers[i];
        }
        return got.length === 2;
      },
      { timeout: 30_000, interval: 5 },
    );
    expect(got).toEqual(frames);
    expect(buffer).toBe(1 + 3);
    expect(errors).toEqual([]);
  });

  it("loses a frame that is larger than its buffer, and counts it", async () => {
    const ours = started(program("echo", ECHO));
    ours.sendBytes(frame(600, 1));
    ours.sendBytes(frame(60, 2));
    const buffers = chains([[65_536, 512]]);
    await vi.waitUntil(() => ours.receive(buffers, 0, 1, false, frameBytes, frameBuffers) === 1, {
      timeout: 30_000,
    });
    expect(frameBytes[0]).toBe(60);
    expect(ours.receiveErrors).toBe(1);
  });

  it("leaves a frame for which the buffers are too few behind others, where they are merged", async () => {
    const twice = `const socket = new (require("node:net").Socket)({ fd: 3 });
      socket.on("data", (bytes) => socket.write(Buffer.concat([bytes, bytes])));`;
    const ours = started(program("twice", twice));
    const buffers = chains([[65_536, 300]], [[66_000, 100]], [[67_000, 200]], [[68_000, 200]]);
    const receive = (first: number, end: number) =>
      ours.receive(buffers, first, end, true, frameBytes, frameBuffers);
    ours.sendBytes(frame(300, 1));
    await vi.waitUntil(() => receive(0, 2) === 1, { timeout: 30_000, interval: 5 });
    await vi.waitUntil(() => receive(2, 4) === 1, { timeout: 30_000, interval: 5 });
    expect([frameBytes[0], frameBuffers[0], ours.receiveErrors]).toEqual([300, 2, 0]);
  });

  it("fails with what the program said when it cannot start", async () => {
    started(program("refuses", `console.error("port 80 is taken"); process.exit(1)`));
    await vi.waitUntil(() => errors.length > 0, { timeout: 30_000 });
    expect(errors[0]).toMatchObject({
      code: "ERR_ESTALO_PASST",
      message: expect.stringContaining("status 1: port 80 is taken"),
    });
  });

  it("starts it again when it ends later; what is sent meanwhile is lost and counted", async () => {
    const dies = `${ECHO} socket.on("data", () => setTimeout(() => process.exit(3), 50));`;
    const ours = started(program("dies", dies));
    ours.sendBytes(frame(60, 1));
    await vi.waitUntil(() => ours.receiveBytes() !== undefined, { timeout: 30_000 });
    await vi.waitUntil(
      () => {
        ours.sendBytes(frame(60, 1));
        return ours.sendErrors > 0;
      },
      { timeout: 30_000 },
    );
    await vi.waitUntil(() => calls("dies").length > 1, { timeout: 30_000 });
    expect(errors).toEqual([]);
  });

  /** A child as Node gives it where the process has no descriptors left: without streams and process. */
  function childWithoutDescriptors(): ChildProcess {
    const child = Object.assign(new EventEmitter(), { kill: vi.fn() });
    process.nextTick(() => {
      child.emit("error", Object.assign(new Error("spawn EMFILE"), { code: "EMFILE" }));
      child.emit("close", -24, null);
    });
    return child as unknown as ChildProcess;
  }

  it("tries again when the host cannot start it anew, and ends no process then", async () => {
    const ours = started(program("later", ECHO));
    await vi.waitUntil(() => calls("later").length === 1, { timeout: 30_000 });
    const children: ChildProcess[] = [];
    const none = () => children[children.push(childWithoutDescriptors()) - 1];
    vi.mocked(spawn)
      .mockImplementationOnce(none)
      .mockImplementationOnce(none)
      .mockImplementationOnce(() => {
        throw Object.assign(new Error("spawn ENOMEM"), { code: "ENOMEM" });
      });
    const changes = [ours.setForwards([]), ours.setForwards([])];
    for (const change of changes) {
      await expect(change).rejects.toMatchObject({ data: { operation: "start" } });
    }
    await vi.waitUntil(() => calls("later").length === 2, { timeout: 30_000 });
    expect(children).toHaveLength(2);
    for (const child of children) expect(child.kill).not.toHaveBeenCalled();
    ours.sendBytes(frame(60, 1));
    await vi.waitUntil(() => ours.receiveBytes() !== undefined, { timeout: 30_000 });
    expect(errors).toEqual([]);
  });

  it("says so when the host cannot start it at all", async () => {
    vi.mocked(spawn).mockImplementationOnce(childWithoutDescriptors);
    started(program("none", ECHO));
    await vi.waitUntil(() => errors.length > 0, { timeout: 30_000 });
    expect(errors).toMatchObject([{ code: "ERR_ESTALO_PASST", data: { operation: "start" } }]);
    vi.mocked(spawn).mockImplementationOnce(() => {
      throw Object.assign(new Error("spawn ENOMEM"), { code: "ENOMEM" });
    });
    expect(() => started(program("none", ECHO))).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_PASST" }),
    );
  });

  it("gives it the forwards, others while it runs", async () => {
    const ours = started(program("forwards", ECHO), [{ hostPort: 8080, guestPort: 80 }]);
    await vi.waitUntil(() => calls("forwards").length === 1, { timeout: 30_000 });
    await ours.setForwards([
      { protocol: "udp", hostAddress: "127.0.0.2", hostPort: 53, guestPort: 5 },
    ]);
    expect(calls("forwards")).toHaveLength(2);
    const [before, after] = calls("forwards").map((words: string[]) => words.join(" "));
    expect(before).toContain("--tcp-ports 127.0.0.1/8080:80 --udp-ports none");
    expect(after).toContain("--tcp-ports none --udp-ports 127.0.0.2/53:5");
    expect(before).toContain("--no-map-gw");
    expect(errors).toEqual([]);
  });

  it("has the forwards before again when it cannot have others, and says why", async () => {
    const isTaken = `if (process.argv.join().includes("/81:")) {
      console.error("port 81 is taken");
      process.exit(1);
    }`;
    const ours = started(program("taken", isTaken + ECHO), [{ hostPort: 80, guestPort: 80 }]);
    await vi.waitUntil(() => calls("taken").length === 1, { timeout: 30_000 });
    const change = ours.setForwards([{ hostPort: 81, guestPort: 80 }]);
    await expect(change).rejects.toMatchObject({
      code: "ERR_ESTALO_PASST",
      message: expect.stringContaining("port 81 is taken"),
    });
    await vi.waitUntil(() => calls("taken").length === 3, { timeout: 30_000 });
    expect(calls("taken")[2]).toEqual(calls("taken")[0]);
    await ours.setForwards([{ hostPort: 82, guestPort: 80 }]);
    expect(calls("taken")[3].join(" ")).toContain("127.0.0.1/82:80");
    expect(errors).toEqual([]);
  });

  it("starts another one when the ports of the one before are free", async () => {
    const listens = `
      const [, address, port] = /([0-9.]+).([0-9]+):80/.exec(process.argv.join(" "));
      require("node:net").createServer().listen(Number(port), address);`;
    const forward = { hostPort: await sparePort(), guestPort: 80 };
    const ours = started(program("listens", listens + ECHO), [forward]);
    await vi.waitFor(async () => (await connected(forward.hostPort)).destroy(), {
      timeout: 30_000,
    });
    for (let change = 0; change < 3; change++) await ours.setForwards([forward]);
    expect(calls("listens")).toHaveLength(4);
  });

  it("gives up what was asked for when others are, and at the end", async () => {
    const ours = started(program("asked", "setInterval(() => {}, 1000)"));
    const changes = [ours.setForwards([]), ours.setForwards([])];
    ours.close();
    for (const change of changes) {
      await expect(change).rejects.toMatchObject({ code: "ERR_ESTALO_PASST" });
    }
  });

  it("tells the one that is started anew where the guest is, which may say nothing for long", async () => {
    const ours = started(program("anew", ECHO));
    const whole = frame(60, 1);
    ours.sendBytes(whole);
    await vi.waitUntil(() => ours.receiveBytes() !== undefined, { timeout: 30_000 });
    await ours.setForwards([]);
    const asked = await vi.waitUntil(() => ours.receiveBytes(), { timeout: 30_000 });
    const mac = Buffer.from(whole.subarray(HEADER_BYTES + 6, HEADER_BYTES + 12)).toString("hex");
    // ARP: who has 10.0.2.2, tell 10.0.2.15.
    expect(Buffer.from(asked.subarray(HEADER_BYTES)).toString("hex")).toBe(
      `ffffffffffff${mac}08060001080006040001${mac}0a00020f0000000000000a000202`,
    );
  });

  /** Sends until there is no room: what plays passt reads nothing. */
  function fill(ours: PasstBackend): void {
    while (ours.sendBytes(frame(60_000, 1)));
    expect(ours.sendErrors).toBe(0);
  }

  it("says that there is room when the one that took nothing is replaced", () => {
    const ours = started(program("silent", "setInterval(() => {}, 1000)"));
    fill(ours);
    ours.onWritable = vi.fn(() => void ours.sendBytes(frame(60, 1)));
    void ours.setForwards([]);
    expect(ours.onWritable).toHaveBeenCalledTimes(1);
    expect(ours.sendErrors).toBe(1);
  });

  it("says that there is room when one that was started elsewhere takes nothing and ends", async () => {
    const [socket, its] = native().socketPair();
    backend = new PasstBackend({ forwards: [], hostLoopback: false }, { socket });
    backend.connect({ memory, onError: (error) => errors.push(error) });
    const ours = backend;
    fill(ours);
    const room = new Promise<void>((resolve) => {
      ours.onWritable = resolve;
    });
    closeSync(its);
    await room;
    expect(ours.sendBytes(frame(60, 1))).toBe(true);
    expect(ours.sendErrors).toBe(1);
  });

  const passt = (process.env.PATH ?? "").split(":").some((one) => existsSync(`${one}/passt`));
  it.skipIf(!passt)("is answered by passt (needs it installed)", async () => {
    const ours = started("passt");
    // ARP: who has 10.0.2.2, tell 10.0.2.15.
    const arp =
      "ffffffffffff0600000000070806" +
      "0001080006040001060000000007" +
      "0a00020f0000000000000a000202";
    ours.sendBytes(Uint8Array.from([...new Uint8Array(HEADER_BYTES), ...Buffer.from(arp, "hex")]));
    let answer: Uint8Array | undefined;
    await vi.waitUntil(
      () => {
        answer = ours.receiveBytes();
        return answer !== undefined || errors.length > 0;
      },
      { timeout: 30_000 },
    );
    // A host without a route has nothing to offer, and passt says so.
    if (errors.length > 0) {
      expect(String(errors[0])).toContain("No external routable interface");
      return;
    }
    expect(Buffer.from(answer as Uint8Array).toString("hex")).toContain("0a000202060000000007");
    // Another one knows where its forwards lead, without a word of the guest's own.
    const hostPort = await sparePort();
    await ours.setForwards([{ hostPort, guestPort: 80 }]);
    const caller = await connected(hostPort);
    onTestFinished(() => void caller.destroy());
    const IPV4 = "0800";
    const call = await vi.waitUntil(
      () => {
        const hex = Buffer.from(ours.receiveBytes()?.subarray(HEADER_BYTES) ?? []).toString("hex");
        return hex.slice(24, 28) === IPV4 && hex;
      },
      { timeout: 30_000, interval: 5 },
    );
    expect(call.slice(0, 12)).toBe("060000000007");
  });
});
