/**
 * The metadata service as Linux' network stack and busybox see it.
 */
import { createHash, randomBytes } from "node:crypto";
import type { MicroVm } from "estalo";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { GuestShell } from "../support/guest-shell.js";
import { bootLinux } from "../support/linux-guest.js";
import { tapPair } from "../support/tap-pair.js";

const taps = tapPair();
const URL = "http://169.254.169.254";
/** More than the service sends at once. */
const LONG = randomBytes(15_000).toString("hex");
const DATA = {
  latest: {
    "meta-data": { "instance-id": "i-0123", long: LONG, tags: { stage: "test" } },
    count: 7,
  },
};

describe.skipIf(taps === undefined)("metadata service (needs root, to make a tap)", () => {
  let vm: MicroVm;
  let guest: GuestShell;

  beforeAll(async () => {
    [vm, guest] = await bootLinux({
      id: "mmds-guest",
      networkInterfaces: [{ id: "eth0", tap: taps?.first as string }],
      mmds: { data: DATA },
    });
    const { status } = await guest.run(
      "ip link set eth0 up && ip addr add 172.16.0.2/30 dev eth0 && " +
        "ip route add 169.254.169.254 dev eth0",
    );
    expect(status).toBe(0);
  });
  afterAll(async () => {
    await vm?.kill();
  });

  /** Asks with the token in the shell's $token. */
  const get = (path: string, header = "Accept: */*") =>
    guest.run(
      `wget -q -O - --header "X-metadata-token: $token" --header "${header}" ${URL}${path}`,
    );

  it("lets nobody in without a token", async () => {
    const { status, output } = await guest.run(`wget -O - ${URL}/latest`);
    expect(status).not.toBe(0);
    expect(output).toContain("401");
    expect(vm.metrics.mmds).toMatchObject({ connections_created: 1, rx_no_token: 1 });
  });

  it("gives a token for a PUT, and data for the token", async () => {
    const ask =
      "printf 'PUT /latest/api/token HTTP/1.1\\r\\nX-metadata-token-ttl-seconds: 600\\r\\n\\r\\n'";
    await guest.run(`token=$(${ask} | nc 169.254.169.254 80 | tail -n 1)`);
    expect((await guest.run("echo $token")).output).toMatch(/^[A-Za-z0-9+/]{48}\n$/);
    expect((await get("/latest/meta-data/")).output).toBe("instance-id\nlong\ntags/");
    expect((await get("/latest/meta-data/instance-id")).output).toBe("i-0123");
    expect((await get("/latest/meta-data/tags", "Accept: application/json")).output).toBe(
      '{"stage":"test"}',
    );
    expect((await get("/latest/nothing")).status).not.toBe(0);
  });

  it("sends what is longer than a segment whole", async () => {
    const sum = createHash("md5").update(LONG).digest("hex");
    const { output } = await guest.run(
      `wget -q -O - --header "X-metadata-token: $token" ${URL}/latest/meta-data/long | md5sum`,
    );
    expect(output).toContain(sum);
  });

  it("has what the host puts, at once", async () => {
    vm.metadata.patch({ latest: { "meta-data": { "instance-id": "i-4567" } } });
    expect((await get("/latest/meta-data/instance-id")).output).toBe("i-4567");
    await vm.pause();
    vm.metadata.put({ latest: "gone" });
    await vm.resume();
    expect((await get("/latest")).output).toBe("gone");
  });

  it("has no other port", async () => {
    const before = vm.metrics.mmds?.rx_accepted_err as number;
    const { status } = await guest.run("nc -w 2 169.254.169.254 81 < /dev/null");
    expect(status).not.toBe(0);
    expect(vm.metrics.mmds?.rx_accepted_err).toBeGreaterThan(before);
  });
});
