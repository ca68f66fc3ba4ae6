/**
 * Waiting for a guest so that a spec which fails says what the guest did: its state, how it ended, its events
 * and its last exits are in the error's message.
 */
import type { MicroVm, MicroVmEvent, MicroVmExit } from "estalo";
import { expect } from "vitest";
import { specHost } from "./guest-host.js";

/**
 * A wait gives up before vitest does, which would say nothing about the guest, and in the testbed before `npm test`
 * takes the virtual host for one that stands still, ms.
 */
export const GUEST_PATIENCE_MS = specHost === "testbed" ? 300_000 : 540_000;
/** Exits told of each vCPU. */
const LAST_EXITS = 16;
/** How often a condition is looked at, ms. */
const POLL_MS = 5;

const hex = (value: number | bigint) => `0x${value.toString(16)}`;

/** State, counters, events (the end with its error record among them) and last exits of a microVM, as text. */
export function guestReport(vm: MicroVm): string {
  const events: MicroVmEvent[] = [];
  // Replayed to whoever subscribes, before this returns.
  vm.events$.subscribe((event) => events.push(event)).unsubscribe();
  const exits = vm.traceReaders().map((reader, vcpu) => {
    const last = reader.read().slice(-LAST_EXITS);
    const texts = last.map(
      ({ reason, isWrite, address, data }) =>
        `${isWrite ? "write" : "read"} ${hex(address)} ${hex(data)} (KVM_EXIT ${reason})`,
    );
    return `vCPU ${vcpu}, last exits: ${texts.join(", ") || "none"}`;
  });
  const end = events.find((event) => event.type === "exited")?.exit;
  return [
    `microVM ${vm.id} is ${vm.state}: ${JSON.stringify(end ?? "no end yet")}`,
    ...exits,
    ...events.map((event) => `event: ${JSON.stringify(event)}`),
    `now at ${performance.now()} ms; metrics: ${JSON.stringify(vm.metrics)}`,
  ].join("\n");
}

/** Whether nothing more will come from this guest. */
export function hasEnded(vm: MicroVm): boolean {
  return vm.state === "stopped" || vm.state === "failed";
}

/** Waits until `condition` holds; rejects with the guest's report when it ends before, or lets us wait too long. */
export async function untilGuest(vm: MicroVm, condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + GUEST_PATIENCE_MS;
  while (!condition()) {
    if (hasEnded(vm) || performance.now() > deadlineMs) {
      throw new Error(`in vain for ${condition}:\n${guestReport(vm)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Waits for the guest's end and compares it; what differs is told with the guest's report. */
export async function expectEnd(
  vm: MicroVm,
  expected: Partial<Record<keyof MicroVmExit, unknown>>,
): Promise<MicroVmExit> {
  const signal = AbortSignal.timeout(GUEST_PATIENCE_MS);
  const exit = await vm.wait({ signal }).catch((cause) => {
    throw new Error(`no end:\n${guestReport(vm)}`, { cause });
  });
  expect(exit, guestReport(vm)).toMatchObject(expected);
  return exit;
}
