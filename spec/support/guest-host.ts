/**
 * On which host guest specs run, and what this process holds while they do.
 */
import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Where the specs run: "local" (this machine's KVM) or "testbed"; printed with the report. */
export const specHost = process.env.ESTALO_SPEC_HOST ?? "local";

/** KVM emulates kernel mode here: only guests made for that can run (docs/hosts.md). */
export function isKernelModeEmulated(): boolean {
  return readdirSync("/sys/module").includes("kvm_pvm");
}

/** Why specs that need /dev/kvm, and perhaps root, cannot run here, if they cannot; said once for `spec`. */
export function reasonToSkip(spec: string, needsRoot = false): string | undefined {
  const reason = needsRoot && process.getuid?.() !== 0 ? "needs root" : kvmRefusal();
  if (reason !== undefined) console.warn(`${spec} is skipped: ${reason}`);
  return reason;
}

function kvmRefusal(): string | undefined {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return `no usable /dev/kvm: ${(error as Error).message}`;
  }
}

/** Boots that a spec is given in the testbed. */
const TESTBED_BOOTS = 4;

/**
 * Boots a guest. In the testbed once more where it met a triple fault on its way up, which QEMU's AMD-V may do to it
 * whatever monitor it has (docs/hosts.md). Anywhere else such an end is the spec's failure.
 */
export async function boot<Booted>(start: () => Promise<Booted>): Promise<Booted> {
  for (let boots = 1; ; boots++) {
    try {
      return await start();
    } catch (error) {
      const isTripleFault = (error as Error).message.includes('"reason":"triple-fault"');
      if (specHost !== "testbed" || !isTripleFault || boots === TESTBED_BOOTS) throw error;
      console.warn(`QEMU's AMD-V failed: a triple fault ended boot ${boots}. Once more`);
    }
  }
}

/** ESTALO_SPEC_LONG=1 asks for the sizes that users meet, however long they take on this host. */
export const isLong = process.env.ESTALO_SPEC_LONG === "1";

/** Whether sizes are cut to what a guest whose kernel is emulated does in seconds. */
export function isCutShort(): boolean {
  return isKernelModeEmulated() && !isLong;
}

/** passt has to be there, and takes nothing but a host with a default route. */
export function passtIsUsable(): boolean {
  const folders = (process.env.PATH ?? "").split(":");
  return (
    folders.some((folder) => existsSync(join(folder, "passt"))) &&
    /^\S+\t00000000\t/m.test(readFileSync("/proc/net/route", "utf8"))
  );
}

/** What must be the same before and after a microVM. */
export interface Holdings {
  readonly descriptors: number;
  readonly threads: number;
  readonly pssMib: number;
}

/** What this process holds now. */
export function holdings(): Holdings {
  const rollup = readFileSync("/proc/self/smaps_rollup", "utf8");
  return {
    descriptors: readdirSync("/proc/self/fd").length,
    threads: readdirSync("/proc/self/task").length,
    pssMib: Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1]) / 1024,
  };
}

/** Names of this process's threads. */
export function threadNames(): string[] {
  return readdirSync("/proc/self/task").flatMap((task) => {
    try {
      return [readFileSync(`/proc/self/task/${task}/comm`, "utf8").trim()];
    } catch {
      // The thread ended meanwhile.
      return [];
    }
  });
}
