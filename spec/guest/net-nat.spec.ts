/**
 * `estalo run --net bridge=` on a network of `estalo net`: a guest that reaches somebody outside through NAT, with
 * as many queues as it may have.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { afterAll, describe, expect, it } from "vitest";
import { type Doing, execute } from "../support/guest-child.js";
import { isCutShort, isKernelModeEmulated } from "../support/guest-host.js";
import { debianKernel, debianRoot, isDebian, programsDrive } from "../support/linux-guest.js";
import { NatNetwork, OUTSIDE_ADDRESS } from "../support/nat-network.js";

/** A guest whose kernel is emulated moves some 100 kB/s, and has one vCPU. */
const isSlow = isKernelModeEmulated();
const connections = isCutShort() ? 20 : 200;
const downloadBytes = isSlow ? 262_144 : 16_777_216;
const [vcpus, queues] = isSlow ? [1, ""] : [2, ",queues=2"];
const [ECHO_PORT, HTTP_PORT] = [5003, 8000];

const SERVER = `
  const net = require("node:net");
  const http = require("node:http");
  const bytes = Buffer.from(Uint8Array.from({ length: ${downloadBytes} }, (_, i) => (i * 7 + (i >> 8)) % 256));
  net.createServer({ allowHalfOpen: true }, (socket) => socket.on("error", () => {}).pipe(socket))
    .listen({ port: ${ECHO_PORT}, host: "0.0.0.0", backlog: 511 });
  http.createServer((_request, response) => response.end(bytes))
    .listen(${HTTP_PORT}, () => console.log("listening"));
`;
const expectedSum = createHash("sha256")
  .update(Uint8Array.from({ length: downloadBytes }, (_, i) => (i * 7 + (i >> 8)) % 256))
  .digest("hex");

const network = NatNetwork.make();
if (network === undefined)
  console.warn("spec/guest/net-nat.spec.ts is skipped: no root, ip or nft");
afterAll(() => network?.[Symbol.dispose]());

/** What runs Debian instead. */
function debianWords(): string[] {
  const { kernel, initrd, bootArgs } = debianKernel();
  const rootfs = `${debianRoot()}:ro`;
  return ["--kernel", kernel, "--initrd", initrd, "--rootfs", rootfs, "--cmdline", bootArgs];
}

/** Types a script, without a single quote in it, at the prompt of the guest's console, and then powers it off. */
function typing(script: string): Doing {
  const line = `PS1=; stty -echo; sh -c '${script}' 2>&1; poweroff\n`;
  return { keepsInput: true, when: ["# ", (child) => void child.stdin.write(line)] };
}

describe.skipIf(network === undefined)("a guest behind NAT (needs root, ip and nft)", () => {
  it("pings, downloads, holds many connections at once, and leaves no tap", async () => {
    const nat = network as NatNetwork;
    const server = nat.node(SERVER);
    await once(server.stdout as NonNullable<typeof server.stdout>, "data");
    const guestScript = `
      mount -o ro /dev/vdb /mnt
      ping -c 2 -W 60 ${OUTSIDE_ADDRESS} | grep received
      ls -d /sys/class/net/eth0/queues/rx-* | wc -l
      wget -q -O - http://${OUTSIDE_ADDRESS}:${HTTP_PORT}/ | sha256sum
      /mnt/net-stream parallel ${OUTSIDE_ADDRESS} ${ECHO_PORT} ${connections} 2048`;
    const machine = ["-c", String(vcpus), "-m", "256", "--net", `bridge=estalo0${queues}`];
    const drive = ["--drive", `${programsDrive().path}:ro`];
    const system = isDebian ? debianWords() : ["--", "sh", "-c", guestScript];
    const [program, ...words] = nat.command("run", ...machine, ...drive, ...system);
    const { status, stdout, stderr } = await execute(
      program,
      words,
      isDebian ? typing(guestScript) : {},
    );
    expect(stderr).toBe("");
    const expected = [
      "2 packets transmitted, 2 packets received, 0% packet loss",
      String(vcpus),
      `${expectedSum}  -`,
      `PASS ${connections} of ${connections} connections whole`,
    ];
    const lines = stdout.split(/\r?\n/);
    if (isDebian) expect(lines, stdout).toEqual(expect.arrayContaining(expected));
    else expect(lines).toEqual([...expected, ""]);
    expect(status).toBe(0);
    const links = execFileSync("ip", ["-n", nat.host, "-br", "link"], { encoding: "utf8" });
    expect(links).not.toContain("estalo0.");
  });
});
