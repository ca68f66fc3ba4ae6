/**
 * What a fleet makes of the state it opens: what lived is lost, and some of it is started again.
 *
 * Policy "always" starts again what ran, or waited for its restart, when the server died or closed; what
 * somebody was ending stays ended. As Docker does with its daemon's restarts.
 */
import { FleetMember } from "./fleet-member.js";
import type { FleetRecord } from "./fleet-messages.js";
import type { FleetRegistry } from "./fleet-registry.js";
import { isLiving, type MemberHost } from "./fleet-run.js";
import type { FleetStore } from "./fleet-store.js";
import { isRestartedAtOpen } from "./restart-policy.js";

/** Removes what a lost microVM may have left on the host. */
export type CleanUp = (lost: FleetRecord) => void | Promise<void>;

/** What recovery works on. */
export interface Recovery {
  readonly store: FleetStore;
  readonly host: MemberHost;
  /** Empty; filled from the store. */
  readonly members: FleetRegistry;
  readonly cleanUp: readonly CleanUp[];
}

/** Fills the registry, tells what is lost, cleans up after it, and begins the restarts. */
export async function recover({ store, host, members, cleanUp }: Recovery): Promise<void> {
  const lost: FleetMember[] = [];
  const restarting = new Set<FleetMember>();
  const forgotten: FleetMember[] = [];
  for (const { ordinal, record, startsAtOpen } of store.microvms()) {
    const member = new FleetMember(host, ordinal, record);
    members.add(member);
    const didRun = isLiving(record.state) && record.state !== "stopping";
    const isDue = didRun || record.restartAtMs !== undefined || startsAtOpen;
    if (isDue && isRestartedAtOpen(record.restart)) restarting.add(member);
    else if (record.restartAtMs !== undefined) forgotten.push(member);
    if (isLiving(record.state)) lost.push(member);
  }
  for (const member of lost) {
    member.lose(lostReason(store));
    host.counters.lost += 1;
    for (const clean of cleanUp) {
      try {
        await clean(member.record);
      } catch {
        host.counters.cleanupErrors += 1;
      }
    }
    if (!restarting.has(member)) member.forgetRestart();
  }
  for (const member of forgotten) member.forgetRestart();
  for (const member of restarting) member.restart();
}

function lostReason({ deadServer }: FleetStore): string {
  if (deadServer === undefined) return "its server closed without ending it";
  if (deadServer.hostDied) return "the host went down while it ran";
  return `its server, process ${deadServer.pid}, died while it ran`;
}
