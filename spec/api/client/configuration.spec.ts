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
    await client.configuration("web").get();
    expect(server.asked).toEqual([
      "GET /v1/microvms/web/machine-config",
      "GET /v1/microvms/web/vm/config",
    ]);
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
