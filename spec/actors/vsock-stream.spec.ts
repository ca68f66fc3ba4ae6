import { once } from "node:events";
import { describe, expect, it } from "vitest";
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
