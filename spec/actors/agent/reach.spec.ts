/** How an agent is reached that is not there yet, too busy, or gone. */
import { PassThrough } from "node:stream";
import { afterAll, describe, expect, it, vi } from "vitest";
import { GuestAgent } from "../../../src/actors/agent/guest-agent.js";
import { EstaloError } from "../../../src/errors.js";
import { AgentProcess } from "../../support/agent-process.js";

const host = new AgentProcess();
afterAll(() => host[Symbol.dispose]());

const vsockError = (reason: string) =>
  new EstaloError("ERR_ESTALO_VSOCK", reason, { data: { reason } });
const refused = vsockError("refused");
const late = vsockError("timed-out");

/** An agent whose first connections end so; those after them are made. */
function agentAfter(failures: readonly (EstaloError | undefined)[], timeoutMs?: number) {
  const next = failures.values();
  const connect = async () => {
    const failure = next.next().value;
    if (failure !== undefined) throw failure;
    return host.connect();
  };
  return new GuestAgent(connect, timeoutMs);
}

describe("GuestAgent", () => {
  it("waits for an agent that is not there yet, and says so in the end", async () => {
    const slow = agentAfter([refused, refused]);
    expect((await slow.exec(["echo", "up"])).stdout).toBe("up\n");
    const never = new GuestAgent(() => Promise.reject(refused), 200);
    await expect(never.health()).rejects.toMatchObject({
      code: "ERR_ESTALO_AGENT_UNREACHABLE",
      cause: refused,
    });
    const ended = new GuestAgent(() =>
      Promise.reject(new EstaloError("ERR_ESTALO_STATE", "ended")),
    );
    await expect(ended.health()).rejects.toMatchObject({ code: "ERR_ESTALO_STATE" });
  });

  it("takes a guest that says nothing for busy, and one where nobody listens any more for ended", async () => {
    const known = agentAfter([undefined, late, late, undefined, refused]);
    await known.health();
    expect((await known.exec(["echo", "still up"])).stdout).toBe("still up\n");
    await expect(known.health()).rejects.toMatchObject({
      code: "ERR_ESTALO_AGENT_UNREACHABLE",
      cause: refused,
    });
  });

  it("takes a guest that refuses one of very many calls at once for busy", async () => {
    const QUEUED = 129;
    let queued = 0;
    // As Linux does whose agent has not come to accept: a queue, and a refusal beyond it.
    const agent = new GuestAgent(async () => {
      if (queued === QUEUED) throw refused;
      queued++;
      const stream = new PassThrough();
      stream.once("close", () => queued--);
      return stream;
    });
    const call = async () => {
      const stream = await agent.openStream();
      await new Promise((resolve) => setTimeout(resolve, 20));
      stream.destroy();
    };
    await Promise.all(Array.from({ length: 3 * QUEUED }, call));
    await vi.waitUntil(() => queued === 0);
  });
});
