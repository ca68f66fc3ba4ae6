/**
 * The socket device with Linux' driver: streams both ways, by the library and by Firecracker's Unix sockets.
 */
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import type { MicroVm, VsockConfig } from "estalo";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { isCutShort, isKernelModeEmulated, isLong } from "../support/guest-host.js";
import type { GuestShell } from "../support/guest-shell.js";
import { bootLinux, programsDrive } from "../support/linux-guest.js";
import { Scratch } from "../support/tiny-guest.js";

const scratch = new Scratch();
/** A byte costs a microsecond and more in a guest whose kernel is emulated. */
const streamBytes = isKernelModeEmulated() ? 4096 : 262_144;
/** What a guest of 256 MiB has room for in 1,500 sockets. */
const smallBytes = isKernelModeEmulated() ? 4096 : 16_384;
const streams = isCutShort() ? 50 : 500;
const socats = isCutShort() ? 5 : 500;

const socatIsThere = spawnSync("socat", ["-V"]).error === undefined;

/** Where nothing else is asked for, as Firecracker has it. */
const CONNECTIONS_MAX = 1023;
const LONG_MS = 3_600_000;
const CLOSING_MS = 600_000;
/** A connection is accepted or refused within two seconds; the rest is the host's own slowness. */
const ANSWER_MS = 60_000;

const ECHO_PORT = 5000;
/** Reads only after 300 s. */
const DEAF_PORT = 5001;
const HOST_PORT = 7000;

let vm: MicroVm;
let guest: GuestShell;
const udsPath = join(scratch.path, "vsock.sock");

/** A microVM whose guest echoes at ECHO_PORT, and listens at DEAF_PORT. */
async function boot(vsock: VsockConfig): Promise<[MicroVm, GuestShell]> {
  const booted = await bootLinux({ memoryMib: 256, drives: [programsDrive()], vsock });
  const [, guest] = booted;
  await guest.type(
    `ulimit -n 4096; mount -o ro /dev/vdb /mnt; /mnt/vsock-echo serve ${ECHO_PORT} & /mnt/vsock-echo serve ${DEAF_PORT} 300000 &`,
  );
  await guest.until(/listening[\s\S]*listening/);
  return booted;
}

beforeAll(async () => {
  [vm, guest] = await boot({ udsPath });
});
afterAll(async () => {
  await vm?.kill();
  scratch[Symbol.dispose]();
});

/**
 * Opens connections one after the other, as many as there may be when `isAll`, and has all of them echo at once.
 * A guest has two seconds for each request, which a slow one needs.
 */
async function expectStreams(vm: MicroVm, count: number, isAll: boolean): Promise<void> {
  const open: Duplex[] = [];
  while (open.length < count) open.push(await vm.connect(ECHO_PORT));
  if (isAll) {
    await expect(vm.connect(ECHO_PORT)).rejects.toMatchObject({
      code: "ERR_ESTALO_VSOCK",
      data: { reason: "no driver, or too many connections" },
    });
  }
  const right = await Promise.all(
    open.map(async (stream) => {
      const bytes = randomBytes(smallBytes);
      stream.end(bytes);
      return bytes.equals(await buffer(stream));
    }),
  );
  expect(right.filter(Boolean)).toHaveLength(count);
  // A slow guest closes them for minutes yet, and answers nobody in its two seconds.
  const next = await vi.waitFor(() => vm.connect(ECHO_PORT), { timeout: CLOSING_MS });
  next.destroy();
}

/** A program of the host's that wants a port of the guest's. */
function program(port: number, says: string) {
  const socket = connect({ path: udsPath, allowHalfOpen: true });
  socket.end(`CONNECT ${port}\n${says}`);
  return socket;
}

