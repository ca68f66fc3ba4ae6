/**
 * The fleet of `estalo serve`: its microVMs in this process, or each, or each tenant's, in a cell.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Fleet } from "../actors/fleet.js";
import type { FleetRecord } from "../actors/fleet-messages.js";
import type { MakeSupervisor } from "../actors/fleet-run.js";
import { claimUnixPath } from "../api/unix-path.js";
import { toEstaloError } from "../errors.js";
import { Cells } from "../isolation/cells.js";
import {
  isolationError,
  makeCellFolder,
  removeOldCells,
  startCell,
} from "../isolation/jailed-cell.js";
import { removeVsockLink } from "../isolation/vsock-link.js";
import type { ServeLog } from "./serve-log.js";
import type { IsolationOptions, ServeOptions } from "./serve-options.js";

/** Users of cells, of those that systemd leaves to nobody. */
const IDS = { first: 1_900_000_000, last: 1_900_009_999 };
const CGROUP_V2_FILE = "/sys/fs/cgroup/cgroup.controllers";

/** A fleet, and what its microVMs run in. */
export interface ServedFleet {
  readonly fleet: Fleet;
  readonly cells: Cells | undefined;
}

/** Opens it; raises ERR_ESTALO_ISOLATION where microVMs cannot be isolated, and what Fleet.open does. */
export async function openFleet(
  { stateDir, isolation }: ServeOptions,
  log: ServeLog,
): Promise<ServedFleet> {
  const folder = join(stateDir, "cells");
  const cleanUp = [(lost: FleetRecord) => removeVsockSocket(lost, folder)];
  if (isolation === undefined) {
    return { fleet: await Fleet.open({ stateDir, cleanUp }), cells: undefined };
  }
  const cells = cellsOf(folder, isolation, log);
  let opened: Promise<void> | undefined;
  const open = () => {
    // Once the state's lock is held: another server's cells are its own.
    opened ??= openCells(cells, folder);
    return opened;
  };
  const makeSupervisor: MakeSupervisor = async (config, record) => {
    await open();
    return cells.make(config, record);
  };
  const fleet = await Fleet.open({ stateDir, cleanUp, makeSupervisor });
  try {
    await open();
    return { fleet, cells };
  } catch (error) {
    await fleet.close({ timeoutMs: 0 });
    throw error;
  }
}

function cellsOf(folder: string, isolation: IsolationOptions, log: ServeLog): Cells {
  const { tenantLabel, cgroups } = isolation;
  const jails = {
    folder,
    cgroups,
    cgroupVersion: existsSync(CGROUP_V2_FILE) ? "2" : "1",
  };
  const [uid, gid] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
  const isRoot = uid === 0;
  return new Cells({
    tenantLabel,
    ids: isRoot ? (isolation.ids ?? IDS) : { first: uid, last: uid },
    start: (id, user) => startCell(jails, id, isRoot ? { uid: user, gid: user } : { uid, gid }),
    onLost: (error) => log.write("warn", "lost a cell", { error: error.toRecord() }),
  });
}

async function openCells(cells: Cells, folder: string): Promise<void> {
  try {
    makeCellFolder({ folder });
    removeOldCells({ folder });
    await cells.open();
  } catch (error) {
    throw isolationError(toEstaloError(error));
  }
}

/** A Unix socket that a lost microVM listened on, or a link to one. Nobody answers there, or it is not removed. */
async function removeVsockSocket({ config }: FleetRecord, folder: string): Promise<void> {
  const path = config.vsock?.udsPath;
  if (path === undefined) return;
  removeVsockLink(path, folder);
  await claimUnixPath(path, true);
}
