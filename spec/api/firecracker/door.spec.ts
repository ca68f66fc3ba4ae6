import { mkdirSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { bodyTooLarge, parserFault } from "../../../src/api/firecracker/door.js";
import { FIRECRACKER_OPERATIONS } from "../../../src/api/firecracker/operations.js";
import type { Phase } from "../../../src/api/firecracker/target.js";
import { EstaloError } from "../../../src/errors.js";
import { fakeDoor, jsonOf } from "../../support/firecracker-door.js";
import { Scratch } from "../../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const KERNEL = scratch.file("vmlinux", "kernel");
const DISK = scratch.file("disk.img", new Uint8Array(4096));
const EMPTY_DISK = scratch.file("placeholder", "");
const GONE = join(scratch.path, "gone");
const FOLDER = join(scratch.path, "folder");
mkdirSync(FOLDER);

const drive = (id: string, more: object = {}) => ({
  drive_id: id,
  path_on_host: DISK,
  is_root_device: false,
  ...more,
});

const BAD_JSON = "An error occurred when deserializing the json body of a request: ";
const NOT_BEFORE = "The requested operation is not supported before starting the microVM.";
const NOT_AFTER = "The requested operation is not supported after starting the microVM.";
const INVALID_ID = "API Resource IDs can only contain alphanumeric characters and underscores.";
const ID_MISMATCH = "The id from the path does not match the id from the body!";
const NO_PLACE = (method: string, path: string) =>
  `Invalid request method and/or path: ${method} ${path}.`;

type Row = readonly [method: string, path: string, body: unknown, message: string, phase?: Phase];

/** Firecracker's matrix of bad input, and what else it refuses. */
const REFUSED: readonly Row[] = [
  // No such place.
  ["GET", "/nowhere", undefined, NO_PLACE("GET", "nowhere")],
  ["PUT", "/nowhere", {}, NO_PLACE("PUT", "nowhere")],
  ["PATCH", "/nowhere", {}, NO_PLACE("PATCH", "nowhere")],
  ["DELETE", "/nowhere", undefined, NO_PLACE("DELETE", "nowhere")],
  ["GET", "/actions", undefined, NO_PLACE("GET", "actions")],
  ["PUT", "/version", {}, NO_PLACE("PUT", "version")],
  ["PATCH", "/boot-source", {}, NO_PLACE("PATCH", "boot-source")],
  ["PATCH", "/", {}, NO_PLACE("PATCH", "")],
  ["DELETE", "/machine-config", undefined, NO_PLACE("DELETE", "machine-config")],
  ["GET", "/vm", undefined, NO_PLACE("GET", "vm")],
  ["GET", "/hotplug", undefined, NO_PLACE("GET", "hotplug")],
  ["PUT", "/hotplug/cpu", {}, NO_PLACE("PUT", "hotplug")],
  ["GET", "/machine-config?pretty", undefined, NO_PLACE("GET", "machine-config?pretty")],
  ["PUT", "/snapshot", {}, "Missing snapshot operation type."],
  ["PUT", "/snapshot/copy", {}, NO_PLACE("PUT", "/snapshot/copy")],
  ["PUT", "/mmds/x", {}, "Unrecognized PUT request path `x`."],
  ["GET", "/balloon/x", undefined, "Unrecognized GET request path `x`."],
  // Bodies that are there or not.
  ["GET", "/", {}, "GET request cannot have a body."],
  ["GET", "/nowhere", {}, "GET request cannot have a body."],
  ["PUT", "/boot-source", undefined, "Empty PUT request."],
  ["PUT", "/nowhere", undefined, "Empty PUT request."],
  ["PATCH", "/vm", undefined, "Empty PATCH request."],
  ["PATCH", "/nowhere", undefined, "Empty PATCH request."],
  ["PATCH", "/balloon", undefined, "Empty PATCH request."],
  ["PATCH", "/machine-config", {}, "Empty PATCH request."],
  ["PATCH", "/machine-config", { smt: null }, "Empty PATCH request."],
  ["DELETE", "/drives/a", {}, "Empty Delete request."],
  // Bodies that cannot be read.
  ["PUT", "/actions", "{", `${BAD_JSON}EOF while parsing an object at line 1 column 1.`],
  ["PUT", "/actions", "x", `${BAD_JSON}expected value at line 1 column 1.`],
  [
    "PUT",
    "/machine-config",
    { mem_size_mib: 128 },
    `${BAD_JSON}missing field \`vcpu_count\` at line 1 column 20.`,
  ],
  [
    "PUT",
    "/machine-config",
    '{"vcpu_count": "1", "mem_size_mib": 128}',
    `${BAD_JSON}invalid type: string "1", expected u8 at line 1 column 18.`,
  ],
  [
    "PUT",
    "/machine-config",
    '{"vcpu_count": 300, "mem_size_mib": 128}',
    `${BAD_JSON}invalid value: integer \`300\`, expected u8 at line 1 column 18.`,
  ],
  [
    "PUT",
    "/machine-config",
    '{"vcpu_count": 1, "mem_size_mib": -1}',
    `${BAD_JSON}invalid value: integer \`-1\`, expected usize at line 1 column 36.`,
  ],
  [
    "PUT",
    "/boot-source",
    '{"kernel_image_path": "k", "kernel": 1}',
    `${BAD_JSON}unknown field \`kernel\`, expected one of \`kernel_image_path\`, ` +
      "`initrd_path`, `boot_args` at line 1 column 35.",
  ],
  [
    "PUT",
    "/actions",
    '{"action_type": "Reboot"}',
    `${BAD_JSON}unknown variant \`Reboot\`, expected one of \`FlushMetrics\`, ` +
      "`InstanceStart`, `SendCtrlAltDel` at line 1 column 24.",
  ],
  [
    "PATCH",
    "/vm",
    '{"state": "Running"}',
    `${BAD_JSON}unknown variant \`Running\`, expected \`Paused\` or \`Resumed\` at line 1 column 19.`,
  ],
  // Ids.
  ["PUT", "/drives", {}, "The ID cannot be empty."],
  ["PUT", "/drives/", {}, "The ID cannot be empty."],
  ["PATCH", "/drives//", {}, "The ID cannot be empty."],
  ["PUT", "/network-interfaces", {}, "The ID cannot be empty."],
  ["PUT", "/drives/a-b", drive("a-b"), INVALID_ID],
  ["PUT", "/drives/..", drive(".."), INVALID_ID],
  ["PUT", "/drives/a%2fb", drive("a/b"), INVALID_ID],
  ["PATCH", "/pmem/a.b", { id: "a.b" }, INVALID_ID],
  ["PUT", "/drives/a", drive("b"), ID_MISMATCH],
  ["PATCH", "/drives/a", { drive_id: "b", path_on_host: DISK }, ID_MISMATCH, "Running"],
  ["PUT", "/pmem/a", { id: "b", path_on_host: DISK }, ID_MISMATCH],
  [
    "PUT",
    "/network-interfaces/eth0",
    { iface_id: "eth1", host_dev_name: "tap0" },
    "The id from the path [eth0] does not match the id from the body [eth1]!",
  ],
  // Before the start.
  ["PATCH", "/vm", { state: "Paused" }, NOT_BEFORE],
  ["PATCH", "/drives/a", { drive_id: "a", path_on_host: DISK }, NOT_BEFORE],
  ["PUT", "/actions", { action_type: "FlushMetrics" }, NOT_BEFORE],
  ["PUT", "/actions", { action_type: "SendCtrlAltDel" }, NOT_BEFORE],
  ["PATCH", "/balloon", { amount_mib: 1 }, NOT_BEFORE],
  ["GET", "/balloon/statistics", undefined, NOT_BEFORE],
  ["PATCH", "/hotplug/memory", { requested_size_mib: 1 }, NOT_BEFORE],
  ["PUT", "/snapshot/create", { snapshot_path: "s", mem_file_path: "m" }, NOT_BEFORE],
  ["PUT", "/actions", { action_type: "InstanceStart" }, NOT_AFTER, "Running"],
  // After it.
  ["PUT", "/boot-source", { kernel_image_path: KERNEL }, NOT_AFTER, "Running"],
  ["PUT", "/machine-config", { vcpu_count: 1, mem_size_mib: 128 }, NOT_AFTER, "Paused"],
  ["PATCH", "/machine-config", { vcpu_count: 1 }, NOT_AFTER, "Running"],
  ["PUT", "/cpu-config", {}, NOT_AFTER, "Running"],
  ["PUT", "/drives/a", drive("a"), NOT_AFTER, "Running"],
  ["PUT", "/entropy", {}, NOT_AFTER, "Running"],
  ["PUT", "/serial", {}, NOT_AFTER, "Running"],
  ["PUT", "/logger", {}, NOT_AFTER, "Running"],
  ["PUT", "/metrics", { metrics_path: "m" }, NOT_AFTER, "Running"],
  ["PUT", "/vsock", { guest_cid: 3, uds_path: "v" }, NOT_AFTER, "Running"],
  // What the machine cannot be.
  [
    "PUT",
    "/boot-source",
    { kernel_image_path: GONE },
    "Boot source error: The kernel file cannot be opened: No such file or directory (os error 2)",
  ],
  [
    "PUT",
    "/boot-source",
    { kernel_image_path: KERNEL, initrd_path: GONE },
    "Boot source error: The initrd file cannot be opened due to invalid path or invalid " +
      "permissions. No such file or directory (os error 2)",
  ],
  ...[0, 33].map(
    (count): Row => [
      "PUT",
      "/machine-config",
      { vcpu_count: count, mem_size_mib: 128 },
      "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 " +
        "or an even number if SMT is enabled.",
    ],
  ),
  [
    "PUT",
    "/machine-config",
    { vcpu_count: 3, mem_size_mib: 128, smt: true },
    "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 " +
      "or an even number if SMT is enabled.",
  ],
  ...[
    { mem_size_mib: 0 },
    { mem_size_mib: 129, huge_pages: "2M" },
    { mem_size_mib: 129, huge_pages: "Transparent" },
  ].map(
    (body): Row => [
      "PATCH",
      "/machine-config",
      body,
      "Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured " +
        "page size.",
    ],
  ),
  [
    "PUT",
    "/drives/a",
    drive("a", { path_on_host: GONE }),
    "Drive config error: Unable to create the virtio block device: Virtio backend error: Error " +
      `manipulating the backing file: No such file or directory (os error 2) ${GONE}`,
  ],
  [
    "PUT",
    "/drives/a",
    drive("a", { path_on_host: FOLDER }),
    "Drive config error: Unable to create the virtio block device: Virtio backend error: " +
      `drive a (${FOLDER}) is a directory`,
  ],
  [
    "PUT",
    "/drives/a",
    { drive_id: "a", is_root_device: false },
    "Drive config error: Unable to create the virtio block device: path_on_host is missing.",
  ],
  [
    "PUT",
    "/drives/a",
    { drive_id: "a", is_root_device: false, socket: "s" },
    "Drive config error: this build has no vhost-user block device.",
  ],
  [
    "PATCH",
    "/drives/a",
    { drive_id: "a" },
    "Drive config error: Unable to patch the block device: Device manager error: Running method " +
      "expected different backend. Please verify the request arguments.",
    "Running",
  ],
  [
    "PUT",
    "/machine-config",
    { vcpu_count: 1, mem_size_mib: 128, cpu_template: "T2" },
    "Machine config error: this build has no static CPU template T2; PUT /cpu-config takes a custom one.",
  ],
  [
    "PUT",
    "/cpu-config",
    { cpuid_modifiers: [{ leaf: "one", subleaf: "0", flags: 0, modifiers: [] }] },
    "Configure CPU error: CPU template, cpuid_modifiers[0].leaf: a 32-bit number is a string like " +
      `"0x1f", "0b101" or "31", not "one"`,
  ],
];

describe("FirecrackerDoor", () => {
  it.each<Row>(REFUSED)("refuses %s %s %j", async (...row) => {
    const [method, path, body, message, phase] = row as unknown as Row;
    const { send, target } = fakeDoor();
    target.phase = phase ?? "Not started";
    const before = target.draft;

    const reply = await send(method, path, body);

    expect(jsonOf(reply)).toEqual({ fault_message: message });
    expect(reply.status).toBe(400);
    expect(target.draft).toBe(before);
    expect(target.calls).toEqual([]);
  });

  it.each(["POST", "HEAD", "OPTIONS", "get"])("knows no method %s, as a parser", async (method) => {
    const { send } = fakeDoor();
    const reply = await send(method, "/");
    expect(reply).toEqual({
      status: 400,
      body:
        '{ "error": "Invalid HTTP Method: Unsupported HTTP method.\n' +
        'All previous unanswered requests will be dropped." }',
    });
  });

  it("speaks of bodies over the limit as Firecracker's parser does: in no JSON", () => {
    const { status, body } = bodyTooLarge(60_000, 51_200);
    expect(status).toBe(400);
    expect(body).toBe(
      '{ "error": "Request payload with size 60000 is larger than the limit of 51200 allowed by ' +
        'server.\nAll previous unanswered requests will be dropped." }',
    );
    expect(() => JSON.parse(parserFault("x").body as string)).toThrow(SyntaxError);
  });

  it("says which device is missing, for each operation on one", async () => {
    const bodies: Readonly<Record<string, unknown>> = {
      putGuestPmemByID: { id: "x", path_on_host: "p" },
      patchGuestPmemByID: { id: "x" },
      putMemoryHotplug: { total_size_mib: 1024 },
      patchMemoryHotplug: { requested_size_mib: 1 },
      createSnapshot: { snapshot_path: "s", mem_file_path: "m", snapshot_type: "Full" },
      loadSnapshot: {
        snapshot_path: "s",
        mem_backend: { backend_type: "File", backend_path: "m" },
      },
    };
    const missing = FIRECRACKER_OPERATIONS.filter(({ tag }) => tag === "Missing");
    expect(missing.length).toBeGreaterThan(3);
    for (const { operationId, method, path, when } of missing) {
      const { send, target } = fakeDoor();
      target.phase = when === "after boot" ? "Running" : "Not started";
      const reply = await send(method, path.replace(/\{\w+\}/, "x"), bodies[operationId]);
      expect([operationId, reply.status, jsonOf(reply)]).toEqual([
        operationId,
        400,
        { fault_message: expect.stringMatching(/^This build has no .+ yet\.$/) },
      ]);
    }
  });

  it("ignores what follows a path, and slashes before it", async () => {
    const { send } = fakeDoor();
    expect((await send("GET", "/version/foo")).status).toBe(200);
    expect((await send("GET", "///machine-config/")).status).toBe(200);
    expect((await send("GET", "/vm/config/x")).status).toBe(200);
  });

  it("tells id, state and version", async () => {
    const { send, target } = fakeDoor();
    const info = async () => jsonOf(await send("GET", "/"));
    expect(await info()).toEqual({
      id: "vm-1",
      state: "Not started",
      vmm_version: "1.16.1",
      app_name: "Firecracker",
    });
    target.phase = "Paused";
    expect(await info()).toMatchObject({ state: "Paused" });
    expect(jsonOf(await send("GET", "/version"))).toEqual({ firecracker_version: "1.16.1" });
  });

  it("configures step by step and reads back equal values", async () => {
    const { send } = fakeDoor();
    const put = async (path: string, body: unknown) => {
      expect(await send("PUT", path, body)).toEqual({ status: 204 });
    };
    expect(jsonOf(await send("GET", "/machine-config"))).toEqual({
      vcpu_count: 1,
      mem_size_mib: 128,
      smt: false,
      track_dirty_pages: false,
      huge_pages: "None",
    });
    await put("/machine-config", { vcpu_count: 2, mem_size_mib: 256, track_dirty_pages: true });
    await put("/boot-source", { kernel_image_path: KERNEL, boot_args: "console=ttyS0" });
    await put("/drives/data", drive("data", { rate_limiter: {}, cache_type: "Writeback" }));
    await put("/drives/rootfs", drive("rootfs", { is_root_device: true, is_read_only: true }));
    await put("/drives/stub_0", drive("stub_0", { path_on_host: EMPTY_DISK, rate_limiter: null }));
    await put("/entropy", {
      rate_limiter: {
        bandwidth: { size: 0, refill_time: 0 },
        ops: { size: 10, refill_time: 100, one_time_burst: null },
      },
    });
    const shown = (id: string, more: object) => ({
      drive_id: id,
      partuuid: null,
      is_root_device: false,
      cache_type: "Unsafe",
      is_read_only: false,
      path_on_host: DISK,
      rate_limiter: null,
      io_engine: "Sync",
      socket: null,
      ...more,
    });

    expect(jsonOf(await send("GET", "/vm/config"))).toEqual({
      balloon: null,
      drives: [
        shown("rootfs", { is_root_device: true, is_read_only: true }),
        shown("data", { cache_type: "Writeback" }),
        shown("stub_0", { path_on_host: EMPTY_DISK }),
      ],
      "boot-source": {
        kernel_image_path: KERNEL,
        initrd_path: null,
        boot_args: "console=ttyS0",
      },
      "cpu-config": null,
      logger: null,
      "machine-config": {
        vcpu_count: 2,
        mem_size_mib: 256,
        smt: false,
        track_dirty_pages: true,
        huge_pages: "None",
      },
      metrics: null,
      "mmds-config": null,
      "network-interfaces": [],
      vsock: null,
      entropy: {
        rate_limiter: {
          bandwidth: null,
          ops: { size: 10, refill_time: 100, one_time_burst: null },
        },
      },
      pmem: [],
      "memory-hotplug": null,
    });
  });

  it("replaces a drive of the same id, and keeps to one root", async () => {
    const { send, target } = fakeDoor();
    const put = (id: string, more: object) => send("PUT", `/drives/${id}`, drive(id, more));
    await put("a", { is_root_device: true });
    expect(jsonOf(await put("b", { is_root_device: true }))).toEqual({
      fault_message: "Drive config error: A root block device already exists!",
    });
    await put("a", { is_read_only: true });
    await put("b", { is_root_device: true });
    expect(target.draft.drives).toMatchObject([
      { drive_id: "b", is_root_device: true },
      { drive_id: "a", is_root_device: false, is_read_only: true },
    ]);
  });

  it("resets to defaults with PUT, and keeps the rest with PATCH", async () => {
    const { send, target } = fakeDoor();
    await send("PUT", "/machine-config", { vcpu_count: 4, mem_size_mib: 256, smt: true });
    await send("PATCH", "/machine-config", { mem_size_mib: 512 });
    expect(target.draft.machine).toMatchObject({ vcpu_count: 4, mem_size_mib: 512, smt: true });
    await send("PUT", "/machine-config", { vcpu_count: 1, mem_size_mib: 128 });
    expect(target.draft.machine).toMatchObject({ vcpu_count: 1, smt: false });
  });

  it("marks what is deprecated, in reply, log and metrics", async () => {
    const { send, log, door } = fakeDoor();
    const body = { vcpu_count: 1, mem_size_mib: 128, cpu_template: "None" };
    const reply = await send("PUT", "/machine-config", body);
    expect(reply).toEqual({ status: 204, headers: { Deprecation: "true" } });
    expect(log.lines).toContain("Warn PUT /machine-config: cpu_template field is deprecated.");
    expect(door.counters.deprecated_api).toEqual({ deprecated_http_api_calls: 1 });
  });

  it("lives: starts once, pauses and resumes as often as asked", async () => {
    const { send, target, door } = fakeDoor();
    const action = (action_type: string) => send("PUT", "/actions", { action_type });
    const state = (to: string) => send("PATCH", "/vm", { state: to });
    await action("InstanceStart");
    for (const to of ["Paused", "Paused", "Resumed", "Resumed"]) {
      expect(await state(to)).toEqual({ status: 204 });
    }
    await action("FlushMetrics");
    await action("SendCtrlAltDel");
    expect(target.calls).toEqual(["start", "pause", "resume", "flush", "keys"]);
    expect(door.counters.latencies_us.pause_vm).toBeGreaterThan(0);
    target.takesKeys = false;
    expect(jsonOf(await action("SendCtrlAltDel"))).toEqual({
      fault_message: "Internal VMM error: I8042 error: i8042 internal buffer is full.",
    });
  });

  it("may start again after a start that failed", async () => {
    const { send, target } = fakeDoor();
    target.failure = new EstaloError("ERR_ESTALO_KVM_MISSING", "open /dev/kvm: ENOENT");
    const start = () => send("PUT", "/actions", { action_type: "InstanceStart" });
    expect(jsonOf(await start())).toEqual({
      fault_message: "Start microvm error: open /dev/kvm: ENOENT",
    });
    expect((await start()).status).toBe(204);
  });

  it("changes drives of a running machine, and tells of it", async () => {
    const { send, target } = fakeDoor();
    await send("PUT", "/drives/a", drive("a"));
    target.phase = "Running";
    const patch = (body: object) => send("PATCH", "/drives/a", { drive_id: "a", ...body });
    await patch({ path_on_host: DISK, rate_limiter: null });
    await patch({ rate_limiter: { ops: { size: 5, refill_time: 10 } } });
    await patch({ rate_limiter: { bandwidth: { size: 7, refill_time: 10 } } });
    expect(target.calls).toEqual([
      ["drive", "a", { path: DISK }],
      ["drive", "a", { rateLimiter: { ops: { size: 5, refillTimeMs: 10, oneTimeBurst: 0 } } }],
      [
        "drive",
        "a",
        { rateLimiter: { bandwidth: { size: 7, refillTimeMs: 10, oneTimeBurst: 0 } } },
      ],
    ]);
    expect(target.draft.drives[0].rate_limiter).toEqual({
      bandwidth: { size: 7, refill_time: 10, one_time_burst: null },
      ops: { size: 5, refill_time: 10, one_time_burst: null },
    });
    await patch({ rate_limiter: { ops: { size: 0, refill_time: 0 } } });
    expect(target.draft.drives[0].rate_limiter).toMatchObject({ ops: null });
    target.failure = new EstaloError("ERR_ESTALO_DRIVE_FILE", "open drive a: ENOENT", {
      data: { errno: "ENOENT" },
    });
    expect(jsonOf(await patch({ path_on_host: GONE }))).toEqual({
      fault_message:
        "Drive config error: Unable to patch the block device: Device manager error: Virtio backend " +
        `error: Error manipulating the backing file: No such file or directory (os error 2) ${GONE} ` +
        "Please verify the request arguments.",
    });
  });

  it("carries requests out one after the other, in their order", async () => {
    const { send, target } = fakeDoor();
    const replies = await Promise.all([
      send("PUT", "/actions", { action_type: "InstanceStart" }),
      send("PATCH", "/vm", { state: "Paused" }),
      send("GET", "/"),
      send("PATCH", "/vm", { state: "Resumed" }),
    ]);
    expect(replies.map(({ status }) => status)).toEqual([204, 204, 200, 204]);
    expect(jsonOf(replies[2])).toMatchObject({ state: "Paused" });
    expect(target.calls).toEqual(["start", "pause", "resume"]);
  });

  it("lets something else be done between two requests, and goes on when that fails", async () => {
    const { door, send, target } = fakeDoor();
    const first = send("PUT", "/actions", { action_type: "InstanceStart" });
    const between = door.exclusively(async () => {
      target.calls.push("between");
      throw new Error("failed");
    });
    const last = send("PATCH", "/vm", { state: "Paused" });
    await expect(between).rejects.toThrow("failed");
    expect([(await first).status, (await last).status]).toEqual([204, 204]);
    expect(target.calls).toEqual(["start", "between", "pause"]);
  });

  it("logs what came and what was answered, and counts it", async () => {
    const { send, log, door } = fakeDoor();
    await send("PUT", "/drives/a", drive("b"));
    await send("PUT", "/cpu-config", {});
    await send("GET", "/machine-config");
    expect(log.lines).toEqual([
      `Info The API server received a Put request on "/drives/a" with body ${JSON.stringify(
        JSON.stringify(drive("b")),
      )}.`,
      `Error Received Error. Status code: 400 Bad Request. Message: ${ID_MISMATCH}`,
      'Info The API server received a Put request on "/cpu-config".',
      "Info The request was executed successfully. Status code: 204 No Content.",
      'Info The API server received a Get request on "/machine-config".',
      "Info The request was executed successfully. Status code: 200 OK.",
    ]);
    const { get_api_requests, put_api_requests } = door.counters;
    expect(put_api_requests).toMatchObject({ drive_count: 1, drive_fails: 1, cpu_cfg_count: 1 });
    expect(get_api_requests).toMatchObject({ machine_cfg_count: 1, instance_info_count: 0 });
  });

  it("answers a mistake of ours with 500, and goes on", async () => {
    const { send, target, log } = fakeDoor();
    target.phase = "Running";
    target.failure = new TypeError("x is undefined");
    const reply = await send("PATCH", "/vm", { state: "Paused" });
    expect(reply.status).toBe(500);
    expect(reply.body).not.toContain("undefined");
    expect(log.lines.join()).toContain("x is undefined");
    expect((await send("PATCH", "/vm", { state: "Paused" })).status).toBe(204);
  });
});

describe("FirecrackerDoor, given anything", () => {
  const fields = FIRECRACKER_OPERATIONS.flatMap(({ body }) =>
    Object.keys((body as { properties?: object } | undefined)?.properties ?? {}),
  );
  const words = ["InstanceStart", "Paused", "Resumed", "None", "2M", "a", KERNEL, DISK, GONE, "\0"];
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      fc.constantFrom(null, true, false, 0, 1, 2, 300, -1, 1.5, 2 ** 53, ...words),
      fc.string(),
      fc.array(tie("value"), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom("x", ...fields), tie("value"), { maxKeys: 5 }),
    ),
  }));
  const request = fc.tuple(
    fc.constantFrom(...FIRECRACKER_OPERATIONS),
    fc.oneof(fc.constant(undefined), value, fc.string()),
  );

  it("answers 200, 204 or 400, in JSON, and forgets nobody", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(request, { maxLength: 8 }), async (requests) => {
        const { send } = fakeDoor();
        const replies = await Promise.all(
          requests.map(([{ method, path }, body]) =>
            send(method, path.replace(/\{\w+\}/, "a"), body),
          ),
        );
        for (const reply of replies) {
          expect([200, 204, 400]).toContain(reply.status);
          expect(jsonOf(reply) === undefined).toBe(reply.status === 204);
          if (reply.status === 400) expect(reply.body).not.toMatch(/\bat .+:\d+:\d+/);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe("FIRECRACKER_OPERATIONS", () => {
  it("have one operation for each method and path, and an id of their own", () => {
    const places = FIRECRACKER_OPERATIONS.map(({ method, path }) => `${method} ${path}`);
    expect(new Set(places).size).toBe(places.length);
    const ids = FIRECRACKER_OPERATIONS.map(({ operationId }) => operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });
});
