/**
 * The network device with Linux' driver: a guest on a tap, with programs of a network namespace as its only
 * neighbours; and one on a user's network, whose only peer is this process.
 */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { MicroVm } from "estalo";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { isCutShort, isKernelModeEmulated, passtIsUsable } from "../support/guest-host.js";
import type { GuestShell } from "../support/guest-shell.js";
import { bootLinux, programsDrive } from "../support/linux-guest.js";
import { GUEST_ADDRESS, HOST_ADDRESS, NetNamespace } from "../support/net-namespace.js";
import { sparePort } from "../support/spare-port.js";

/** A guest whose kernel is emulated moves some 100 kB/s. */
const streamBytes = isKernelModeEmulated() ? 65_536 : 16_777_216;
const connections = isCutShort() ? 20 : 200;
const connectionBytes = 2048;

const network = NetNamespace.make();
if (network === undefined) console.warn("spec/guest/net.spec.ts is skipped: no root to make a tap");

// Here, so that it goes also when its specs are filtered out.
afterAll(() => network?.[Symbol.dispose]());

const [SUM_PORT, STREAM_PORT, ECHO_PORT] = [5001, 5002, 5003];
/** The host's end of spec/guest/programs/net-stream.c. */
const SERVER = `
  const net = require("node:net");
  const byteAt = (index) => (index * 7 + Math.floor(index / 256)) % 256;
  const listen = (port, onSocket) => net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    onSocket(socket);
  }).listen({ port, host: "0.0.0.0", backlog: 511 });
  listen(${SUM_PORT}, (socket) => {
    let sum = 2166136261;
    socket.on("data", (bytes) => {
      for (const byte of bytes) sum = Math.imul(sum ^ byte, 16777619) >>> 0;
    });
    socket.on("end", () => socket.end(String(sum)));
  });
  listen(${STREAM_PORT}, (socket) =>
    socket.end(Uint8Array.from({ length: ${streamBytes} }, (_, index) => byteAt(index))));
  listen(${ECHO_PORT}, (socket) => socket.pipe(socket))
    .on("listening", () => console.log("listening"));
`;

