import { describe, expect, it, vi } from "vitest";
import { PasstBackend } from "../../src/actors/backends/passt.js";
import { checkInterfaces } from "../../src/actors/config-net.js";
import { NetSet } from "../../src/actors/net-set.js";
import { tapPair } from "../support/tap-pair.js";

const taps = tapPair();

describe("NetSet", () => {
  it("names the tap that cannot be opened", () => {
    expect(() => new NetSet(checkInterfaces([{ tap: "estalo-nowhere" }]))).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_TAP", hint: expect.stringContaining("tuntap") }),
    );
  });

  it("without interfaces asks for no device", () => {
    const set = new NetSet([]);
    expect(set.requests).toEqual([]);
    expect(() => set.update("net0", {})).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_INTERFACE_UNKNOWN" }),
    );
    set.close();
  });
});

describe("NetSet with a user's network", () => {
  const forwards = [{ hostPort: 8080, guestPort: 80 }];

  it("has other forwards from now on, all of them checked before", async () => {
    const setForwards = vi.spyOn(PasstBackend.prototype, "setForwards");
    const set = new NetSet(checkInterfaces([{ user: {} }]));
    const events: string[] = [];
    for (const [name, { events$ }] of set.limits) {
      events$.subscribe(({ type }) => events.push(`${name} ${type}`));
    }
    const ops = { size: 5, refillTimeMs: 10 };
    await set.update("net0", { forwards, txRateLimiter: { ops } });
    expect(setForwards).toHaveBeenCalledWith([
      { ...forwards[0], protocol: "tcp", hostAddress: "127.0.0.1" },
    ]);
    expect(events).toEqual(["interface net0 tx configured"]);
    for (const wrong of [{ forwards: [{ hostPort: 0, guestPort: 80 }] }, { mtu: 1400 }]) {
      expect(() => set.update("net0", { rxRateLimiter: { ops }, ...wrong })).toThrow(
        expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
      );
    }
    expect([events.length, setForwards.mock.calls.length]).toEqual([1, 1]);
    setForwards.mockRejectedValueOnce(new Error("a port is taken"));
    const refused = set.update("net0", { forwards, rxRateLimiter: { ops } });
    await expect(refused).rejects.toThrow("a port is taken");
    expect(events).toHaveLength(1);
    set.close();
    setForwards.mockRestore();
  });
});

describe.skipIf(taps === undefined)("NetSet with taps (needs root)", () => {
  const { first, second } = taps ?? { first: "", second: "" };

  it("asks for a device for each interface and frees the taps at the end", () => {
    const set = new NetSet(checkInterfaces([{ tap: first }, { tap: second, id: "lan" }]));
    expect(set.requests.map(({ name }) => name)).toEqual(["interface net0", "interface lan"]);
    expect([...set.limits.keys()]).toContain("interface lan tx");
    set.close();
    new NetSet(checkInterfaces([{ tap: first }, { tap: second }])).close();
  });

  it("leaves no tap open when the second cannot be opened", () => {
    expect(
      () => new NetSet(checkInterfaces([{ tap: first }, { tap: "estalo-nowhere" }])),
    ).toThrow();
    new NetSet(checkInterfaces([{ tap: first }])).close();
  });

  it("changes limits while it runs, and checks them", () => {
    const set = new NetSet(checkInterfaces([{ tap: first }]));
    void set.update("net0", { rxRateLimiter: { ops: { size: 5, refillTimeMs: 10 } } });
    const rx = set.limits.get("interface net0 rx");
    expect(rx?.limiter.config.ops).toMatchObject({ size: 5 });
    expect(() => set.update("net0", { forwards: [] })).toThrow("a user's network");
    const wrong = { txRateLimiter: { ops: { size: 0.5, refillTimeMs: 10 } } };
    expect(() => set.update("net0", wrong)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
    set.close();
  });
});
