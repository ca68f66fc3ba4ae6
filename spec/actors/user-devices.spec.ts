import { describe, expect, it } from "vitest";
import { defineVirtioDevice } from "../../src/actors/config-devices.js";
import { UserDevices } from "../../src/actors/user-devices.js";
import { createMemory } from "../support/fake-memory.js";
import { VirtioMachine } from "../support/virtio-machine.js";

function created(log: string[], failing = "") {
  const tell = (what: string) => {
    log.push(what);
    if (what === failing) throw new Error("no");
  };
  const devices = new UserDevices(
    ["a", "b"].map((id) =>
      defineVirtioDevice({
        id,
        deviceType: 60,
        queues: [8],
        onChain: () => 0,
        onAttach: () => tell(`attach ${id}`),
        onClose: () => tell(`close ${id}`),
      }),
    ),
  );
  const machines = devices.requests.map(
    ({ create }) => new VirtioMachine(createMemory(), (host) => create(host)),
  );
  return { devices, machines };
}

describe("UserDevices", () => {
  it("makes its devices in order, tells them of beginning and end, and counts for each", () => {
    const log: string[] = [];
    const { devices, machines } = created(log);
    expect(devices.requests.map(({ name }) => name)).toEqual(["device a", "device b"]);
    devices.attach();
    const ring = machines[1].start(undefined, { size: 8 });
    ring.add({ address: 65_536, length: 1 });
    machines[1].kick();
    expect(devices.metrics).toMatchObject({ a: { chains: 0 }, b: { chains: 1, completed: 1 } });
    devices.close();
    devices.close();
    expect(log).toEqual(["attach a", "attach b", "close a", "close b"]);
  });

  it("says whose attachment failed, and closes those that were told of it", () => {
    const log: string[] = [];
    const { devices } = created(log, "attach a");
    expect(() => devices.attach()).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_DEVICE_FAILED",
        data: { device: "device a" },
      }),
    );
    devices.close();
    expect(log).toEqual(["attach a", "close a"]);
  });

  it("closes every device, whatever one throws, and says so", () => {
    const log: string[] = [];
    const { devices } = created(log, "close a");
    devices.attach();
    expect(() => devices.close()).toThrow("device a");
    expect(log.slice(2)).toEqual(["close a", "close b"]);
  });
});
