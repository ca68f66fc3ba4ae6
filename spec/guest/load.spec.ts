/**
 * `estalo bench load` as its users start it, with a server of its own and guests of a few instructions.
 */
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EstaloClient } from "../../src/api/client/client.js";
import type { LoadSummary } from "../../src/cli/bench/load-report.js";
import { execute } from "../support/guest-child.js";
import { reasonToSkip } from "../support/guest-host.js";
import { ServeProcess } from "../support/serve-process.js";
import { HALT, print, Scratch, TINY_GUESTS } from "../support/tiny-guest.js";

const COMMAND = fileURLToPath(new URL("../../bin/estalo.js", import.meta.url));

const reason = reasonToSkip("spec/guest/load.spec.ts");

const scratch = new Scratch();
let server: ServeProcess;
beforeAll(async () => {
  if (reason === undefined) server = await ServeProcess.start();
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  scratch[Symbol.dispose]();
});

/** The load's words, for `execute`. */
const words = (kernel: string, ...more: string[]) => [
  ...[COMMAND, "bench", "load", "--json", "--kernel", kernel, "--mix", "32:1:1"],
  ...more,
];
const env = () => ({ ESTALO_HOST: server.host });
const lastOf = (stdout: string) =>
  JSON.parse(stdout.trim().split("\n").at(-1) as string) as LoadSummary;

async function left(): Promise<number> {
  await using client = new EstaloClient({ host: server.host });
  return (await client.microvms.list()).items.length;
}

describe.skipIf(reason !== undefined)("estalo bench load", () => {
  it("starts microVMs, sees their guests' first output, and removes them", async () => {
    const kernel = scratch.guest("says-hi", print("hi", HALT));
    const trace = scratch.file("trace.csv", "atMs,lifeMs,weight\n0,20,2\n200,20,2\n400,0,1\n");
    const { status, stdout } = await execute(
      process.execPath,
      words(kernel, "--trace", trace, "--concurrency", "5"),
      { env: env() },
    );
    expect(lastOf(stdout)).toMatchObject({
      ...{ arrived: 5, completed: 5, failed: 0, refused: 0, status: 0 },
      latenciesMs: { started: { count: 5 }, ready: { count: 5 }, removed: { count: 5 } },
      server: { residentBytesMax: expect.any(Number) },
    });
    expect(status).toBe(0);
    expect(await left()).toBe(0);
  });

  it("waits for guests that end by themselves, and tells those that failed", async () => {
    const off = scratch.guest("off", print("hi", TINY_GUESTS.poweroff));
    const guest = ["--rate", "20", "--count", "3", "--life", "guest"];
    const good = await execute(process.execPath, words(off, ...guest), { env: env() });
    expect(lastOf(good.stdout)).toMatchObject({
      completed: 3,
      latenciesMs: { ended: { count: 3 } },
    });
    const panic = scratch.guest("panic", print("no", TINY_GUESTS.panic));
    const bad = await execute(process.execPath, words(panic, ...guest), { env: env() });
    expect(lastOf(bad.stdout).failures).toMatchObject([{ code: "guest-panic", count: 3 }]);
    expect(bad.status).toBe(1);
    expect(await left()).toBe(0);
  });

  it("ends with Ctrl-C, removes what it made, and tells how far it came", async () => {
    const kernel = scratch.guest("halts", print("hi", HALT));
    const { status, stdout } = await execute(
      process.execPath,
      words(kernel, "--rate", "5", "--life", "1h", "--duration", "1h"),
      // A microVM is ready by then.
      { env: env(), when: ['"readyMs":{', (child) => child.kill("SIGINT")] },
    );
    expect(lastOf(stdout)).toMatchObject({ interrupted: "SIGINT", failed: 0, live: 0 });
    expect(status).toBe(130);
    expect(await left()).toBe(0);
  });
});
