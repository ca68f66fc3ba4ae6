/**
 * Subject: a server of a fleet whose events are watched.
 *
 * `node events-server.js PATH STATE EVENTS INTERVAL_MS` listens on a Unix socket and writes a line when it does.
 * For each line on standard input it renames one microVM EVENTS times, at that interval, to the time of the
 * change: so every event carries when it happened. It ends with its standard input.
 */
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { Fleet } from "../../src/actors/fleet.js";
import { FleetDoor } from "../../src/api/v1/door.js";

const [path, stateDir, events, intervalMs] = process.argv.slice(2);
const fleet = await Fleet.open({ stateDir });
const door = new FleetDoor({ fleet, version: "0.0.0", limits: { connections: 100_000 } });
const { record } = await fleet.create({ start: false });
await door.listen({ path }, { hosts: [], origins: [] });
console.log("listening");
for await (const _ of createInterface({ input: process.stdin })) {
  for (let at = 0; at < Number(events); at++) {
    const now = performance.timeOrigin + performance.now();
    fleet.update(record.id, { name: `t${now.toFixed(3)}` });
    await sleep(Number(intervalMs));
  }
}
await door.close();
await fleet.close();
