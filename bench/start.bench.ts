/**
 * What a start costs: from nothing, in a process that is warm, and how many in a second.
 *
 * "First instruction" is the first byte that the bench guest writes, its very first instruction, as it
 * arrives at whoever waits for it; "init" is the first output of the default guest's command.
 */
import { defaultGuest } from "../src/index.js";
import {
  alternate,
  type BenchOptions,
  compare,
  type Measure,
  measureAlone,
  quantile,
} from "./harness.js";
import {
  bareSteps,
  bootMonitors,
  GUEST,
  guestCommand,
  hasQemu,
  type MonitorName,
  qemu,
  subject,
} from "./monitors.js";
import { type Command, execute } from "./process.js";
import type { WarmStart } from "./subjects/warm-start.js";

const INIT_MARK = "init-runs-now";

async function benchCold({ smoke }: BenchOptions): Promise<Measure[]> {
  const monitors = bootMonitors();
  // The marker itself: some monitors say other things before it.
  const firstByte = async (name: MonitorName) =>
    (await execute(guestCommand(name, "bench=start"), { awaited: "!" })).awaitedMs;
  const times = await alternate(
    smoke ? 1 : 15,
    new Map(monitors.map((name) => [name, () => firstByte(name)] as const)),
  );
  const ours = times.get("estalo") ?? [];
  times.delete("estalo");
  return compare({ name: "start: cold, spawn to first instruction", unit: "ms" }, ours, times);
}

/** Linux to init with the default guest; nothing where the images are not built. */
async function benchInit({ smoke }: BenchOptions): Promise<Measure[]> {
  // Seconds on hardware, a minute where kernel mode is emulated: nothing for a smoke run.
  if (smoke) return [];
  const guest = await defaultGuest().catch(() => undefined);
  if (guest === undefined) return [];
  const args = `estalo.cmd=echo,${INIT_MARK.replaceAll("-", "%2d")}`;
  const commands = new Map<string, Command>([["estalo", subject("run-guest", "default", args)]]);
  if (hasQemu()) {
    const root = ["-drive", `id=root,file=${guest.rootfs},format=raw,if=none,readonly=on`];
    const boot = ["-kernel", guest.kernel, "-append", `${guest.bootArgs} ${args}`];
    const rng = ["-device", "virtio-rng-device"];
    commands.set(
      "qemu microvm",
      qemu(...root, "-device", "virtio-blk-device,drive=root", ...rng, ...boot),
    );
  }
  const run = async (command: Command) =>
    (await execute(command, { awaited: INIT_MARK, timeoutMs: 600_000 })).awaitedMs;
  const times = await alternate(
    3,
    new Map([...commands].map(([name, command]) => [name, () => run(command)] as const)),
  );
  const ours = times.get("estalo") ?? [];
  times.delete("estalo");
  return compare({ name: "start: cold, spawn to Linux init", unit: "ms" }, ours, times);
}

/** What the same takes in C, all but starting a process: every step of the bare loop's set-up. */
async function bareStartMs(): Promise<number> {
  const { stdout } = await execute(bareSteps());
  const steps = JSON.parse(/\{.*\}/.exec(stdout)?.[0] ?? "{}") as Record<string, number>;
  return Object.values(steps).reduce((sum, us) => sum + us, 0) / 1000;
}

/** With a kernel of 8 MB instead of 44 KB, up to the first entry. */
function measureLinux(runs: readonly WarmStart[]): Measure[] {
  if (runs.length === 0) return [];
  const name = "start: warm, create to entry, default guest, p50";
  const entryMs = ({ timings }: WarmStart) =>
    quantile(
      timings.map(({ oursMs }) => oursMs ?? Number.NaN),
      0.5,
    );
  return [measureAlone({ name, unit: "ms", budget: 5 }, runs.map(entryMs))];
}

async function benchWarm({ smoke }: BenchOptions): Promise<Measure[]> {
  const rounds = smoke ? 1 : 5;
  const count = smoke ? 3 : 50;
  const run = async (concurrency: number, kernel = GUEST) => {
    const command = subject("warm-start", kernel, String(count), String(concurrency));
    return JSON.parse((await execute(command)).stdout) as WarmStart;
  };
  const contestants = new Map([
    ["one", () => run(1)],
    ["four", () => run(4)],
  ]);
  const guest = await defaultGuest().catch(() => undefined);
  if (guest !== undefined) contestants.set("linux", () => run(1, "default"));
  const runs = await alternate(rounds, contestants);
  const bare = await alternate(smoke ? 1 : 15, new Map([["bare C loop", bareStartMs]]));
  const one = runs.get("one") ?? [];
  const four = runs.get("four") ?? [];
  const each = (q: number) => one.map((r) => quantile(r.firstInstructionMs, q));
  const name = "start: warm, create to first instruction";
  return [
    ...compare({ name: `${name}, p50`, unit: "ms", budget: 5 }, each(0.5), bare),
    measureAlone({ name: `${name}, p99`, unit: "ms" }, each(0.99)),
    ...measureLinux(runs.get("linux") ?? []),
    measureAlone(
      { name: "start: kill, p50", unit: "ms" },
      one.map((r) => quantile(r.killMs, 0.5)),
    ),
    measureAlone(
      { name: "start: start and kill, CPU time each", unit: "ms" },
      one.map((r) => r.cpuMs / count),
    ),
    measureAlone(
      { name: "start: started and killed in a second of CPU", unit: "per second", budget: 50 },
      four.map((r) => (1000 * count) / r.cpuMs),
    ),
    measureAlone(
      { name: "start: started and killed, four at a time", unit: "per second" },
      four.map((r) => (1000 * count) / r.wallMs),
    ),
  ];
}

export async function benchStarts(options: BenchOptions): Promise<Measure[]> {
  return [
    ...(await benchCold(options)),
    ...(await benchInit(options)),
    ...(await benchWarm(options)),
  ];
}
