import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { fakeDoor, jsonOf } from "../../support/firecracker-door.js";
import { tapPair } from "../../support/tap-pair.js";

const folder = mkdtempSync(join(tmpdir(), "estalo-door-net-"));
const taken = join(folder, "taken");
writeFileSync(taken, "");
afterAll(() => rmSync(folder, { recursive: true }));
const taps = tapPair();

async function faultOf(door: ReturnType<typeof fakeDoor>, path: string, body: unknown) {
  const reply = await door.send("PUT", path, body);
  expect(reply.status).toBe(400);
  return (jsonOf(reply) as { fault_message: string }).fault_message;
}

describe("PUT /network-interfaces", () => {
  const eth0 = { iface_id: "eth0", host_dev_name: "estalo-nowhere" };

  it.each([
    [
      "a tap that does not exist",
      eth0,
      "Network config error: Could not create the network device: Open tap device failed: " +
        "No such device (os error 19) Invalid TUN/TAP Backend provided by estalo-nowhere.",
    ],
    [
      "a group's address",
      { ...eth0, guest_mac: "01:00:00:00:00:00" },
      "Network config error: The MAC address is not one of a single interface: 01:00:00:00:00:00",
    ],
    [
      "an address that is none",
      { ...eth0, guest_mac: "06:00:00:00:00:0" },
      "An error occurred when deserializing the json body of a request: The provided MAC address is " +
        "invalid. at line 1 column 83.",
    ],
    [
      "an MTU out of range",
      { ...eth0, mtu: 67 },
      "Network config error: Invalid MTU: 67, must be between 68 and 65535",
    ],
  ])("refuses %s", async (_what, body, text) => {
    expect(await faultOf(fakeDoor(), "/network-interfaces/eth0", body)).toBe(text);
  });

  it.skipIf(taps === undefined)("keeps interfaces as they are told (needs root)", async () => {
    const door = fakeDoor();
    const [first, second] = [taps?.first, taps?.second];
    const put = (id: string, rest: object) =>
      door.send("PUT", `/network-interfaces/${id}`, { iface_id: id, ...rest });
    const mac = "06:00:00:00:00:0A";
    expect((await put("eth0", { host_dev_name: first, guest_mac: mac })).status).toBe(204);
    const limits = { rx_rate_limiter: {}, tx_rate_limiter: null, guest_mac: null };
    expect((await put("eth1", { host_dev_name: second, ...limits })).status).toBe(204);
    expect(
      await faultOf(door, "/network-interfaces/eth2", {
        iface_id: "eth2",
        host_dev_name: second,
        guest_mac: mac.toLowerCase(),
      }),
    ).toBe("Network config error: The MAC address is already in use: 06:00:00:00:00:0a");
    // The same id again replaces it.
    expect((await put("eth0", { host_dev_name: first, guest_mac: mac, mtu: 1400 })).status).toBe(
      204,
    );
    const config = jsonOf(await door.send("GET", "/vm/config")) as Record<string, unknown>;
    expect(config["network-interfaces"]).toEqual([
      {
        iface_id: "eth0",
        host_dev_name: first,
        guest_mac: mac.toLowerCase(),
        mtu: 1400,
        rx_rate_limiter: null,
        tx_rate_limiter: null,
      },
      expect.objectContaining({ iface_id: "eth1", guest_mac: null, mtu: null }),
    ]);
  });
});

describe("PATCH /network-interfaces", () => {
  it("changes the limits that are given", async () => {
    const door = fakeDoor();
    door.target.phase = "Running";
    const bucket = { size: 100, refill_time: 10 };
    const body = {
      iface_id: "eth0",
      rx_rate_limiter: { bandwidth: bucket },
      tx_rate_limiter: null,
    };
    expect((await door.send("PATCH", "/network-interfaces/eth0", body)).status).toBe(204);
    const rxRateLimiter = { bandwidth: { size: 100, refillTimeMs: 10, oneTimeBurst: 0 } };
    expect(door.target.calls).toEqual([["interface", "eth0", { rxRateLimiter }]]);
  });

  it("says what the machine says", async () => {
    const door = fakeDoor();
    door.target.phase = "Running";
    door.target.failure = new Error("there is no network interface eth9");
    const reply = await door.send("PATCH", "/network-interfaces/eth9", { iface_id: "eth9" });
    expect(reply.status).toBe(400);
    expect(jsonOf(reply)).toMatchObject({
      fault_message: expect.stringMatching(/^Network config error: Device manager error: /),
    });
  });
});

describe("PUT /vsock", () => {
  it("keeps the device, replaces it, and marks what is deprecated", async () => {
    const door = fakeDoor();
    const first = { guest_cid: 3, uds_path: "a.sock" };
    expect(await door.send("PUT", "/vsock", first)).toEqual({ status: 204 });
    const second = { guest_cid: 4, uds_path: "b.sock", vsock_id: "root" };
    const reply = await door.send("PUT", "/vsock", second);
    expect(reply).toEqual({ status: 204, headers: { Deprecation: "true" } });
    const config = jsonOf(await door.send("GET", "/vm/config")) as Record<string, unknown>;
    expect(config.vsock).toEqual({ guest_cid: 4, uds_path: "b.sock" });
  });

  it.each([
    ["the host's context id", { guest_cid: 2, uds_path: "v" }, "Invalid guest CID: 2"],
    [
      "a path that is taken",
      { guest_cid: 3, uds_path: taken },
      "Error binding to the host-side Unix socket: Address in use (os error 98)",
    ],
    [
      "a path too long for a socket",
      { guest_cid: 3, uds_path: "x".repeat(108) },
      "Error binding to the host-side Unix socket: path must be shorter than SUN_LEN",
    ],
  ])("refuses %s", async (_what, body, text) => {
    expect(await faultOf(fakeDoor(), "/vsock", body)).toBe(
      `Vsock config error: Cannot create backend for vsock device: ${text}`,
    );
  });
});
