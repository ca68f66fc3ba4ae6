/**
 * Subject: subscribers of a fleet's events, in a process of their own.
 *
 * `node events-load.js PATH SUBSCRIBERS EVENTS` opens as many WebSockets, writes "ready" when every one has been
 * greeted, and one line of JSON (EventsLoad) when every one has got that many events. A socket that is closed, or
 * an event that comes twice, not at all or out of order, ends it with an error. Frames are read by hand: what
 * is measured is the server, not a client.
 */
import { connect, type Socket } from "node:net";

/** What this subject prints. */
export interface EventsLoad {
  readonly delivered: number;
  /** From the first connect to the last greeting. */
  readonly connectSeconds: number;
  /** From the change to its event at a subscriber. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** Connections that are made at once. */
const BATCH = 200;
const UPGRADE = Buffer.from(
  "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
);
const HEAD_END = Buffer.from("\r\n\r\n");
const TEXT = 0x81;
const PING = 0x89;
const LENGTH_16 = 126;

const [path, count, expected] = process.argv.slice(2);
const subscribers = Number(count);
const eventsEach = Number(expected);
const latenciesMs = new Float64Array(subscribers * eventsEach);
let delivered = 0;

function fail(why: string): never {
  console.error(why);
  process.exit(1);
}

/** The number that follows a key. */
function numberBehind(text: string, key: string): number {
  return Number.parseFloat(text.slice(text.indexOf(key) + key.length));
}

/** One subscriber; fulfilled when it has been greeted. */
function subscribe(): Promise<void> {
  return new Promise((greeted) => {
    const socket = connect(path, () => socket.write(UPGRADE));
    let kept: Buffer = Buffer.alloc(0);
    let isUpgraded = false;
    let last = -1;
    let got = 0;
    const take = (text: string, nowMs: number) => {
      if (text.startsWith('{"type":"hello"')) {
        last = (JSON.parse(text) as { newest: number }).newest;
        greeted();
        return;
      }
      // Not parsed: ten thousand subscribers in one process are slow enough.
      const sequence = numberBehind(text, '"sequence":');
      if (sequence !== last + 1) fail(`event ${sequence} after ${last}`);
      last = sequence;
      got += 1;
      latenciesMs[delivered++] = nowMs - numberBehind(text, '"name":"t');
      if (got > eventsEach) fail("more events than there were");
    };
    socket.on("data", (data) => {
      kept = kept.length === 0 ? data : Buffer.concat([kept, data]);
      if (!isUpgraded) {
        const end = kept.indexOf(HEAD_END);
        if (end < 0) return;
        if (!kept.subarray(0, 12).equals(Buffer.from("HTTP/1.1 101"))) fail(kept.toString());
        isUpgraded = true;
        kept = kept.subarray(end + HEAD_END.length);
      }
      kept = readFrames(socket, kept, take);
      if (delivered === latenciesMs.length) report();
    });
    socket.on("error", (error) => fail(String(error)));
    socket.on("close", () => fail("a subscriber was closed"));
  });
}

/** Gives every whole text to `take`; returns what is left. Messages are short, never fragmented. */
function readFrames(
  socket: Socket,
  bytes: Buffer,
  take: (text: string, nowMs: number) => void,
): Buffer {
  const nowMs = performance.timeOrigin + performance.now();
  let at = 0;
  while (bytes.length - at >= 4) {
    const short = bytes[at + 1];
    const head = short === LENGTH_16 ? 4 : 2;
    const length = short === LENGTH_16 ? bytes.readUInt16BE(at + 2) : short;
    if (bytes.length - at < head + length) break;
    if (bytes[at] === TEXT) take(bytes.toString("latin1", at + head, at + head + length), nowMs);
    // A pong without payload: final, masked with nothing.
    else if (bytes[at] === PING) socket.write(Uint8Array.of(0x8a, 0x80, 0, 0, 0, 0));
    else fail(`a frame of type ${bytes[at]}`);
    at += head + length;
  }
  return bytes.subarray(at);
}

function report(): void {
  const sorted = latenciesMs.sort();
  const rank = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  const result: EventsLoad = {
    delivered,
    connectSeconds,
    p50Ms: rank(0.5),
    p99Ms: rank(0.99),
    maxMs: sorted[sorted.length - 1],
  };
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
}

const startMs = performance.now();
for (let at = 0; at < subscribers; at += BATCH) {
  await Promise.all(Array.from({ length: Math.min(BATCH, subscribers - at) }, subscribe));
}
const connectSeconds = (performance.now() - startMs) / 1000;
console.log("ready");
