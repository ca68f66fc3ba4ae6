import { describe, expect, it } from "vitest";
import { MetadataStore } from "../../../src/actors/metadata-store.js";
import { toMicroVmConfig } from "../../../src/api/firecracker/draft.js";
import { fakeDoor, jsonOf } from "../../support/firecracker-door.js";

/** A door whose machine has an interface eth0. */
function door() {
  const one = fakeDoor();
  const eth0 = {
    iface_id: "eth0",
    host_dev_name: "tap0",
    guest_mac: null,
    mtu: null,
    rx_rate_limiter: null,
    tx_rate_limiter: null,
  };
  one.target.draft = { ...one.target.draft, interfaces: [eth0] };
  const fault = async (method: string, path: string, body?: unknown) => {
    const reply = await one.send(method, path, body);
    return [reply.status, (jsonOf(reply) as { fault_message: string }).fault_message];
  };
  return { ...one, fault };
}

const NOT_INITIALIZED = "The MMDS data store is not initialized.";
const TOO_LARGE = "The MMDS patch request doesn't fit.";

describe("PUT /mmds/config", () => {
  it("takes Firecracker's defaults, and calls V1 deprecated", async () => {
    const { send, target } = door();
    const reply = await send("PUT", "/mmds/config", { network_interfaces: ["eth0"] });
    expect(reply).toEqual({ status: 204, headers: { Deprecation: "true" } });
    expect(target.draft.mmds).toEqual({
      version: "V1",
      network_interfaces: ["eth0"],
      ipv4_address: "169.254.169.254",
      imds_compat: false,
    });
  });

  it("keeps what is said, and tells it", async () => {
    const { send, target } = door();
    const config = {
      version: "V2",
      network_interfaces: ["eth0"],
      ipv4_address: "169.254.1.0",
      imds_compat: true,
    };
    expect(await send("PUT", "/mmds/config", config)).toEqual({ status: 204 });
    expect(jsonOf(await send("GET", "/vm/config"))).toMatchObject({ "mmds-config": config });
    await send("PUT", "/mmds", { a: "b" });
    expect(toMicroVmConfig(target.draft).mmds).toEqual({
      version: "V2",
      interfaces: ["eth0"],
      ipv4Address: "169.254.1.0",
      imdsCompat: true,
      data: { a: "b" },
    });
  });

  it.each<[body: object, message: string]>([
    [
      { network_interfaces: [] },
      "The list of network interface IDs that allow forwarding MMDS requests is empty.",
    ],
    [
      { network_interfaces: ["eth0", "eth1"] },
      "The list of network interface IDs provided contains at least one ID that does not " +
        "correspond to any existing network interface.",
    ],
    ...["1.1.1.1", "169.254.0.255", "169.254.255.0"].map((address): [object, string] => [
      { network_interfaces: [], ipv4_address: address },
      "The MMDS IPv4 address is not link local.",
    ]),
    ...["", "169.254.169.254 ", "169.254.169.256", "169.254.169.01", "169.254.169"].map(
      (address): [object, string] => [
        { ipv4_address: address, network_interfaces: [] },
        "An error occurred when deserializing the json body of a request: invalid IPv4 address " +
          `syntax at line 1 column ${18 + address.length}.`,
      ],
    ),
    [
      { ipv4_address: 5, network_interfaces: [] },
      "An error occurred when deserializing the json body of a request: invalid type: integer `5`, " +
        "expected IPv4 address at line 1 column 17.",
    ],
  ])("refuses %j", async (body, message) => {
    const { fault, target } = door();
    expect(await fault("PUT", "/mmds/config", body)).toEqual([400, message]);
    expect(target.draft.mmds).toBeUndefined();
  });

  it("is for before the start", async () => {
    const { fault, target } = door();
    target.phase = "Running";
    expect(await fault("PUT", "/mmds/config", { network_interfaces: ["eth0"] })).toEqual([
      400,
      "The requested operation is not supported after starting the microVM.",
    ]);
  });
});

describe.each(["Not started", "Running", "Paused"] as const)("/mmds, %s", (phase) => {
  const open = (limitBytes = 51_200) => {
    const one = door();
    one.target.phase = phase;
    one.target.metadataLimitBytes = limitBytes;
    if (phase !== "Not started") one.target.metadata = new MetadataStore(limitBytes);
    return one;
  };

  it("is replaced, merged and read", async () => {
    const { send } = open();
    const get = async () => jsonOf(await send("GET", "/mmds"));
    expect(await get()).toEqual({});
    expect(await send("PUT", "/mmds", { a: { b: 1 }, c: "d" })).toEqual({ status: 204 });
    expect(await send("PATCH", "/mmds", { a: { b: null, e: [2] } })).toEqual({ status: 204 });
    expect(await get()).toEqual({ a: { e: [2] }, c: "d" });
    expect(await send("PUT", "/mmds", {})).toEqual({ status: 204 });
    expect(await get()).toEqual({});
  });

  it("is not patched before it was put", async () => {
    const { fault } = open();
    expect(await fault("PATCH", "/mmds", { a: 1 })).toEqual([400, NOT_INITIALIZED]);
  });

  it("says 413 to what does not fit, and keeps what it has", async () => {
    const { fault, send } = open(10);
    expect(await fault("PUT", "/mmds", { a: "12345" })).toEqual([413, TOO_LARGE]);
    await send("PUT", "/mmds", { a: 1 });
    expect(await fault("PATCH", "/mmds", { b: "12345" })).toEqual([413, TOO_LARGE]);
    expect(jsonOf(await send("GET", "/mmds"))).toEqual({ a: 1 });
  });

  it.each([[[]], ['"text"'], [1]])("takes no %j", async (body) => {
    const { fault } = open();
    expect(await fault("PUT", "/mmds", body)).toEqual([400, "metadata: expected a JSON object"]);
  });

  it("counts", async () => {
    const { send, door: counted } = open();
    await send("PUT", "/mmds", {});
    await send("PATCH", "/mmds", 1);
    await send("GET", "/mmds");
    expect(counted.counters.put_api_requests.mmds_count).toBe(1);
    expect(counted.counters.patch_api_requests.mmds_fails).toBe(1);
    expect(counted.counters.get_api_requests.mmds_count).toBe(1);
  });
});

describe("/mmds of a machine that runs without", () => {
  it.each([
    ["GET", undefined],
    ["PUT", {}],
    ["PATCH", {}],
  ])("%s says so", async (method, body) => {
    const { fault, target } = door();
    target.phase = "Running";
    expect(await fault(method, "/mmds", body)).toEqual([400, NOT_INITIALIZED]);
  });
});