describe.skipIf(network === undefined)("a guest on a tap (needs root to make one)", () => {
  let vm: MicroVm;
  let guest: GuestShell;

  beforeAll(async () => {
    const { tap } = network as NetNamespace;
    const server = (network as NetNamespace).node(SERVER);
    await new Promise((resolve) => server.stdout?.once("data", resolve));
    [vm, guest] = await bootLinux({
      memoryMib: 256,
      drives: [programsDrive()],
      networkInterfaces: [{ tap, mac: "06:00:00:00:00:07", mtu: 1500 }],
    });
    await guest.run("mount -o ro /dev/vdb /mnt; killall udhcpc; ip addr flush dev eth0");
    await guest.run(`ip addr add ${GUEST_ADDRESS}/24 dev eth0; ip link set eth0 up`);
  });
  afterAll(async () => {
    await vm?.kill();
  });

  const counters = () => vm.metrics.networkInterfaces.net0;

  it("has its address, its MTU and a link", async () => {
    const { output } = await guest.run("cd /sys/class/net/eth0; cat address mtu carrier; cd /");
    expect(output).toBe("06:00:00:00:00:07\n1500\n1\n");
  });

  it("answers and is answered", async () => {
    expect((await guest.run(`ping -c 3 -W 60 ${HOST_ADDRESS}`)).output).toContain(
      "3 packets transmitted, 3 packets received",
    );
    // The largest packet that goes whole.
    const { output } = await guest.run(`ping -c 1 -W 60 -s 1472 ${HOST_ADDRESS}`);
    expect(output).toContain("1480 bytes from");
  });

  it.each([1448, 65_536])("sends a stream whole, written in blocks of %i", async (size) => {
    const before = counters();
    const frames = before.tx_packets_count;
    const { output } = await guest.run(
      `/mnt/net-stream send ${HOST_ADDRESS} ${SUM_PORT} ${streamBytes} ${size}`,
    );
    expect(output).toBe(`PASS sent ${streamBytes} bytes\n`);
    // Segmentation is left to the host: fewer frames than packets on a wire.
    if (size > 1500) expect(counters().tx_packets_count - frames).toBeLessThan(streamBytes / 1448);
  });

  it("receives a stream whole", async () => {
    const { output } = await guest.run(`/mnt/net-stream receive ${HOST_ADDRESS} ${STREAM_PORT}`);
    expect(output).toBe(`PASS received ${streamBytes} bytes, 0 wrong\n`);
  });

  it("carries many connections at once, each whole", async () => {
    const { output } = await guest.run(
      `/mnt/net-stream parallel ${HOST_ADDRESS} ${ECHO_PORT} ${connections} ${connectionBytes}`,
    );
    expect(output).toBe(`PASS ${connections} of ${connections} connections whole\n`);
  });

  it("loses its link and gets it back", async () => {
    const carrier = (value: number) =>
      `until [ "$(cat /sys/class/net/eth0/carrier)" = ${value} ]; do sleep 0.1; done`;
    vm.updateNetworkInterface("net0", { isLinkUp: false });
    await guest.run(carrier(0));
    vm.updateNetworkInterface("net0", { isLinkUp: true });
    await guest.run(carrier(1));
    const { output } = await guest.run(`ping -c 1 -W 60 ${HOST_ADDRESS}`);
    expect(output).toContain("1 packets received");
  });

  it("has functions in the way of its frames, and none when they have left", async () => {
    let lost = 0;
    const leave = vm.net.use(async (frame, next) => {
      // An ICMP echo request whose first one nobody answers.
      const isPing = frame.direction === "from-guest" && frame.bytes[23] === 1;
      if (isPing && lost++ === 0) return;
      await next();
    });
    const { output } = await guest.run(`ping -c 2 -W 10 ${HOST_ADDRESS}`);
    expect(output).toContain("2 packets transmitted, 1 packets received");
    leave();
    const { kept, passed, failed } = vm.metrics.middleware.net["from-guest"];
    expect({ kept, failed }).toEqual({ kept: 1, failed: 0 });
    expect(passed).toBeGreaterThanOrEqual(1);
    expect((await guest.run(`ping -c 1 -W 60 ${HOST_ADDRESS}`)).status).toBe(0);
  });

  it("goes on after a pause", async () => {
    await vm.pause();
    await vm.resume();
    const { output } = await guest.run(`ping -c 1 -W 60 ${HOST_ADDRESS}`);
    expect(output).toContain("1 packets received");
  });

  it("counted no frame that it lost to a mistake", () => {
    expect(counters()).toMatchObject({ tx_malformed_frames: 0, tx_spoofed_mac_count: 0 });
    expect(counters().rx_packets_count).toBeGreaterThan(10);
  });
});

if (!passtIsUsable()) console.warn("spec/guest/net.spec.ts: no passt, or no default route");

describe.skipIf(!passtIsUsable())("a guest on a user's network (needs passt and a route)", () => {
  it("has an address by DHCP, fetches a file, and is reached through a forward", async () => {
    const bytes = randomBytes(32_768);
    const server = createServer((_request, response) => void response.end(bytes));
    await once(server.listen(0, "127.0.0.1"), "listening");
    const { port } = server.address() as AddressInfo;
    const [hostPort, otherPort] = [await sparePort(), await sparePort()];
    const user = { hostLoopback: true, forwards: [{ hostPort, guestPort: 80 }] };
    const [vm, guest] = await bootLinux({ memoryMib: 256, networkInterfaces: [{ user }] });
    onTestFinished(async () => void (await vm.kill()));
    await guest.run("until ip addr show eth0 | grep -q 10.0.2.15/24; do sleep 1; done");
    const { output } = await guest.run(`wget -q -O - http://10.0.2.2:${port}/ | sha256sum`);
    expect(output).toBe(`${createHash("sha256").update(bytes).digest("hex")}  -\n`);
    server.close();
    await guest.run("mkdir -p /tmp/www; echo from the guest > /tmp/www/file");
    await guest.run("httpd -p 80 -h /tmp/www");
    const answer = await fetch(`http://127.0.0.1:${hostPort}/file`);
    expect(await answer.text()).toBe("from the guest\n");
    await vm.updateNetworkInterface("net0", { forwards: [{ hostPort: otherPort, guestPort: 80 }] });
    const other = await fetch(`http://127.0.0.1:${otherPort}/file`);
    expect(await other.text()).toBe("from the guest\n");
    await expect(fetch(`http://127.0.0.1:${hostPort}/file`)).rejects.toThrow();
  });
});
