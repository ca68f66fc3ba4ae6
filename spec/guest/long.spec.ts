/**
 * What users do with a guest, at the size at which they do it, with programs that only whole systems have: iperf3,
 * curl, AWS's SDK in Node.js, apt. Too long for `npm test`; ESTALO_SPEC_LONG=1 asks for it, and ESTALO_SPEC_MB
 * says how much is downloaded where 1 GB takes hours.
 */
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { defaultGuest, type MicroVm } from "estalo";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { isKernelModeEmulated, isLong, passtIsUsable } from "../support/guest-host.js";
import { bootLinux, bootToShell, debianKernel, debianRoot, image } from "../support/linux-guest.js";
import { GUEST_ADDRESS, HOST_ADDRESS, NetNamespace } from "../support/net-namespace.js";
import { Scratch } from "../support/tiny-guest.js";

const LONG_MS = 3_600_000;
const HTTP_PORT = 8000;
const downloadBytes = Number(process.env.ESTALO_SPEC_MB ?? 1000) * 1e6;
/** What is downloaded is this block again and again. */
const BLOCK = "Buffer.from(Uint8Array.from({ length: 1e6 }, (_, i) => (i * 7 + (i >> 8)) % 256))";
const SERVER = `
  const block = ${BLOCK};
  require("node:http").createServer(async (_request, response) => {
    for (let left = ${downloadBytes}; left > 0; left -= block.length) {
      if (!response.write(block)) await new Promise((go) => response.once("drain", go));
    }
    response.end();
  }).listen(${HTTP_PORT}, () => console.log("listening"));
`;

/** Takes it in by 64 KiB and prints its checksum: a system call is dear where the guest's kernel is emulated. */
const DOWNLOAD = `
  const hash = require("node:crypto").createHash("sha256");
  require("node:http").get("http://${HOST_ADDRESS}:${HTTP_PORT}/", (response) => {
    response.on("data", (bytes) => hash.update(bytes));
    response.on("end", () => console.log(hash.digest("hex")));
  });
`;

/** Runs a command line in the guest; its output. */
async function run(vm: MicroVm, line: string): Promise<string> {
  const { stdout, stderr, exitCode, signal } = await vm.exec(["sh", "-c", line]);
  expect({ line, stderr, status: exitCode ?? signal }).toEqual({ line, stderr, status: 0 });
  return stdout;
}

/** A frame costs an emulated kernel what it costs, however long it is. */
const MTU = isKernelModeEmulated() ? 65_520 : 1500;
const network = isLong ? NetNamespace.make(MTU) : undefined;
afterAll(() => network?.[Symbol.dispose]());

const ROLE = {
  Code: "Success",
  LastUpdated: "2026-01-01T00:00:00Z",
  Type: "AWS-HMAC",
  AccessKeyId: "KEY",
  SecretAccessKey: "SECRET",
  Token: "TOKEN",
  Expiration: "2099-01-01T00:00:00Z",
};
const CREDENTIALS = "latest/meta-data/iam/security-credentials/";

/** A guest on the tap, with programs at /tools, and a role's credentials in its metadata. */
async function bootOnTap(version: "V1" | "V2"): Promise<MicroVm> {
  const iam = { "security-credentials": { "a-role": JSON.stringify(ROLE) } };
  const [vm] = await bootLinux({
    memoryMib: 512,
    vsock: {},
    drives: [{ id: "tools", path: join(image("tools"), "tools.ext4"), readOnly: true }],
    networkInterfaces: [{ tap: (network as NetNamespace).tap, mtu: MTU }],
    mmds: { version, imdsCompat: true, data: { latest: { "meta-data": { iam } } } },
  });
  await vi.waitFor(() => vm.agent.health(), { timeout: 300_000, interval: 100 });
  await run(
    vm,
    `mkdir -p /tools; mount -o ro /dev/vdb /tools; killall udhcpc; ip addr flush dev eth0
     ip addr add ${GUEST_ADDRESS}/24 dev eth0; ip link set eth0 up; ip route add 169.254.169.254 dev eth0`,
  );
  return vm;
}

