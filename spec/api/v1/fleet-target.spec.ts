/** A record of the fleet as door 1's machine. */
import { describe, expect, it } from "vitest";
import { FleetTarget } from "../../../src/api/v1/fleet-target.js";
import { PlayedFleet } from "../../support/played-fleet.js";

async function targetOf(state: "configured" | "running" | "paused") {
  const fleet = new PlayedFleet();
  const { record } = await fleet.create({ start: false });
  if (state !== "configured") await fleet.start(record.id);
  if (state === "paused") await fleet.pause(record.id);
  return { fleet, target: new FleetTarget(fleet, record.id), id: record.id };
}

describe("FleetTarget", () => {
  it.each([
    ["configured", "Not started"],
    ["running", "Running"],
    ["paused", "Paused"],
  ] as const)("is, %s, what Firecracker calls %s", async (state, phase) => {
    expect((await targetOf(state)).target.phase).toBe(phase);
  });

  it("is not started any more when its microVM has ended", async () => {
    const { fleet, target, id } = await targetOf("running");
    await fleet.kill(id);
    expect(target.phase).toBe("Not started");
  });

  it("changes nothing for a draft without a difference", async () => {
    const { fleet, target, id } = await targetOf("configured");
    target.draft = { ...target.draft };
    expect(fleet.get(id).config).toEqual({});
  });

  it("takes away what the draft takes away", async () => {
    const { fleet, target, id } = await targetOf("configured");
    fleet.configure(id, () => ({ kernel: "/k", initrd: "/i", bootArgs: "x" }));
    target.draft = { ...target.draft, bootSource: { kernel_image_path: "/l" } };
    expect(fleet.get(id).config).toEqual({ kernel: "/l" });
  });

  it("leaves the metadata service as it was told when only its data changes", async () => {
    const { fleet, target, id } = await targetOf("configured");
    const networkInterfaces = [{ tap: "t0" }];
    fleet.configure(id, () => ({ networkInterfaces, mmds: { data: { a: "1" } } }));
    target.draft = { ...target.draft, metadata: { b: "2" } };
    // All interfaces reach it, those too that come later.
    expect(fleet.get(id).config).toEqual({ networkInterfaces, mmds: { data: { b: "2" } } });
  });

  it("remembers what the fleet refused", async () => {
    const { target } = await targetOf("configured");
    await expect(target.pause()).rejects.toThrow();
    expect(target.refusal?.code).toBe("ERR_ESTALO_STATE");
  });
});
