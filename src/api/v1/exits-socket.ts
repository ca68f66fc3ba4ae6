/**
 * /v1/microvms/{id}/exits: a microVM's exits while they happen, or their counts, to one client.
 *
 * First a hello with the names that frames have indexes of, then batches as the server polls them, until the
 * microVM ends. Lossy: a client that does not read gets nothing until it has, and is told how much that was.
 */
import { EXIT_KINDS, type ExitBatch } from "../../actors/exit-batch.js";
import type { ExitCounts } from "../../actors/exit-counts.js";
import { encodeExitFrame } from "../exit-frames.js";
import { serialiserOf } from "../serialise.js";
import { exitRows } from "./exit-rows.js";
import { ExitsBatch, ExitsCounts, ExitsHello, type ExitsQuery } from "./exit-schemas.js";
import { type ExitsRequest, readExitsQuery } from "./exits-query.js";
import type { DoorFleet, LiveMicrovm } from "./fleet.js";
import { LossySession, type OpenSession, openLive, type Subscribe } from "./lossy-session.js";

const batchJson = serialiserOf(ExitsBatch);
const countsJson = serialiserOf(ExitsCounts);
const helloJson = serialiserOf(ExitsHello);

/**
 * What opens the session of one client. Raises ERR_ESTALO_REQUEST or ERR_ESTALO_CONFIG_INVALID for a query that
 * makes no sense, ERR_ESTALO_KVM_CAPABILITY for RIP where KVM cannot tell it; a microVM that is not there, or
 * does not exist at the moment, closes the socket.
 */
export function openExits(fleet: DoorFleet, idOrName: string, query: ExitsQuery): OpenSession {
  const request = readExitsQuery(query);
  return openLive(fleet, idOrName, "exits", (id, { exits }) => {
    // Before the upgrade, so that a wrong filter is a reply.
    const subscribe = subscription(exits, request);
    return (peer) => new LossySession(peer, hello(id, exits.devices), subscribe);
  });
}

function hello(id: string, devices: readonly string[]): string {
  const zeroUnixMs = Date.now() - Number(process.hrtime.bigint()) / 1e6;
  return helloJson({
    ...{ type: "hello", version: 1, microvm: id, zeroUnixMs },
    devices: [...devices],
    kinds: [...EXIT_KINDS],
  });
}

/** Checks what is asked for, and gives what starts it. */
function subscription(
  exits: LiveMicrovm["exits"],
  { watch, counting, isBinary }: ExitsRequest,
): Subscribe {
  if (counting !== undefined) {
    const windows = exits.counts({ ...watch, ...counting });
    return (sink) => {
      let dropped = 0;
      const subscribed = windows.subscribe({
        next: (counts) => {
          if (sink.isReady()) sink.send(countsMessage(counts, dropped));
          else dropped += 1;
        },
        complete: () => sink.end(),
      });
      return () => subscribed.unsubscribe();
    };
  }
  exits.batches(watch);
  return (sink) => {
    const batches = exits.batches({ ...watch, isReady: () => sink.isReady() });
    const subscribed = batches.subscribe({
      next: (batch) => sink.send(isBinary ? encodeExitFrame(batch) : batchMessage(batch)),
      complete: () => sink.end(),
    });
    return () => subscribed.unsubscribe();
  };
}

/** A batch as text. */
export function batchMessage(batch: ExitBatch): string {
  const { lost, dropped } = batch;
  return batchJson({ type: "exits", lost, dropped, exits: exitRows(batch) });
}

function countsMessage(counts: ExitCounts, dropped: number): string {
  const groups = counts.groups.map(({ address, ...group }) =>
    address === undefined ? group : { ...group, address: `0x${address.toString(16)}` },
  );
  return countsJson({ type: "counts", ...counts, groups, dropped });
}
