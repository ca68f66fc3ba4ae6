/**
 * Operations on the memory balloon.
 */
import type { BalloonChange } from "../../actors/device-changes.js";
import type { Eventually } from "../../actors/running-microvm.js";
import { toEstaloError } from "../../errors.js";
import * as schemas from "./balloon-schemas.js";
import type { Balloon } from "./draft.js";
import { Fault } from "./faults.js";
import { NO_CONTENT, type Operation, type OperationCall } from "./operation.js";
import type { FirecrackerTarget } from "./target.js";

const NO_BALLOON = "Balloon config error: Device not found.";
const TOO_LARGE =
  "Balloon config error: Requested memory should be less than the available guest memory.";

function complete(json: schemas.BalloonJson): Balloon {
  return {
    amount_mib: json.amount_mib,
    deflate_on_oom: json.deflate_on_oom,
    stats_polling_interval_s: json.stats_polling_interval_s ?? 0,
    free_page_hinting: json.free_page_hinting ?? false,
    free_page_reporting: json.free_page_reporting ?? false,
  };
}

/** Works on the running machine's balloon; raises a Fault where there is none, and what the work raises as one. */
async function withBalloon<T>(
  { target }: OperationCall,
  work: (target: FirecrackerTarget) => Eventually<T>,
): Promise<T> {
  if (target.draft.balloon === undefined) throw new Fault(NO_BALLOON);
  try {
    return await work(target);
  } catch (error) {
    throw new Fault(`Balloon config error: ${toEstaloError(error).message}`);
  }
}

async function update(call: OperationCall, change: BalloonChange, shown: Partial<Balloon>) {
  await withBalloon(call, (target) => target.updateBalloon(change));
  const { target } = call;
  const balloon = { ...(target.draft.balloon as Balloon), ...shown };
  target.draft = { ...target.draft, balloon };
}

const putBalloon: Operation = {
  operationId: "putBalloon",
  method: "PUT",
  path: "/balloon",
  tag: "Memory",
  summary: "Adds the balloon, or replaces it.",
  body: schemas.Balloon,
  replies: NO_CONTENT,
  when: "before boot",
  run({ target, body }) {
    const balloon = complete(body as schemas.BalloonJson);
    if (balloon.amount_mib > target.draft.machine.mem_size_mib) throw new Fault(TOO_LARGE);
    target.draft = { ...target.draft, balloon };
  },
};

const getBalloon: Operation = {
  operationId: "describeBalloonConfig",
  method: "GET",
  path: "/balloon",
  tag: "Memory",
  summary: "The balloon's configuration.",
  replies: { 200: { description: "As it is.", schema: schemas.Balloon }, 400: NO_CONTENT[400] },
  when: "always",
  run({ target }) {
    if (target.draft.balloon === undefined) throw new Fault(NO_BALLOON);
    return target.draft.balloon;
  },
};

const patchBalloon: Operation = {
  operationId: "patchBalloon",
  method: "PATCH",
  path: "/balloon",
  tag: "Memory",
  summary: "Sets how much memory the guest is to give.",
  body: schemas.BalloonUpdate,
  replies: NO_CONTENT,
  when: "after boot",
  async run(call) {
    const { amount_mib } = call.body as { amount_mib: number };
    if (amount_mib > call.target.draft.machine.mem_size_mib) throw new Fault(TOO_LARGE);
    await update(call, { amountMib: amount_mib }, { amount_mib });
  },
};

const getStatistics: Operation = {
  operationId: "describeBalloonStats",
  method: "GET",
  path: "/balloon/statistics",
  tag: "Memory",
  summary: "What the balloon holds, and what the guest last told of its memory.",
  replies: {
    200: { description: "As it is.", schema: schemas.BalloonStats },
    400: NO_CONTENT[400],
  },
  when: "after boot",
  run: (call) =>
    withBalloon(call, async (target) => {
      const report = await target.balloon().report();
      const { statistics, targetMib, targetPages, actualMib, actualPages } = report;
      return {
        target_pages: targetPages,
        actual_pages: actualPages,
        target_mib: targetMib,
        actual_mib: actualMib,
        ...statistics,
      };
    }),
};

const patchStatistics: Operation = {
  operationId: "patchBalloonStatsInterval",
  method: "PATCH",
  path: "/balloon/statistics",
  tag: "Memory",
  summary: "Sets how often the guest is asked; not from or to never.",
  body: schemas.BalloonStatsUpdate,
  replies: NO_CONTENT,
  when: "after boot",
  async run(call) {
    const { stats_polling_interval_s } = call.body as { stats_polling_interval_s: number };
    const statsIntervalS = stats_polling_interval_s;
    await update(call, { statsIntervalS }, { stats_polling_interval_s });
  },
};

const startHinting: Operation = {
  operationId: "startBalloonHinting",
  method: "PATCH",
  path: "/balloon/hinting/start",
  tag: "Memory",
  summary: "Asks the guest for its free pages.",
  body: schemas.BalloonHintingStart,
  isBodyOptional: true,
  replies: NO_CONTENT,
  when: "after boot",
  async run(call) {
    const { acknowledge_on_stop = true } = (call.body ?? {}) as { acknowledge_on_stop?: boolean };
    await withBalloon(call, (target) => target.balloon().startHinting(acknowledge_on_stop));
  },
};

const getHinting: Operation = {
  operationId: "describeBalloonHinting",
  method: "GET",
  path: "/balloon/hinting/status",
  tag: "Memory",
  summary: "The last commands of free page hinting, ours and the guest's.",
  replies: {
    200: { description: "As it is.", schema: schemas.BalloonHintingStatus },
    400: NO_CONTENT[400],
  },
  when: "after boot",
  run: (call) =>
    withBalloon(call, async (target) => {
      const { hostCommand, guestCommand } = await target.balloon().hinting;
      return { host_cmd: hostCommand, guest_cmd: guestCommand ?? null };
    }),
};

const stopHinting: Operation = {
  operationId: "stopBalloonHinting",
  method: "PATCH",
  path: "/balloon/hinting/stop",
  tag: "Memory",
  summary: "Ends it: the guest may use its pages again.",
  isBodyOptional: true,
  replies: NO_CONTENT,
  when: "after boot",
  run: (call) => withBalloon(call, (target) => target.balloon().stopHinting()),
};

export const BALLOON_OPERATIONS: readonly Operation[] = [
  putBalloon,
  getBalloon,
  patchBalloon,
  getStatistics,
  patchStatistics,
  startHinting,
  getHinting,
  stopHinting,
];
