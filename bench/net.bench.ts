/**
 * The network device beside its peers', on a tap in a network namespace of its own: frames to the host, from
 * it, and there and back. Needs root.
 *
 * To the host a frame is done when the device is done with it, and the tap's own counter must agree. From the
 * host, peers/net-peer.c sends no more than the guest takes. 64 KiB are TCP segments that nobody has cut yet.
 */
import { existsSync } from "node:fs";
import { compareRuns, type DeviceFigure, type DeviceRun, runDevice } from "./device-run.js";
import type { BenchOptions, Measure } from "./harness.js";
import { deviceMonitors, type MonitorName, peerProgram, tscPerUs } from "./monitors.js";
import { BenchNetwork, TAP } from "./netns.js";
import { whileRunning } from "./process.js";

type Direction = "send" | "receive" | "echo";

/** Bytes of the frames: 44 segments of 1460 bytes and their headers are the most that fits 64 KiB. */
const FRAMES: readonly (readonly [title: string, bytes: number, ahead: number])[] = [
  ["64 bytes", 64, 256],
  ["1500 bytes", 1514, 256],
  ["64 KiB", 54 + 44 * 1460, 12],
];
/** So many of the guest's frames must have come to the host. */
const LEAST_PART = 0.99;

/** Runs one job with the host's end that it needs. */
async function runNet(
  network: BenchNetwork,
  monitor: MonitorName,
  direction: Direction,
  bytes: number,
  ahead: number,
  time: { readonly seconds: number; readonly tscPerUs: number },
): Promise<DeviceRun> {
  const words = `bench=net-${direction} bytes=${bytes} ahead=${ahead}`;
  const job = { words, devices: { tap: TAP }, netns: network.name, ...time };
  if (direction === "send") {
    const before = network.framesFromGuest();
    const run = await runDevice(monitor, job);
    const frames = network.framesFromGuest() - before;
    // Those of the warm-up came as well.
    if (frames < LEAST_PART * run.operationsPerSecond * time.seconds) {
      throw new Error(`${monitor}: ${frames} frames came to the tap, fewer than it says it sent`);
    }
    return run;
  }
  const end = direction === "echo" ? ["echo", TAP] : ["send", TAP, String(bytes), String(ahead)];
  const inside = ["netns", "exec", network.name, peerProgram("net-peer")];
  return whileRunning(["ip", ...inside, ...end], () => runDevice(monitor, job));
}

function figures(direction: Direction, title: string): DeviceFigure[] {
  if (direction === "echo") {
    const name = `network: ${title} there and back`;
    return [
      { name: `${name}, p50`, unit: "us", of: (run) => run.p50Us },
      { name: `${name}, p99`, unit: "us", of: (run) => run.p99Us },
    ];
  }
  const name = `network: frames of ${title} ${direction === "send" ? "to" : "from"} the host`;
  return [
    { name, unit: "per second", of: (run) => run.operationsPerSecond },
    { name, unit: "MiB per second", of: (run) => run.mibPerSecond },
    { name: `${name}, monitor's CPU time each`, unit: "us", of: (run) => run.cpuUs },
  ];
}

export async function benchNet({ smoke }: BenchOptions): Promise<Measure[]> {
  if (process.getuid?.() !== 0 || !existsSync("/dev/net/tun")) {
    console.error("network: left out, it needs root and /dev/net/tun");
    return [];
  }
  const monitors = deviceMonitors();
  if (monitors.includes("qemu microvm") && existsSync("/dev/vhost-net")) {
    monitors.push("qemu microvm, vhost");
  }
  const time = { seconds: smoke ? 0.1 : 1, tscPerUs: tscPerUs() };
  const network = new BenchNetwork();
  const measures: Measure[] = [];
  try {
    for (const direction of ["send", "receive", "echo"] as const) {
      for (const [title, bytes, ahead] of direction === "echo" ? FRAMES.slice(0, 2) : FRAMES) {
        const contestants = new Map(
          monitors.map((monitor) => [
            monitor,
            () => runNet(network, monitor, direction, bytes, ahead, time),
          ]),
        );
        const list = figures(direction, title);
        measures.push(...(await compareRuns(smoke ? 1 : 3, contestants, list)));
      }
    }
  } finally {
    network.close();
  }
  return measures;
}