describe.skipIf(network === undefined)("a guest on a tap (ESTALO_SPEC_LONG=1 and root)", () => {
  let vm: MicroVm;
  beforeAll(async () => {
    vm = await bootOnTap("V2");
  });
  afterAll(async () => {
    await vm?.kill();
  });

  /** Asks the metadata service, with the token in $T where there is one. */
  const curl = `/tools/bin/curl -s -m 300 -H "X-metadata-token: $T" http://169.254.169.254`;
  const token =
    "T=$(/tools/bin/curl -s -m 300 -X PUT -H 'X-metadata-token-ttl-seconds: 600' http://169.254.169.254/latest/api/token)";

  it("gives curl metadata for a token, and none without", { timeout: LONG_MS }, async () => {
    expect(await run(vm, `${curl}/latest -o /dev/null -w '%{http_code}'`)).toBe("401");
    expect(await run(vm, `${token}; ${curl}/${CREDENTIALS}`)).toBe("a-role");
    const role = await run(vm, `${token}; ${curl}/${CREDENTIALS}a-role`);
    expect(JSON.parse(role)).toEqual(ROLE);
  });

  const AWS = "HOME=/tmp /tools/bin/node /tools/credentials.cjs";
  const expected = { accessKeyId: "KEY", secretAccessKey: "SECRET", sessionToken: "TOKEN" };

  it("gives AWS's SDK for JavaScript its credentials", { timeout: LONG_MS }, async () => {
    expect(JSON.parse(await run(vm, AWS))).toMatchObject(expected);
  });

  it("gives both the same by version 1", { timeout: LONG_MS }, async () => {
    await vm.kill();
    vm = await bootOnTap("V1");
    expect(await run(vm, `${curl}/${CREDENTIALS}`)).toBe("a-role");
    expect(JSON.parse(await run(vm, AWS))).toMatchObject(expected);
  });

  it("moves what iperf3 sends, both ways", { timeout: LONG_MS }, async () => {
    const server = spawn("ip", [
      "netns",
      "exec",
      (network as NetNamespace).name,
      "iperf3",
      "-s",
      "--forceflush",
    ]);
    onTestFinished(() => void server.kill());
    await once(server.stdout, "data");
    for (const way of ["", "-R"]) {
      const report = await run(vm, `/tools/bin/iperf3 -c ${HOST_ADDRESS} ${way} -t 10 -J`);
      const { sum_sent: sent, sum_received: received } = JSON.parse(report).end;
      console.log(
        `iperf3 ${way || "to the host"}: ${Math.round(received.bits_per_second / 8e3)} kB/s`,
      );
      expect(received.bytes).toBeGreaterThan(0);
      expect(received.bytes).toBeLessThanOrEqual(sent.bytes);
    }
  });

  it("downloads a file whole", { timeout: 4 * LONG_MS }, async () => {
    const server = (network as NetNamespace).node(SERVER);
    await once(server.stdout as NonNullable<typeof server.stdout>, "data");
    const block = Uint8Array.from({ length: 1e6 }, (_, i) => (i * 7 + (i >> 8)) % 256);
    const hash = createHash("sha256");
    for (let left = downloadBytes; left > 0; left -= block.length) hash.update(block);
    const startMs = performance.now();
    const sum = await run(vm, `/tools/bin/node -e '${DOWNLOAD}'`);
    const seconds = (performance.now() - startMs) / 1000;
    console.log(`${downloadBytes} bytes in ${seconds.toFixed(1)} s`);
    expect(sum).toBe(`${hash.digest("hex")}\n`);
  });
});

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

/** A flat repository for apt with one package in it, whose one file says hello. */
function makeRepository(): string {
  const folder = join(scratch.path, "mirror");
  const tree = join(scratch.path, "hello");
  mkdirSync(join(tree, "DEBIAN"), { recursive: true });
  mkdirSync(join(tree, "usr/share"), { recursive: true });
  mkdirSync(folder);
  const control = `Package: estalo-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: says hello\n`;
  writeFileSync(join(tree, "DEBIAN/control"), control);
  writeFileSync(join(tree, "usr/share/estalo-hello"), "hello from a package\n");
  const deb = join(folder, "hello.deb");
  execFileSync("dpkg-deb", ["--build", "--root-owner-group", tree, deb], { stdio: "ignore" });
  const sum = createHash("sha256").update(readFileSync(deb)).digest("hex");
  const packages = `${control}Filename: ./hello.deb\nSize: ${statSync(deb).size}\nSHA256: ${sum}\n`;
  writeFileSync(join(folder, "Packages"), packages);
  return folder;
}

describe.skipIf(!isLong || !passtIsUsable())(
  "Debian's user space (ESTALO_SPEC_LONG=1 and passt)",
  () => {
    it("installs a package by a user's network", { timeout: LONG_MS }, async () => {
      const folder = makeRepository();
      const server = createServer((request, response) => {
        try {
          response.end(readFileSync(join(folder, join("/", request.url ?? ""))));
        } catch {
          response.writeHead(404).end();
        }
      });
      await once(server.listen(0, "127.0.0.1"), "listening");
      onTestFinished(() => void server.close());
      const { port } = server.address() as AddressInfo;

      const root = join(scratch.path, "root.ext4");
      copyFileSync(debianRoot(), root);
      // Debian's own kernel, or the one that is made for a host that emulates it.
      const { bootArgs } = debianKernel();
      const system = isKernelModeEmulated()
        ? {
            kernel: (await defaultGuest()).kernel,
            bootArgs: `${bootArgs} swiotlb=noforce acpi=off`,
          }
        : debianKernel();
      const [vm, guest] = await bootToShell({
        ...system,
        memoryMib: 512,
        drives: [{ path: root, isRoot: true }],
        networkInterfaces: [{ user: { hostLoopback: true } }],
      });
      onTestFinished(async () => void (await vm.kill()));
      await guest.run("until ip addr show eth0 | grep -q 10.0.2.15/24; do sleep 1; done");
      await guest.run(
        `mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt
       echo 'deb [trusted=yes] http://10.0.2.2:${port} ./' > /etc/apt/sources.list`,
      );
      const update = await guest.run("apt-get -q update");
      expect(update).toMatchObject({ status: 0 });
      const install = await guest.run("apt-get -q -y install estalo-hello");
      expect(install.output).toContain("Setting up estalo-hello (1.0)");
      expect((await guest.run("cat /usr/share/estalo-hello")).output).toBe(
        "hello from a package\n",
      );
    });
  },
);
