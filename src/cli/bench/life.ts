/**
 * One microVM's life: it is created and started, gets ready, lives its time, and is removed. Whatever goes wrong
 * ends it with a code, and what is left of it is removed.
 */
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { EstaloClient } from "../../api/client/client.js";
import type { MicrovmExit, MicrovmSpec } from "../../api/client/types.js";
import { isEstaloError, toEstaloError } from "../../errors.js";
import type { Arrival } from "./arrivals.js";
import type { GuestSigns, GuestWatch } from "./guest-watch.js";
import type { Latencies } from "./latencies.js";
import type { LoadOptions } from "./load-options.js";

/** How a life ended. */
export type LifeEnd =
  | { readonly kind: "completed" }
  | { readonly kind: "failed"; readonly code: string; readonly message: string }
  /** The whole load was ended. */
  | { readonly kind: "interrupted" };

/** What all lives of a load share. */
export interface LifeContext {
  readonly client: EstaloClient;
  readonly watch: GuestWatch;
  readonly latencies: Latencies;
  readonly options: Pick<LoadOptions, "ready" | "timeoutMs" | "isGraceful">;
  /** Without name and size. */
  readonly spec: MicrovmSpec;
  /** Ends lives where they are; who aborts it removes what they leave. */
  readonly signal: AbortSignal;
}

/** What ends a life before its time, and is no error of a call. */
class LifeFailure extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** Lives one life that was due at `dueMs` of our clock; never rejects. */
export async function live(
  context: LifeContext,
  name: string,
  { lifeMs, size }: Arrival,
  dueMs: number,
): Promise<LifeEnd> {
  const { client, watch, latencies, spec, signal } = context;
  const signs = watch.expect(name);
  const sinceDue = () => performance.now() - dueMs;
  try {
    latencies.record("late", sinceDue());
    const { id } = await limited(context, "ready", async (limit) => {
      const config = { ...spec.config, ...size };
      const microvm = await client.microvms.create({ ...spec, name, config }, { signal: limit });
      latencies.record("started", sinceDue());
      await ready(context, microvm.id, signs, limit);
      return microvm;
    });
    latencies.record("ready", sinceDue());
    const early = await (lifeMs === undefined
      ? limited(context, "ended", (limit) => abortable(signs.ended, limit))
      : Promise.race([sleep(lifeMs, undefined, { signal }), signs.ended]));
    if (early !== undefined) checkEnd(early);
    if (lifeMs === undefined) latencies.record("ended", sinceDue());
    const asked = performance.now();
    if (context.options.isGraceful) await client.microvms.stop(id, { signal });
    await client.microvms.delete(id, { force: true, signal });
    latencies.record("removed", performance.now() - asked);
    return { kind: "completed" };
  } catch (error) {
    if (signal.aborted) return { kind: "interrupted" };
    await remove(context, name);
    return failure(error);
  } finally {
    watch.forget(name);
  }
}

/** Does `work` within the time limit; its end is a failure that says what did not come. */
async function limited<T>(
  { options, signal }: LifeContext,
  what: "ready" | "ended",
  work: (limit: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const late = new LifeFailure(`not-${what}`, `not ${what} within ${options.timeoutMs} ms`);
  const timer = setTimeout(() => controller.abort(late), options.timeoutMs);
  const onAbort = () => controller.abort(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await work(controller.signal);
  } catch (error) {
    throw controller.signal.reason === late ? late : error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    // What was raced and lost is not wanted any more.
    controller.abort();
  }
}

/** Rejects with the signal's reason when it comes first. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/** Fulfilled when the mark is seen. */
async function ready(
  { client, options }: LifeContext,
  id: string,
  { booted, ended }: GuestSigns,
  limit: AbortSignal,
): Promise<void> {
  if (options.ready === "started") return;
  if (options.ready === "booted") {
    const exit = await abortable(Promise.race([booted, ended]), limit);
    if (exit !== undefined) throw tooEarly(exit);
  } else if (options.ready === "output") {
    const console = client.console(id, { write: false, signal: limit });
    if (!(await saysSomething(console))) throw tooEarly(await abortable(ended, limit));
  } else {
    const exec = Promise.resolve(client.agent(id).exec(["true"], { signal: limit }));
    // When its guest ends first nobody waits for it.
    exec.catch(() => {});
    const { exitCode } = await abortable(Promise.race([exec, ended]), limit);
    if (exitCode !== 0) throw new LifeFailure("exec-status", `true ended with ${exitCode}`);
  }
}

/** Whether a console shows anything before it ends; ends it. */
async function saysSomething(console: Duplex): Promise<boolean> {
  for await (const _bytes of console) return true;
  return false;
}

function tooEarly(exit: MicrovmExit): LifeFailure {
  checkEnd(exit);
  return new LifeFailure("guest-ended", "the guest ended before it was ready");
}

/** Throws for an end that is not a guest's own, with status 0. */
function checkEnd({ reason, exitCode, error }: MicrovmExit): void {
  if (error !== null) throw new LifeFailure(error.code, error.message);
  if (reason !== "poweroff" && reason !== "reboot") {
    throw new LifeFailure(`guest-${reason}`, `the guest ended: ${reason}`);
  }
  if (exitCode !== 0) throw new LifeFailure("guest-status", `the guest reported ${exitCode}`);
}

function failure(error: unknown): LifeEnd {
  const known = error instanceof LifeFailure || isEstaloError(error) ? error : toEstaloError(error);
  return { kind: "failed", code: known.code, message: known.message.split("\n")[0] };
}

/** What is left of a life that failed; the sweep at the end tries again. */
async function remove({ client, signal }: LifeContext, name: string): Promise<void> {
  await client.microvms.delete(name, { force: true, signal }).catch(() => {});
}
