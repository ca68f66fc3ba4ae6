/** What a server's calls do in a cell, as far as it needs no KVM. */
import { closeSync, openSync, readdirSync, readlinkSync, writeSync } from "node:fs";
import type { Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { EstaloError } from "../../src/errors.js";
import { Cell } from "../../src/isolation/cell.js";
import { checkMessage } from "../../src/isolation/cell-checks.js";
import { type CellCalls, sentError } from "../../src/isolation/cell-messages.js";
import { receiveFiles } from "../../src/isolation/cell-microvm.js";
import { Channel } from "../../src/isolation/channel.js";
import { native } from "../../src/native/binding.js";
import { duplexPair } from "../support/played-cell.js";

const turns = async (count = 20) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};

/** A cell in this process, the server's end of its channel, and what comes there. */
function cell(descriptors = -1) {
  const [own, theirs] = duplexPair();
  const said: unknown[] = [];
  const channel = new Channel(own, {
    payloadBytesMax: 2 ** 20,
    onMessage: (message) => said.push(message),
    onClose: () => said.push("closed"),
  });
  new Cell(theirs as Socket, descriptors, () => {});
  const call = <Method extends keyof CellCalls>(
    number: number,
    method: Method,
    args: CellCalls[Method],
  ) => channel.post({ call: number, vm: 7, method, args });
  return { channel, call, said };
}

const refused = (reply: number) => ({
  reply,
  error: expect.objectContaining({ code: "ERR_ESTALO_STATE" }),
});

/** Open ones of this process. */
function descriptorsOf(path: string): number[] {
  const isIt = (fd: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  };
  return readdirSync("/proc/self/fd").filter(isIt).map(Number);
}

describe("receiveFiles", () => {
  it("takes every file of a call, or closes them all", () => {
    const [own, its] = native().socketPair();
    const file = openSync(import.meta.filename, "r");
    try {
      native().sendDescriptor(own, file);
      // As of a process that has no room for another file: the message comes without.
      writeSync(own, "x");
      native().sendDescriptor(own, file);
      expect(() => receiveFiles(["kernel", "drive a", "drive b"], its)).toThrow();
      expect(descriptorsOf(import.meta.filename)).toEqual([file]);
      expect(() => native().receiveDescriptor(its)).toThrow(/EAGAIN/);
    } finally {
      for (const fd of [own, its, file]) closeSync(fd);
    }
  });
});

describe("sentError", () => {
  it("is taken by the server, however much of a client's words an error repeats", () => {
    const long = "x".repeat(300_000);
    const record = new EstaloError("ERR_ESTALO_INTERFACE_UNKNOWN", `there is no ${long}`, {
      hint: long,
      data: { id: long },
      cause: new Error(long),
    }).toRecord();
    const message = { reply: 1, error: sentError(record) };
    expect(JSON.stringify(message).length).toBeLessThan(10_000);
    expect(checkMessage(message)).toEqual(message);
    expect(message.error.message).toMatch(/^there is no x+…$/);
    const short = { code: "ERR_ESTALO_STATE", message: "m", hint: "h", data: { id: 1 } } as const;
    expect(sentError(short)).toEqual(short);
  });
});

describe("Cell", () => {
  it("goes on with its other microVMs when one had ended that a stream was opened for", async () => {
    const { channel, call, said } = cell();
    const { id, stream } = channel.open({ onBytes: () => {}, onEnd: () => {} });
    call(1, "rateLimits", { stream: id });
    stream.close();
    await turns();
    call(2, "metrics", {});
    await turns();
    expect(said).toEqual([{ hello: 1 }, refused(1), refused(2)]);
    channel.close();
  });

  it("takes no file that was sent for a microVM which had ended for another one's", async () => {
    const [own, its] = native().socketPair();
    const files = ["/dev/zero", "/dev/null"].map((path) => openSync(path, "r"));
    try {
      const { channel, call, said } = cell(its);
      native().sendDescriptor(own, files[0]);
      call(1, "updateDrive", { drive: "d", change: {}, files: ["drive d"] });
      await turns();
      expect(said).toEqual([{ hello: 1 }, refused(1)]);
      native().sendDescriptor(own, files[1]);
      files.push(native().receiveDescriptor(its));
      expect(readlinkSync(`/proc/self/fd/${files[2]}`)).toBe("/dev/null");
      channel.close();
    } finally {
      for (const fd of [own, its, ...files]) closeSync(fd);
    }
  });
});
