/** Step by step: what is asked for each step. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EstaloClient } from "../../../src/api/client/client.js";
import type { MicrovmConfiguration } from "../../../src/api/client/configuration.js";
import { PlayedServer, problem } from "../../support/played-server.js";

let server: PlayedServer;
let client: EstaloClient;
let body: string;

beforeEach(async () => {
  server = await PlayedServer.open();
  client = new EstaloClient({ host: server.host });
  server.play = (request) => {
    body = request.body;
    return request.method === "GET" ? { body: { vcpu_count: 1 } } : { status: 204, body: "" };
  };
});

afterEach(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

describe("a configuration", () => {
  const machine = { vcpu_count: 2, mem_size_mib: 256 };
  const lan = { iface_id: "lan", host_dev_name: "tap0" };
  const vsock = { guest_cid: 3, uds_path: "/v.sock" };
  const mmds = { network_interfaces: ["lan"] };
  const pmem = { id: "log", path_on_host: "/log" };
  const balloon = { amount_mib: 0, deflate_on_oom: true };
  const drive = { drive_id: "data", is_root_device: false, path_on_host: "/d.img" };

  it.each<[string, (configuration: MicrovmConfiguration) => Promise<unknown>, string, object]>([
    ["its machine", (c) => c.putMachineConfig(machine), "PUT /machine-config", machine],
    [
      "a part of it",
      (c) => c.patchMachineConfig({ smt: true }),
      "PATCH /machine-config",
      { smt: true },
    ],
    [
      "its kernel",
      (c) => c.putBootSource({ kernel_image_path: "/k" }),
      "PUT /boot-source",
      { kernel_image_path: "/k" },
    ],
    ["its CPU", (c) => c.putCpuConfig({}), "PUT /cpu-config", {}],
    ["a drive", (c) => c.putDrive(drive), "PUT /drives/data", drive],
    [
      "a drive's file",
      (c) => c.patchDrive({ drive_id: "a/b" }),
      "PATCH /drives/a%2Fb",
      { drive_id: "a/b" },
    ],
    ["entropy", (c) => c.putEntropy({}), "PUT /entropy", {}],
    ["its serial port", (c) => c.putSerial({}), "PUT /serial", {}],
    ["an interface", (c) => c.putNetworkInterface(lan), "PUT /network-interfaces/lan", lan],
    [
      "an interface's limits",
      (c) => c.patchNetworkInterface({ iface_id: "lan" }),
      "PATCH /network-interfaces/lan",
      { iface_id: "lan" },
    ],
    ["its sockets", (c) => c.putVsock(vsock), "PUT /vsock", vsock],
    ["its metadata service", (c) => c.putMmdsConfig(mmds), "PUT /mmds/config", mmds],
    ["its metadata", (c) => c.putMmds({ a: 1 }), "PUT /mmds", { a: 1 }],
    ["a part of them", (c) => c.patchMmds({ a: null }), "PATCH /mmds", { a: null }],
    ["persistent memory", (c) => c.putPmem(pmem), "PUT /pmem/log", pmem],
    ["its limits", (c) => c.patchPmem({ id: "log" }), "PATCH /pmem/log", { id: "log" }],
    ["a balloon", (c) => c.putBalloon(balloon), "PUT /balloon", balloon],
    ["what to give", (c) => c.patchBalloon({ amount_mib: 2 }), "PATCH /balloon", { amount_mib: 2 }],
    [
      "how often to count",
      (c) => c.patchBalloonStats({ stats_polling_interval_s: 1 }),
      "PATCH /balloon/statistics",
      { stats_polling_interval_s: 1 },
    ],
    ["to tell free pages", (c) => c.startHinting(), "PATCH /balloon/hinting/start", {}],
    ["to stop that", (c) => c.stopHinting(), "PATCH /balloon/hinting/stop", {}],
    [
      "memory to plug",
      (c) => c.putMemoryHotplug({ total_size_mib: 1024 }),
      "PUT /hotplug/memory",
      { total_size_mib: 1024 },
    ],
    [
      "how much of it",
      (c) => c.patchMemoryHotplug({ requested_size_mib: 128 }),
      "PATCH /hotplug/memory",
      { requested_size_mib: 128 },
    ],
    [
      "a start",
      (c) => c.putAction({ action_type: "InstanceStart" }),
      "PUT /actions",
      { action_type: "InstanceStart" },
    ],
  ])("is told %s", async (_, work, asked, sent) => {
    expect(await work(client.configuration("web"))).toBeUndefined();
    const [method, path] = asked.split(" ");
    expect(server.asked).toEqual([`${method} /v1/microvms/web${path}`]);
    expect(JSON.parse(body)).toEqual(sent);
  });

  it("is read, and refuses with the server's error", async () => {
    expect(await client.configuration("web").getMachineConfig()).toEqual({ vcpu_count: 1 });
    const web = client.configuration("web");
    await web.get();
    await web.getMmds();
    await web.getBalloon();
    await web.getBalloonStats();
    await web.getHinting();
    await web.getMemoryHotplug();
    expect(server.asked).toEqual(
      [
        ...["machine-config", "vm/config", "mmds", "balloon", "balloon/statistics"],
        ...["balloon/hinting/status", "hotplug/memory"],
      ].map((path) => `GET /v1/microvms/web/${path}`),
    );
    server.play = () => ({ status: 409, body: problem("ERR_ESTALO_STATE", "it runs") });
    await expect(client.configuration("web").putEntropy({})).rejects.toMatchObject({
      code: "ERR_ESTALO_STATE",
    });
  });

  it("starts once, whatever becomes of the connection", async () => {
    server.play = ({ socket }) => {
      socket.destroy();
      return undefined;
    };
    const start = client.configuration("web").putAction({ action_type: "InstanceStart" });
    await expect(start).rejects.toMatchObject({ code: "ERR_ESTALO_CONNECT" });
    expect(server.asked.length).toBe(1);
  });
});