describe("vsock", () => {
  it("connects the library to a port of the guest's, which half closes", async () => {
    const stream = await vm.connect(ECHO_PORT);
    stream.end("hello");
    expect(await text(stream)).toBe("hello");
  });

  it("says so when the guest does not listen", async () => {
    await expect(vm.connect(4999)).rejects.toMatchObject({
      code: "ERR_ESTALO_VSOCK",
      data: { port: 4999, reason: "refused" },
    });
  });

  it("connects a program of the host's by CONNECT, and hangs up where the guest does not listen", async () => {
    expect(await text(program(ECHO_PORT, "from outside"))).toMatch(/^OK \d+\nfrom outside$/);
    expect(await text(program(4999, ""))).toBe("");
  });

  it("carries many streams at once from the host, each whole", { timeout: LONG_MS }, async () => {
    await expectStreams(vm, isCutShort() ? streams : CONNECTIONS_MAX, !isCutShort());
  });

  it.skipIf(!socatIsThere)(
    "carries those of as many processes of socat, each whole",
    {
      timeout: LONG_MS,
    },
    async () => {
      const right: Promise<boolean>[] = [];
      let start = () => {};
      const allAreThere = new Promise<void>((resolve) => {
        start = resolve;
      });
      for (let stream = 0; stream < socats; stream++) {
        // Half closed, it waits for the other half.
        const socat = spawn("socat", ["-t", "3600", "-", `UNIX-CONNECT:${udsPath}`]);
        onTestFinished(() => void socat.kill());
        socat.stdin.write(`CONNECT ${ECHO_PORT}\n`);
        // It stays when its connection is refused, and says nothing.
        const patience = AbortSignal.timeout(ANSWER_MS);
        const [line] = await once(socat.stdout, "data", { signal: patience });
        expect(String(line)).toMatch(/^OK \d+\n$/);
        const bytes = randomBytes(smallBytes);
        const whole = buffer(socat.stdout).then((answer) => bytes.equals(answer));
        right.push(whole);
        void allAreThere.then(() => socat.stdin.end(bytes));
      }
      start();
      expect((await Promise.all(right)).filter(Boolean)).toHaveLength(socats);
    },
  );

  it("carries many streams at once from the guest, each whole", { timeout: LONG_MS }, async () => {
    const end = vm.listen(HOST_PORT, (stream) => stream.pipe(stream));
    const { output, status } = await guest.run(
      `/mnt/vsock-echo connect ${HOST_PORT} ${streams} ${streamBytes}`,
    );
    end();
    expect(output).toBe(`PASS ${streams} of ${streams} streams came back whole\n`);
    expect(status).toBe(0);
    expect((await guest.run(`/mnt/vsock-echo connect ${HOST_PORT} 1 1`)).output).toMatch(/^FAIL/);
  });

  it("connects the guest to the program that listens at the port's path", async () => {
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
    server.listen(`${udsPath}_${HOST_PORT}`);
    await once(server, "listening");
    const { output } = await guest.run(`/mnt/vsock-echo connect ${HOST_PORT} 3 ${streamBytes}`);
    server.close();
    expect(output).toBe("PASS 3 of 3 streams came back whole\n");
  });

  it("has functions in the way of the guest's connections", async () => {
    const end = vm.listen(HOST_PORT, (stream) => stream.pipe(stream));
    const asked: number[] = [];
    const leave = vm.vsock.use(({ port }, next) => {
      asked.push(port);
      return port === HOST_PORT && asked.length === 1 ? next() : undefined;
    });
    const say = `/mnt/vsock-echo connect ${HOST_PORT} 1 5`;
    expect((await guest.run(say)).output).toMatch(/^PASS/);
    expect((await guest.run(say)).output).toMatch(/^FAIL connect: Connection reset/);
    leave();
    expect((await guest.run(say)).output).toMatch(/^PASS/);
    expect(asked).toEqual([HOST_PORT, HOST_PORT]);
    end();
  });

  it("holds a writer back whose guest does not read, and nobody else", async () => {
    const deaf = await vm.connect(DEAF_PORT);
    let written = 0;
    const block = randomBytes(65_536);
    while (written < 64 && deaf.write(block)) written++;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(deaf.writableNeedDrain).toBe(true);
    const other = await vm.connect(ECHO_PORT);
    other.end("still here");
    expect(await text(other)).toBe("still here");
    deaf.destroy();
  });

  it("goes on after a pause with the connections it had", async () => {
    const stream = await vm.connect(ECHO_PORT);
    await vm.pause();
    stream.write("said in the pause");
    await vm.resume();
    const [bytes] = await once(stream, "data");
    expect(String(bytes)).toBe("said in the pause");
    stream.end();
    await once(stream, "close");
  });
});

describe.skipIf(!isLong)("vsock with connectionsMax (ESTALO_SPEC_LONG=1 asks for it)", () => {
  it("holds as many connections as it was told", { timeout: LONG_MS }, async () => {
    const [own] = await boot({ connectionsMax: 1500 });
    onTestFinished(async () => void (await own.kill()));
    await expectStreams(own, 1500, true);
  });
});
