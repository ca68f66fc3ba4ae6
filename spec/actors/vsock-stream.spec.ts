import { once } from "node:events";
import { describe, expect, it, onTestFinished } from "vitest";
import { VsockStream, vsockError } from "../../src/actors/vsock-stream.js";
import { VsockConnection } from "../../src/devices/virtio/vsock-connection.js";

const muxer = { ready: () => {}, remove: () => {}, schedule: () => () => {} };

describe("VsockStream", () => {
  it("is half open: the guest's end does not end what is written", async () => {
    const connection = new VsockConnection(muxer, 5, 6);
    const stream = new VsockStream(connection);
    connection.accept(stream.end$);
    stream.end$.onEnd();
    stream.resume();
    await once(stream, "end");
    expect(stream.writable).toBe(true);
    stream.destroy();
  });

  describe("whose guest goes while the host writes", () => {
    const goes = ["ended", "reset"] as const;
    /** An open stream, and what nobody caught meanwhile. */
    function opened() {
      const uncaught: unknown[] = [];
      const note = (error: unknown) => uncaught.push(error);
      process.on("uncaughtException", note);
      onTestFinished(() => void process.off("uncaughtException", note));
      const connection = new VsockConnection(muxer, 5, 6);
      const stream = new VsockStream(connection);
      connection.accept(stream.end$);
      return { stream, uncaught };
    }

    it.each(goes)("closes without ending the process where nobody listens (%s)", async (reason) => {
      const { stream, uncaught } = opened();
      const closed = new Promise((resolve) => stream.once("close", resolve));
      stream.write("before");
      stream.end$.onClose(reason);
      stream.write("after");
      await closed;
      stream.write("later");
      await new Promise(setImmediate);
      expect(uncaught).toEqual([]);
    });

    it.each(goes)("lets its last words be answered where nobody listens (%s)", async (reason) => {
      const { stream, uncaught } = opened();
      const closed = new Promise((resolve) => stream.once("close", resolve));
      stream.on("data", (bytes) => stream.write(bytes));
      stream.on("end", () => stream.end("bye"));
      stream.end$.onData(Buffer.from("question"));
      stream.end$.onClose(reason);
      await closed;
      await new Promise(setImmediate);
      expect(uncaught).toEqual([]);
    });

    it("tells who listens", async () => {
      const closing = opened().stream;
      const written = once(closing, "error");
      closing.end$.onClose("ended");
      closing.write("after");
      expect((await written)[0]).toMatchObject({ code: "ERR_STREAM_WRITE_AFTER_END" });
      const resetting = opened().stream;
      const reset = once(resetting, "error");
      resetting.end$.onClose("reset");
      expect((await reset)[0]).toMatchObject({ code: "ERR_ESTALO_VSOCK" });
    });
  });

  it("keeps what is not read in a few pieces, and gives room for what was", async () => {
    const connection = new VsockConnection(muxer, 5, 6);
    const stream = new VsockStream(connection);
    let room = 0;
    connection.consumed = (bytes) => {
      room += bytes;
    };
    const BYTES = 60_000;
    for (let at = 0; at < BYTES; at++) stream.end$.onData(Uint8Array.of(at % 251));
    expect(room).toBe(0);
    const pieces: Buffer[] = [];
    stream.on("data", (bytes) => pieces.push(bytes));
    await new Promise(setImmediate);
    expect(room).toBe(BYTES);
    const sent = Buffer.from(Uint8Array.from({ length: BYTES }, (_, at) => at % 251));
    expect(Buffer.concat(pieces).equals(sent)).toBe(true);
    expect(pieces.length).toBeLessThan(10);
    stream.pause();
    // The first is the stream's.
    for (let at = 0; at < 3; at++) stream.end$.onData(Uint8Array.of(at));
    stream.destroy();
    expect(room).toBe(BYTES + 3);
  });

  it("keeps a copy of what is written", () => {
    const connection = new VsockConnection(muxer, 5, 6);
    const written: Uint8Array[] = [];
    connection.write = (bytes) => {
      written.push(bytes);
      return true;
    };
    const stream = new VsockStream(connection);
    const bytes = Buffer.from("abc");
    stream.write(bytes);
    bytes.fill(0);
    expect(Buffer.from(written[0]).toString()).toBe("abc");
    stream.destroy();
  });

  it("says in its errors which port and why", () => {
    expect(vsockError(7, "refused")).toMatchObject({
      code: "ERR_ESTALO_VSOCK",
      message: "vsock port 7 of the guest: refused",
      data: { port: 7, reason: "refused" },
    });
  });
});
