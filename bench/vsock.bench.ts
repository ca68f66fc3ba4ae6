/**
 * The socket device: a stream to the guest and from it, and connections one after the other.
 *
 * peers/vsock-peer.c is the program on the host, by Firecracker's protocol on a Unix socket. QEMU has its
 * host's kernel carry the same (vhost-vsock) and takes part where that is to be had.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compareRuns, type DeviceFigure, type DeviceRun, runDevice } from "./device-run.js";
import type { BenchOptions, Measure } from "./harness.js";
import { deviceMonitors, GUEST_CID, type MonitorName, peerProgram, tscPerUs } from "./monitors.js";
import { whileRunning } from "./process.js";

const KINDS: readonly (readonly [job: string, peer: string, figures: readonly DeviceFigure[]])[] = [
  ["vsock-receive", "send", streamFigures("to")],
  ["vsock-send", "receive", streamFigures("from")],
  [
    "vsock-connect",
    "connect",
    [
      { name: "vsock: connections", unit: "per second", of: (run) => run.operationsPerSecond },
      { name: "vsock: from connection to connection, p99", unit: "us", of: (run) => run.p99Us },
      { name: "vsock: monitor's CPU time for a connection", unit: "us", of: (run) => run.cpuUs },
    ],
  ],
];

function streamFigures(direction: "to" | "from"): DeviceFigure[] {
  const name = `vsock: stream ${direction} the guest`;
  return [
    { name, unit: "MiB per second", of: (run) => run.mibPerSecond },
    { name: `${name}, monitor's CPU time for a MiB`, unit: "us", of: (run) => run.cpuUsPerMib },
  ];
}

export async function benchVsock({ smoke }: BenchOptions): Promise<Measure[]> {
  const hasVhost = existsSync("/dev/vhost-vsock");
  const monitors = deviceMonitors().filter((name) => name !== "qemu microvm" || hasVhost);
  if (!hasVhost) console.error("vsock: QEMU left out, it needs /dev/vhost-vsock");
  const time = { seconds: smoke ? 0.1 : 1, tscPerUs: tscPerUs() };
  const folder = mkdtempSync(join(tmpdir(), "estalo-bench-"));
  const run = (monitor: MonitorName, job: string, what: string): Promise<DeviceRun> => {
    // Firecracker leaves its socket behind.
    const path = join(folder, "socket");
    rmSync(path, { force: true });
    const where = monitor === "qemu microvm" ? ["cid", String(GUEST_CID)] : ["unix", path];
    return whileRunning([peerProgram("vsock-peer"), what, ...where], () =>
      runDevice(monitor, { words: `bench=${job}`, devices: { vsock: path }, ...time }),
    );
  };
  const measures: Measure[] = [];
  try {
    for (const [job, what, figures] of KINDS) {
      const contestants = new Map(
        monitors.map((monitor) => [monitor, () => run(monitor, job, what)]),
      );
      measures.push(...(await compareRuns(smoke ? 1 : 3, contestants, figures)));
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return measures;
}
