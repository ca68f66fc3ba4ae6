import { describe, expect, it } from "vitest";
import type { TcpSegment } from "../../../src/devices/mmds/frames.js";
import { RETRANSMISSION_US, TcpConnection } from "../../../src/devices/mmds/tcp-connection.js";
import { ACK, FIN, PSH, RST, SYN, segment } from "../../support/mmds-guest.js";

const ISS = 0xffff_fffe;
const GUEST_ISS = 0xffff_fff0;
const REQUEST = "GET / HTTP/1.1\r\n\r\n";

/** A connection whose reply is the request's text, so many times. */
class Conversation {
  nowUs = 0;
  readonly requests: string[] = [];
  readonly connection: TcpConnection;
  /** Offset of the guest's next byte, and what it has acknowledged. */
  #sent = 1;
  acknowledged = 1;

  constructor({ repeat = 1, mss = 1000, window = 64_240 } = {}) {
    this.connection = new TcpConnection({
      syn: segment({ flags: SYN, sequence: GUEST_ISS, mss, window }),
      initialSequence: ISS,
      nowUs: 0,
      answer: (request) => {
        const text = new TextDecoder().decode(request);
        this.requests.push(text);
        return new TextEncoder().encode(text.repeat(repeat));
      },
    });
  }

  static open(options: ConstructorParameters<typeof Conversation>[0] = {}): Conversation {
    const one = new Conversation(options);
    one.drain();
    one.guest({}, options.window);
    expect(one.drain()).toEqual([]);
    return one;
  }

