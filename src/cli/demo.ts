/**
 * `estalo demo`, what `npm start` runs: a shell with a scratch disk on a terminal, otherwise a demonstration
 * that boots, says what the guest is, uses its disk and shows where the milliseconds went.
 *
 * The scratch disk has no name any more when the guest starts, so that it is gone with this process however
 * that ends.
 */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "./run.js";
import type { RunOptions } from "./run-options.js";

const SCRATCH_BYTES = 64 * 2 ** 20;

/** What the guest does; short, as it travels on the kernel's command line. */
const DEMONSTRATION = `set -e
say() { printf '%-12s%s\\n' "$1:" "$2"; }
say kernel "$(uname -srm)"
say processors "$(nproc)"
say memory "$(awk '/MemTotal/{print int($2/1024)}' /proc/meminfo) MiB"
for d in /sys/block/vd*; do say "disk" "\${d##*/}, $(($(cat $d/size)/2048)) MiB"; done
seq 1000000 1032767 >/tmp/data
dd if=/tmp/data of=/dev/vdb bs=64k conv=fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vdb bs=64k count=4 2>/dev/null | cmp - /tmp/data
say wrote "256 KiB to /dev/vdb, and read the same back"`;

const OPTIONS = {
  env: [],
  console: false,
  jail: false,
  json: false,
  name: "demo",
} as const;

/** The verb; its exit status. */
export async function demo(verbose: boolean): Promise<number> {
  const isTerminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
  const scratch = openScratchFile();
  try {
    const options: RunOptions = {
      ...OPTIONS,
      nets: [],
      drives: [{ id: "scratch", path: `/proc/self/fd/${scratch}`, cacheType: "Writeback" }],
      command: isTerminal ? [] : ["sh", "-c", DEMONSTRATION],
      timings: true,
      verbose,
    };
    process.stdout.write(
      isTerminal
        ? "A shell in a microVM. /dev/vdb is a scratch disk; exit or ctrl-p ctrl-q ends it.\n"
        : "A microVM boots, looks around and uses its disk:\n",
    );
    return await run(options);
  } finally {
    closeSync(scratch);
  }
}

/** An empty file without a name; the descriptor is all there is of it. */
function openScratchFile(): number {
  const folder = mkdtempSync(join(tmpdir(), "estalo-demo-"));
  try {
    const file = openSync(join(folder, "scratch"), "wx+", 0o600);
    ftruncateSync(file, SCRATCH_BYTES);
    return file;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
