/**
 * Subject: load on a server of the API, in a process of its own.
 *
 * `node api-load.js PATH CONNECTIONS MILLISECONDS` keeps one request under way on each connection, three GETs to a
 * PATCH, for as long, and prints one line of JSON (ApiLoad). Replies are told apart by counting bytes: all of
 * one kind are equally long, which the first of each says.
 */
import { connect, type Socket } from "node:net";

/** What this subject prints. */
export interface ApiLoad {
  readonly requests: number;
  readonly seconds: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

const BODY = JSON.stringify({ name: "two", labels: { app: "bench" }, vcpuCount: 4 });
const REQUESTS = [
  "GET /v1/machines/vm-7 HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n",
  `PATCH /v1/machines/vm-7 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`,
].map((text) => Buffer.from(text));
/** Which request is next, in turn. */
const MIX = [0, 0, 0, 1];
const OK = Buffer.from("HTTP/1.1 200");

const [path, connections, milliseconds] = process.argv.slice(2);
const latencies: number[] = [];
const replyBytes: (number | undefined)[] = [undefined, undefined];
let endMs = Number.POSITIVE_INFINITY;
let open = 0;

/** One connection: a request, its reply, the next request. */
function drive(socket: Socket, first: number): void {
  let turn = first;
  let kind = MIX[turn % MIX.length];
  let received = 0;
  let head = Buffer.alloc(0);
  let begin = 0;
  const ask = () => {
    kind = MIX[turn++ % MIX.length];
    received = 0;
    head = Buffer.alloc(0);
    begin = performance.now();
    socket.write(REQUESTS[kind]);
  };
  socket.on("data", (data: Buffer) => {
    if (received === 0 && data.compare(OK, 0, OK.length, 0, OK.length) !== 0) {
      throw new Error(`not 200: ${data.toString().slice(0, 300)}`);
    }
    received += data.length;
    if (replyBytes[kind] === undefined) {
      head = Buffer.concat([head, data]);
      replyBytes[kind] = lengthOf(head.toString("latin1"));
    }
    if (received !== replyBytes[kind]) return;
    const now = performance.now();
    latencies.push((now - begin) * 1000);
    if (now < endMs) ask();
    else socket.destroy();
  });
  socket.on("close", () => {
    if (--open === 0) report();
  });
  ask();
}

/** Of a whole reply by its head; `undefined` while that is not complete. */
function lengthOf(text: string): number | undefined {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  return end + 4 + Number(/content-length: (\d+)/i.exec(text)?.[1]);
}

function report(): void {
  const seconds = (performance.now() - startMs) / 1000;
  const sorted = Float64Array.from(latencies).sort();
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  const result: ApiLoad = { requests: sorted.length, seconds, p50Us: at(0.5), p99Us: at(0.99) };
  console.log(JSON.stringify(result));
}

const sockets = await Promise.all(
  Array.from(
    { length: Number(connections) },
    () =>
      new Promise<Socket>((resolve, reject) => {
        const socket = connect(path, () => resolve(socket));
        socket.once("error", reject);
      }),
  ),
);
open = sockets.length;
const startMs = performance.now();
endMs = startMs + Number(milliseconds);
for (const [i, socket] of sockets.entries()) drive(socket, i);
