/**
 * The socket device with Linux' driver: streams both ways, by the library and by Firecracker's Unix sockets.
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { MicroVm } from "estalo";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isKernelModeEmulated } from "../support/guest-host.js";
import { GuestShell } from "../support/guest-shell.js";
import { Scratch } from "../support/tiny-guest.js";

const scratch = new Scratch();
/** A byte costs a microsecond and more in a guest whose kernel is emulated. */
const streamBytes = isKernelModeEmulated() ? 4096 : 262_144;
const streams = isKernelModeEmulated() ? 50 : 500;

const ECHO_PORT = 5000;
/** Reads only after 300 s. */
const DEAF_PORT = 5001;
const HOST_PORT = 7000;

let vm: MicroVm;
let guest: GuestShell;
const udsPath = join(scratch.path, "vsock.sock");

beforeAll(async () => {
  const script = fileURLToPath(new URL("images/programs", import.meta.url));
  const folder = execFileSync(script, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const path = join(folder.trim(), "programs.ext4");
  vm = await MicroVm.create({
    memoryMib: 256,
    drives: [{ id: "programs", path, readOnly: true }],
    vsock: { udsPath },
  });
  guest = new GuestShell(vm);
  await vm.start();
  await guest.ready(/# (.\[6n)?$/);
  await guest.type(
    `mount -o ro /dev/vdb /mnt; /mnt/vsock-echo serve ${ECHO_PORT} & /mnt/vsock-echo serve ${DEAF_PORT} 300000 &`,
  );
  await guest.until(/listening[\s\S]*listening/);
});
afterAll(async () => {
  await vm?.kill();
  scratch[Symbol.dispose]();
});

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

  it("carries many streams at once from the host, each whole", async () => {
    const right = await Promise.all(
      Array.from({ length: streams }, async () => {
        const bytes = randomBytes(streamBytes);
        const stream = await vm.connect(ECHO_PORT);
        stream.end(bytes);
        return bytes.equals(await buffer(stream));
      }),
    );
    expect(right.filter(Boolean)).toHaveLength(streams);
  });

  it("carries many streams at once from the guest, each whole", async () => {
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
