/**
 * The program passt: where it is, the words that it is started with, and what its end means.
 */
import { type ChildProcess, spawnSync } from "node:child_process";
import { accessSync, closeSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { EstaloError, hostError } from "../../errors.js";
import { native } from "../../native/binding.js";
import type { CheckedUserNetwork } from "../config-net.js";

/** Of what it says, the end is kept. */
export const SAID_CHARACTERS = 500;
/** passt's socket is the child's first descriptor after its standard streams. */
export const SOCKET_FD = 3;
/** It is ready within this, or has failed. */
export const START_MS = 10_000;
const GUEST = [10, 0, 2, 15];
const GATEWAY = [10, 0, 2, 2];
/** What the guest is and sees; the same for every microVM, as each has its own passt. */
const ADDRESS_WORDS = [
  ...["--ipv4-only", "--address", GUEST.join("."), "--netmask", "24"],
  ...["--gateway", GATEWAY.join(".")],
  ...["--mac-addr", "02:00:0a:00:02:02"],
];

/** Ethernet's header to all, of ARP; ARP's own for a question about an IPv4 address (RFC 826). */
const TO_ALL = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
const ARP_TYPE = [0x08, 0x06];
const ARP_QUESTION = [0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01];

/** The frame with which the guest at this Ethernet address asks for its gateway's, which passt answers. */
export function gatewayQuestion(mac: Uint8Array): Uint8Array {
  const question = [...ARP_QUESTION, ...mac, ...GUEST, 0, 0, 0, 0, 0, 0, ...GATEWAY];
  return Uint8Array.from([...TO_ALL, ...mac, ...ARP_TYPE, ...question]);
}

/** What every passt is started with. */
export function passtWords(network: CheckedUserNetwork): string[] {
  return ["--fd", String(SOCKET_FD), ...ADDRESS_WORDS, ...networkWords(network)];
}

/**
 * Starts passt for a process that may not do so itself; returns the descriptor of its socket, with whose last
 * copy it ends. Raises ERR_ESTALO_PASST.
 */
export function startPasst(network: CheckedUserNetwork, program = "passt"): number {
  const file = findProgram(program);
  const [ours, its] = native().socketPair();
  // It goes to the background when it is ready.
  const { status, error, stderr } = spawnSync(file, ["--stderr", ...passtWords(network)], {
    stdio: ["ignore", "ignore", "pipe", its],
    encoding: "utf8",
    timeout: START_MS,
  });
  closeSync(its);
  if (status === 0) return ours;
  closeSync(ours);
  if (error !== undefined) throw startError(file, error);
  throw passtError(file, status, stderr.slice(-SAID_CHARACTERS));
}

function networkWords({ forwards, hostLoopback }: CheckedUserNetwork): string[] {
  const words = hostLoopback ? [] : ["--no-map-gw"];
  for (const protocol of ["tcp", "udp"] as const) {
    const own = forwards.filter((one) => (one.protocol ?? "tcp") === protocol);
    const option = `--${protocol}-ports`;
    if (own.length === 0) words.push(option, "none");
    for (const { hostAddress = "127.0.0.1", hostPort, guestPort } of own) {
      words.push(option, `${hostAddress}/${hostPort}:${guestPort}`);
    }
  }
  return words;
}

/** Its path: in PATH, unless it is one. Raises ERR_ESTALO_PASST. */
export function findProgram(program: string): string {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const paths = program.includes("/") ? [program] : folders.map((one) => join(one, program));
  const found = paths.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (found !== undefined) return found;
  throw new EstaloError("ERR_ESTALO_PASST", `${program} is not installed`, {
    data: { operation: "find", object: program },
    hint: "on Debian: apt-get install passt",
  });
}

/** One that could not be started has no process yet, and Node would signal process 0: all of our own group. */
export function kill(child: ChildProcess | undefined): void {
  if (child?.pid !== undefined) child.kill("SIGKILL");
}

export function startError(program: string, error: unknown): EstaloError {
  return hostError("start", program, error, "ERR_ESTALO_PASST");
}

export function passtError(program: string, status: number | null, said: string): EstaloError {
  const why = said
    .trim()
    .split("\n")
    .filter((line) => !line.startsWith("Failed to send"))
    .at(-1);
  return new EstaloError(
    "ERR_ESTALO_PASST",
    `${program} ended with ${status === null ? "a signal" : `status ${status}`}: ${why ?? ""}`,
    { data: { operation: "run", object: program, status, said: said.trim() } },
  );
}

export function isAlive(child: ChildProcess | undefined): child is ChildProcess {
  return child?.pid !== undefined && child.exitCode === null && child.signalCode === null;
}

export function closedBefore(program: string): EstaloError {
  return new EstaloError(
    "ERR_ESTALO_PASST",
    `the microVM ended before ${program} had its forwards`,
    {
      data: { operation: "change forwards", object: program },
    },
  );
}

export function fixedForwards(program: string): EstaloError {
  return new EstaloError(
    "ERR_ESTALO_PASST",
    `${program} was started before the jail: its forwards stay as they are`,
    { data: { operation: "change forwards", object: program } },
  );
}
