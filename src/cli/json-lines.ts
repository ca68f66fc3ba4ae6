/**
 * `--json`: everything that happens in a run as JSON Lines on standard output.
 *
 *     {"type":"state","state":"created","atMs":71.2}
 *     {"type":"stdout","text":"hi\n"}
 *     {"type":"exited","exit":{…},"timings":{…},"metrics":{…},"atMs":4310.9}
 *
 * Output is text: bytes that are not UTF-8 become U+FFFD. docs/cli.md lists the lines.
 */

import { Writable } from "node:stream";
import { StringDecoder } from "node:string_decoder";

/** Writes one JSON value a line. */
export class JsonLines {
  readonly #output: Writable;

  constructor(output: Writable) {
    this.#output = output;
  }

  write(line: object, done?: () => void): void {
    this.#output.write(`${JSON.stringify(line)}\n`, () => done?.());
  }

  /** A stream whose bytes become lines of this type; it is full while standard output is. */
  stream(type: "stdout" | "stderr" | "console"): Writable {
    const decoder = new StringDecoder("utf8");
    return new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        const text = decoder.write(chunk);
        if (text === "") done();
        else this.write({ type, text }, done);
      },
      final: (done) => {
        const text = decoder.end();
        if (text === "") done();
        else this.write({ type, text }, done);
      },
    });
  }
}
