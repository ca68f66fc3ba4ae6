import { describe, expect, it } from "vitest";
import { createMmdsMetrics } from "../../../src/devices/mmds/mmds.state.js";
import { IDLE_US } from "../../../src/devices/mmds/tcp-connection.js";
import {
  CONNECTIONS_MAX,
  RESETS_MAX,
  TcpResponder,
} from "../../../src/devices/mmds/tcp-responder.js";
import { ACK, FIN, RST, SYN, segment } from "../../support/mmds-guest.js";

function responder() {
  const metrics = createMmdsMetrics();
  const one = new TcpResponder({ metrics, answer: (request) => request, randomU32: () => 1000 });
  const drain = (nowUs = 0) => {
    const sent = [];
    for (let next = one.send(nowUs); next !== undefined; next = one.send(nowUs)) sent.push(next);
    return sent;
  };
  const open = (port: number, nowUs = 0) => {
    one.receive(segment({ flags: SYN, remotePort: port, sequence: 7 }), nowUs);
    drain(nowUs);
    one.receive(segment({ remotePort: port, sequence: 8, acknowledgement: 1001 }), nowUs);
  };
  return { one, metrics, drain, open };
}

describe("TcpResponder", () => {
  it("resets what is no connection, as its sender believes it", () => {
    const { one, drain, metrics } = responder();
    one.receive(segment({ acknowledgement: 77, sequence: 5, text: "x" }), 0);
    one.receive(segment({ flags: FIN, sequence: 5, text: "ab" }), 0);
    one.receive(segment({ flags: SYN | ACK, acknowledgement: 9 }), 0);
    one.receive(segment({ flags: RST }), 0);
    expect(drain()).toMatchObject([
      { flags: RST, sequence: 77, acknowledgement: 0 },
      { flags: RST | ACK, sequence: 0, acknowledgement: 8 },
      { flags: RST, sequence: 9 },
    ]);
    expect(one.size).toBe(0);
    expect(metrics.rx_accepted_unusual).toBe(4);
  });

  it("keeps no more resets than it should", () => {
    const { one, drain } = responder();
    for (let port = 1; port <= 500; port++) one.receive(segment({ remotePort: port }), 0);
    expect(drain()).toHaveLength(RESETS_MAX);
  });

  it("refuses one connection too many, unless one was silent for long", () => {
    const { one, drain, open, metrics } = responder();
    for (let port = 1; port <= CONNECTIONS_MAX; port++) open(port, port);
    one.receive(segment({ flags: SYN, remotePort: 99, sequence: 4 }), IDLE_US);
    expect(drain(IDLE_US)).toMatchObject([
      { flags: RST | ACK, remotePort: 99, acknowledgement: 5 },
    ]);
    one.receive(segment({ flags: SYN, remotePort: 99 }), IDLE_US + 3);
    // The first was silent the longest, and is told.
    expect(drain(IDLE_US + 3)).toMatchObject([
      { flags: RST | ACK, remotePort: 1, sequence: 1001, acknowledgement: 8 },
      { flags: SYN | ACK, remotePort: 99 },
    ]);
    expect(one.size).toBe(CONNECTIONS_MAX);
    one.receive(segment({ remotePort: 1, sequence: 8, acknowledgement: 1001 }), IDLE_US + 3);
    expect(drain(IDLE_US + 3)).toMatchObject([{ flags: RST, remotePort: 1 }]);
    expect(metrics).toMatchObject({
      connections_created: CONNECTIONS_MAX + 1,
      connections_destroyed: 1,
    });
  });

  it("lets connections send in turn", () => {
    const { one, drain, open } = responder();
    open(1);
    open(2);
    const text = `GET /${"x".repeat(900)} HTTP/1.1\r\n\r\n`;
    for (const remotePort of [1, 2]) {
      one.receive(segment({ remotePort, sequence: 8, acknowledgement: 1001, text }), 0);
    }
    expect(drain().map(({ remotePort }) => remotePort)).toEqual([1, 2, 1, 2]);
    expect(one.timeoutUs).toBe(300_000);
  });

  it("forgets a connection that was reset or has ended", () => {
    const { one, open, metrics } = responder();
    open(1);
    open(2);
    one.receive(segment({ flags: RST, remotePort: 1, sequence: 8 }), 0);
    expect(one.size).toBe(1);
    one.receive(
      segment({ flags: FIN | ACK, remotePort: 2, sequence: 8, acknowledgement: 1001 }),
      0,
    );
    expect(one.send(0)).toMatchObject({ flags: FIN | ACK });
    one.receive(segment({ remotePort: 2, sequence: 9, acknowledgement: 1002 }), 0);
    expect(one.size).toBe(0);
    expect(metrics.connections_destroyed).toBe(2);
    expect(one.timeoutUs).toBeUndefined();
  });

  it("gives up all that never answer, by itself", () => {
    const { one, drain } = responder();
    for (let port = 1; port <= CONNECTIONS_MAX; port++) {
      one.receive(segment({ flags: SYN, remotePort: port }), 0);
    }
    drain(0);
    let turns = 0;
    for (let at = one.timeoutUs; at !== undefined && turns < 100; at = one.timeoutUs, turns++)
      drain(at);
    expect(turns).toBe(16);
    expect(one.size).toBe(0);
  });
});
