import { afterEach, describe, expect, it, vi } from "vitest";
import { MmdsFamily } from "../../src/actors/mmds-service.js";
import type { FrameDetour } from "../../src/devices/backend.js";
import {
  arpRequest,
  GUEST_IPV4,
  guestFrame,
  readFrame,
  SYN,
  segment,
  TcpClient,
} from "../support/mmds-guest.js";

const CONFIG = {
  version: "V1",
  ipv4Address: 0xa9fe_a9fe,
  interfaces: ["eth0"],
  imdsCompat: false,
  data: { greeting: "hello" },
  sizeLimitBytes: 1000,
} as const;

/** A device that keeps what it is given. */
class PlayedDevice {
  readonly detours: FrameDetour[] = [];
  readonly toGuest: Uint8Array[] = [];
  isPaused = false;
  onFrame: ((frame: Uint8Array) => void) | undefined;

  addDetour(detour: FrameDetour): () => void {
    this.detours.push(detour);
    return () => this.detours.splice(this.detours.indexOf(detour), 1);
  }

  sendToGuest(frame: Uint8Array): void {
    this.toGuest.push(frame);
    this.onFrame?.(frame);
  }

  transmit(frame: Uint8Array): boolean | "charged" | undefined {
    const copy = () => frame.slice();
    return this.detours[0].transmit?.(frame.subarray(0, 64), frame.length, copy, copy);
  }
}

function attached(config: ConstructorParameters<typeof MmdsFamily>[0] = CONFIG) {
  const family = new MmdsFamily(config, "vm-1");
  const device = new PlayedDevice();
  family.attach("eth0", device);
  return { family, device };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

afterEach(() => {
  vi.useRealTimers();
});

describe("MmdsFamily", () => {
  it("is in the way of its interfaces alone", () => {
    const { family, device } = attached();
    const other = new PlayedDevice();
    family.attach("eth1", other);
    expect([device.detours.length, other.detours.length]).toEqual([1, 0]);
    expect(device.transmit(arpRequest(GUEST_IPV4))).toBe(false);
    expect(device.transmit(new Uint8Array(14))).toBe(false);
    family.close();
    expect(device.detours).toEqual([]);
    family.close();
  });

  it("answers after the device's turn, not within it", async () => {
    const { family, device } = attached();
    expect(device.transmit(arpRequest())).toBe(true);
    expect(device.transmit(guestFrame(segment({ flags: SYN })))).toBe(true);
    expect(device.toGuest).toEqual([]);
    await turn();
    expect(device.toGuest).toHaveLength(2);
    family.close();
  });

  it("serves the data as it is at that moment, and counts", async () => {
    const { family, device } = attached();
    const get = async (port: number) => {
      const request = "GET /greeting HTTP/1.0\r\n\r\n";
      const expected = `Content-Length: ${family.data.get().greeting?.toString().length}\r\n\r\n`;
      const text = () => Buffer.from(client.received).toString();
      const client = new TcpClient(
        (bytes) => void device.transmit(bytes),
        Buffer.from(request),
        200,
        {
          port,
        },
      );
      device.onFrame = (frame) => client.take(frame);
      await vi.waitFor(
        async () => {
          client.turn();
          await turn();
          expect(text()).toContain(expected);
          expect(text().split(expected)[1]).toBe(family.data.get().greeting);
        },
        { timeout: 30_000, interval: 5 },
      );
    };
    await get(1);
    family.data.patch({ greeting: "good evening" });
    await get(2);
    expect(family.metrics).toMatchObject({ connections_created: 2, rx_no_token: 2 });
    expect(family.metrics.tx_frames).toBe(device.toGuest.length);
    family.close();
  });

  it("sends again by a timer, which ends with it", async () => {
    vi.useFakeTimers();
    const { family, device } = attached();
    device.transmit(guestFrame(segment({ flags: SYN })));
    await vi.advanceTimersByTimeAsync(1);
    expect(device.toGuest).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(700);
    expect(device.toGuest.map((frame) => readFrame(frame).flags)).toEqual([18, 18, 18]);
    device.transmit(arpRequest());
    family.close();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(device.toGuest).toHaveLength(3);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("gives no connection up while its guest is paused", async () => {
    vi.useFakeTimers();
    const { family, device } = attached();
    device.transmit(guestFrame(segment({ flags: SYN })));
    await vi.advanceTimersByTimeAsync(1);
    device.isPaused = true;
    await vi.advanceTimersByTimeAsync(60_000);
    device.isPaused = false;
    await vi.advanceTimersByTimeAsync(600);
    const flags = device.toGuest.map((frame) => readFrame(frame).flags);
    expect(flags.slice(0, 2)).toEqual([18, 18]);
    expect(new Set(flags)).toEqual(new Set([18]));
    expect(family.metrics.connections_destroyed).toBe(0);
    family.close();
    expect(vi.getTimerCount()).toBe(0);
  });

  it("refuses data that it cannot keep", () => {
    expect(() => new MmdsFamily({ ...CONFIG, sizeLimitBytes: 3 }, "vm-1")).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_TOO_LARGE" }),
    );
  });

  it("saves what a restored microVM needs, without data and key", () => {
    const { family } = attached();
    expect(family.save()).toEqual({
      version: 1,
      mmdsVersion: "V1",
      ipv4Address: 0xa9fe_a9fe,
      imdsCompat: false,
      interfaces: ["eth0"],
    });
  });
});
