/**
 * Starts cells: Node.js in a jail of its own (docs/jailer.md), joined to this process by two sockets, one for
 * frames and one for open files, and by nothing else.
 *
 * A cell never outlives this process: its launcher ends with us, and the cell with its launcher; what was made for
 * it is removed by the launcher's caretaker, also when we are gone.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { EstaloError, hostError } from "../errors.js";
import { launcherFile } from "../jail/launch.js";
import { makePlan, removalWords } from "../jail/plan.js";
import { CELL_NAME, cellProgram, type Program } from "../jail/program.js";
import { native } from "../native/binding.js";
import type { CellProcess } from "./cell-link.js";

/** Of what a cell says on standard error, the end is kept. */
const SAID_CHARACTERS = 1000;
/** The caretaker has this long to take a jail away, ms. */
const REMOVAL_PATIENCE_MS = 3000;
const REMOVAL_STEP_MS = 20;

/** How jails of cells are made. */
export interface CellJails {
  /** Folder of all of them; made with mode 0700. */
  readonly folder: string;
  readonly cgroups: readonly string[];
  readonly cgroupVersion: string;
}

/** Starts one; raises ERR_ESTALO_JAIL. `user`: its user and group. */
export function startCell(
  jails: CellJails,
  id: string,
  user: { readonly uid: number; readonly gid: number },
  program: Program = cellProgram(),
): CellProcess {
  const { cgroups, cgroupVersion } = jails;
  const plan = makePlan(
    {
      id,
      execFile: "",
      uid: `${user.uid}`,
      gid: `${user.gid}`,
      baseFolder: jails.folder,
      hasEmptyNetwork: true,
      isDaemon: false,
      hasPidNamespace: true,
      isAttached: true,
      cgroups,
      cgroupVersion,
      sharesParentCgroup: true,
      resourceLimits: [],
      cleans: true,
      arguments: [],
    },
    program,
  );
  const [[descriptors, cellDescriptors], [channel, cellChannel]] = twoSocketPairs();
  let child: ChildProcess;
  try {
    child = spawn(launcherFile(), ["start", ...plan.words], {
      stdio: [cellDescriptors, cellChannel, "pipe"],
      env: {},
    });
  } catch (error) {
    for (const fd of [descriptors, channel]) closeSync(fd);
    throw hostError("start", "a cell's jail", error, "ERR_ESTALO_JAIL");
  } finally {
    for (const fd of [cellDescriptors, cellChannel]) closeSync(fd);
  }
  let isOpen = true;
  const said = hearing(child);
  return {
    root: join(plan.folder, "root"),
    socket: new Socket({ fd: channel }),
    get pid() {
      return programOf(child.pid);
    },
    giveDescriptor(fd) {
      native().sendDescriptor(isOpen ? descriptors : -1, fd);
    },
    kill: () => child.kill("SIGKILL"),
    ended: new Promise((resolve) => {
      const end = async (how: string) => {
        if (!isOpen) return;
        isOpen = false;
        closeSync(descriptors);
        await untilGone(plan.folder);
        resolve(`${how}${said()}`);
      };
      child.on("error", (error) => void end(error.message));
      child.on(
        "close",
        (status, signal) => void end(signal === null ? `status ${status}` : `${signal}`),
      );
    }),
  };
}

/** For descriptors and for frames: both or, where this process may open no more, none. */
function twoSocketPairs(): [[number, number], [number, number]] {
  const made: [number, number][] = [];
  try {
    for (let count = 0; count < 2; count++) made.push(native().socketPair());
  } catch (error) {
    for (const fd of made.flat()) closeSync(fd);
    throw hostError("make", "a cell's sockets", error, "ERR_ESTALO_JAIL");
  }
  return [made[0], made[1]];
}

/** Takes away jails that a server before this one left. */
export function removeOldCells({ folder }: Pick<CellJails, "folder">): void {
  const cells = join(folder, CELL_NAME);
  if (!existsSync(cells)) return;
  for (const id of readdirSync(cells)) {
    spawnSync(launcherFile(), ["remove", ...oldCellWords(folder, id)]);
  }
}

function oldCellWords(folder: string, id: string): string[] {
  try {
    return removalWords(folder, CELL_NAME, id, true);
  } catch {
    // The host went down before its record was written: it has a folder and no more.
    return ["folder", join(realpathSync(folder), CELL_NAME, id), "kill"];
  }
}

/** Makes the folder of all jails. */
export function makeCellFolder({ folder }: Pick<CellJails, "folder">): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw hostError("make folder", folder, error, "ERR_ESTALO_JAIL");
  }
}

/** Whether this user could start cells at all; raises ERR_ESTALO_ISOLATION when that is known not to be. */
export function isolationError(cause: EstaloError): EstaloError {
  const isRoot = process.geteuid?.() === 0;
  return new EstaloError(
    "ERR_ESTALO_ISOLATION",
    `microVMs cannot be isolated here: ${cause.message}`,
    {
      cause,
      hint: isRoot
        ? "see the cause; docs/jailer.md says what a jail needs"
        : "serve as root, or where this user may make user namespaces",
      data: { cause: cause.message },
    },
  );
}

/** What it says on standard error, on one line. */
function hearing({ stderr }: ChildProcess): () => string {
  let said = "";
  stderr?.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-SAID_CHARACTERS);
  });
  return () => {
    const text = said.replaceAll(/[^\x20-\x7e]+/g, " ").trim();
    return text === "" ? "" : `: ${text}`;
  };
}

/** The launcher's one child is the cell. */
function programOf(launcher: number | undefined): number | undefined {
  try {
    const text = readFileSync(`/proc/${launcher}/task/${launcher}/children`, "latin1").trim();
    return /^\d+$/.test(text) ? Number(text) : undefined;
  } catch {
    return undefined;
  }
}

async function untilGone(folder: string): Promise<void> {
  for (let waited = 0; waited < REMOVAL_PATIENCE_MS; waited += REMOVAL_STEP_MS) {
    if (!existsSync(folder)) return;
    await new Promise((resolve) => setTimeout(resolve, REMOVAL_STEP_MS));
  }
}