  /** A segment of the guest's at its place in the stream. */
  guest(parts: Partial<TcpSegment> & { text?: string; at?: number }, window = 64_240) {
    const { at = this.#sent, ...rest } = parts;
    const one = segment({
      sequence: (GUEST_ISS + at) >>> 0,
      acknowledgement: (ISS + this.acknowledged) >>> 0,
      window,
      ...rest,
    });
    if (parts.at === undefined) {
      this.#sent += one.payload.length + ((one.flags & FIN) === 0 ? 0 : 1);
    }
    return this.connection.receive(one, this.nowUs);
  }

  /** Everything there is to send now: offset in the stream, flags, bytes, acknowledged offset, window. */
  drain() {
    const sent = [];
    for (;;) {
      const one = this.connection.send(this.nowUs);
      if (one === undefined) return sent;
      expect(sent.length).toBeLessThan(100);
      sent.push({
        at: (one.sequence - ISS) >>> 0,
        flags: one.flags,
        bytes: one.payload.length,
        ack: (one.acknowledgement - GUEST_ISS) >>> 0,
        window: one.window,
      });
    }
  }

  later(us: number) {
    this.nowUs += us;
    return this.drain();
  }
}

describe("TcpConnection", () => {
  it("opens, answers and closes, over the end of the sequence numbers", () => {
    const one = new Conversation();
    expect(one.drain()).toEqual([{ at: 0, flags: SYN | ACK, bytes: 0, ack: 1, window: 2500 }]);
    one.guest({});
    one.guest({ text: REQUEST });
    expect(one.drain()).toEqual([{ at: 1, flags: ACK | PSH, bytes: 18, ack: 19, window: 2500 }]);
    one.acknowledged = 19;
    one.guest({ flags: FIN | ACK });
    expect(one.drain()).toEqual([{ at: 19, flags: FIN | ACK, bytes: 0, ack: 20, window: 2500 }]);
    expect(one.connection.isDone).toBe(false);
    one.acknowledged = 20;
    one.guest({});
    expect(one.connection.isDone).toBe(true);
    expect(one.connection.timeoutUs).toBeUndefined();
  });

  it("sends what is not acknowledged again, fifteen times, and then resets", () => {
    const one = Conversation.open();
    one.guest({ text: REQUEST });
    expect(one.drain()).toHaveLength(1);
    for (let time = 1; time <= 15; time++) {
      expect(one.connection.timeoutUs).toBe(one.nowUs + RETRANSMISSION_US);
      expect(one.later(RETRANSMISSION_US - 1)).toEqual([]);
      expect(one.later(1)).toMatchObject([{ at: 1, bytes: 18 }]);
    }
    expect(one.later(RETRANSMISSION_US)).toMatchObject([{ flags: RST | ACK }]);
    expect(one.connection.isDone).toBe(true);
  });

  it("repeats its SYN when asked, and when nothing comes", () => {
    const one = new Conversation();
    one.drain();
    one.connection.receive(segment({ flags: SYN, sequence: GUEST_ISS }), 0);
    expect(one.drain()).toMatchObject([{ at: 0, flags: SYN | ACK }]);
    expect(one.later(RETRANSMISSION_US)).toMatchObject([{ at: 0, flags: SYN | ACK }]);
  });

  it("takes an answer to its SYN for nothing but the right number", () => {
    const one = new Conversation();
    one.guest({ text: REQUEST, at: 1 });
    expect(one.requests).toEqual([]);
    one.drain();
    one.acknowledged = 0;
    expect(one.guest({ text: REQUEST, at: 1 })).toBe("refused");
    one.acknowledged = 2;
    expect(one.guest({ text: REQUEST, at: 1 })).toBe("refused");
    one.acknowledged = 1;
    expect(one.guest({ text: REQUEST })).toBe("taken");
    expect(one.requests).toEqual([REQUEST]);
  });

  it("sends no more than the guest has room for, nor more than eight segments", () => {
    const one = Conversation.open({ repeat: 1000, window: 2500 });
    one.guest({ text: REQUEST }, 2500);
    expect(one.drain().map(({ bytes }) => bytes)).toEqual([1000, 1000, 500]);
    one.acknowledged = 1001;
    one.guest({}, 60_000);
    expect(one.drain().map(({ at, bytes }) => [at, bytes])).toEqual([
      [2501, 1000],
      [3501, 1000],
      [4501, 1000],
      [5501, 1000],
      [6501, 1000],
      [7501, 1000],
      [8501, 500],
    ]);
  });

  it("asks a guest without room with one byte, as long as it answers", () => {
    const one = Conversation.open({ window: 0 });
    one.guest({ text: REQUEST }, 0);
    expect(one.drain()).toMatchObject([{ flags: ACK, bytes: 0 }]);
    for (let time = 0; time < 40; time++) {
      expect(one.later(RETRANSMISSION_US)).toMatchObject([{ at: 1, bytes: 1 }]);
      one.guest({}, 0);
    }
    one.guest({}, 5000);
    expect(one.drain()).toMatchObject([{ at: 1, bytes: 18 }]);
    one.acknowledged = 19;
    one.guest({});
    expect(one.later(RETRANSMISSION_US)).toEqual([]);
  });

  it("gives up a guest without room that does not answer", () => {
    const one = Conversation.open({ window: 0 });
    one.guest({ text: REQUEST }, 0);
    one.drain();
    for (let time = 0; time < 15; time++) {
      expect(one.later(RETRANSMISSION_US)).toMatchObject([{ at: 1, bytes: 1 }]);
    }
    expect(one.later(RETRANSMISSION_US)).toMatchObject([{ flags: RST | ACK }]);
  });

  it("sends again at the third acknowledgement of the same", () => {
    const one = Conversation.open({ repeat: 200 });
    one.guest({ text: REQUEST });
    expect(one.drain()).toHaveLength(4);
    one.guest({});
    one.guest({});
    expect(one.drain()).toEqual([]);
    one.guest({});
    expect(one.drain().map(({ at }) => at)).toEqual([1, 1001, 2001, 3001]);
  });

  it("takes requests in pieces, repeated and overlapping ones too, and no others", () => {
    const one = Conversation.open();
    one.guest({ text: REQUEST.slice(0, 5) });
    expect(one.guest({ text: REQUEST.slice(8), at: 9 })).toBe("unusual");
    expect(one.drain()).toMatchObject([{ flags: ACK, ack: 6, window: 2495 }]);
    one.guest({ text: REQUEST.slice(0, 5), at: 1 });
    one.guest({ text: REQUEST.slice(2, 10), at: 3 });
    expect(one.drain()).toMatchObject([{ flags: ACK, ack: 11 }]);
    one.guest({ text: REQUEST.slice(10), at: 11 });
    expect(one.requests).toEqual([REQUEST]);
  });

  it("answers one request after the other, each when the reply before it was taken", () => {
    const one = Conversation.open();
    one.guest({ text: REQUEST.repeat(3) });
    expect(one.drain()).toMatchObject([{ at: 1, bytes: 18, ack: 55, window: 2464 }]);
    for (const end of [19, 37, 55]) {
      one.acknowledged = end;
      one.guest({});
      one.drain();
    }
    expect(one.requests).toEqual([REQUEST, REQUEST, REQUEST]);
  });

  it("resets at a request that is too long", () => {
    const one = Conversation.open();
    one.guest({ text: "x".repeat(2499) });
    expect(one.drain()).toMatchObject([{ flags: ACK, window: 1 }]);
    one.guest({ text: "xyz" });
    expect(one.drain()).toMatchObject([{ flags: RST | ACK, ack: 2501 }]);
    expect(one.connection.isDone).toBe(true);
    expect(one.guest({})).toBe("unusual");
    expect(one.drain()).toEqual([]);
  });

  it("takes no more than it has room for, and tells of room again", () => {
    const one = Conversation.open();
    one.guest({ text: REQUEST });
    one.drain();
    expect(one.guest({ text: `${REQUEST}${"x".repeat(2500)}` })).toBe("unusual");
    expect(one.drain()).toMatchObject([{ flags: ACK, ack: 2519, window: 0 }]);
    one.acknowledged = 19;
    one.guest({ at: 2519 });
    expect(one.drain()).toMatchObject([{ bytes: 18, window: 18 }]);
  });

  it("finishes its reply after the guest's end", () => {
    const one = Conversation.open({ repeat: 100 });
    one.guest({ text: REQUEST, flags: FIN | ACK });
    expect(one.drain().map(({ flags, bytes }) => [flags, bytes])).toEqual([
      [ACK, 1000],
      [ACK | PSH, 800],
    ]);
    one.acknowledged = 1801;
    one.guest({});
    expect(one.drain()).toMatchObject([{ at: 1801, flags: FIN | ACK }]);
    expect(one.later(RETRANSMISSION_US)).toMatchObject([{ at: 1801, flags: FIN | ACK }]);
  });

  it("ends at a reset within its window, and at no other", () => {
    const one = Conversation.open();
    for (const at of [0, 2502]) one.guest({ flags: RST, at });
    expect(one.connection.isDone).toBe(false);
    one.guest({ flags: RST });
    expect(one.connection.isDone).toBe(true);
    expect(one.drain()).toEqual([]);
  });

  it("answers a SYN out of nowhere, a keep-alive and a wrong acknowledgement with where it is", () => {
    const one = Conversation.open();
    one.guest({ flags: SYN, at: 77 });
    expect(one.drain()).toMatchObject([{ at: 1, flags: ACK, ack: 1 }]);
    one.guest({ at: 0 });
    expect(one.drain()).toMatchObject([{ at: 1, flags: ACK, ack: 1 }]);
    one.acknowledged = 100;
    expect(one.guest({ text: REQUEST })).toBe("refused");
    expect(one.drain()).toMatchObject([{ at: 1, flags: ACK, ack: 1 }]);
    expect(one.requests).toEqual([]);
  });

  it("ignores a segment without ACK", () => {
    const one = Conversation.open();
    expect(one.guest({ flags: PSH, text: REQUEST, at: 1 })).toBe("unusual");
    expect(one.drain()).toEqual([]);
  });
});
