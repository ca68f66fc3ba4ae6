/**
 * JSON from a client, byte by byte, with the place of every mistake: what check.ts reads values with.
 *
 * Words and places of syntax errors are those of serde_json 1.0 reading a slice (src/de.rs, src/read.rs):
 * clients of door 1 show them, and some match on them. A place is a count of bytes; serde_json reports some
 * errors behind the byte that it had read, others at the byte that it looked at, and so does this. Limits: 128
 * levels, and a string's bytes are those of the body.
 */

/** A mistake at an offset, in serde_json's words and in plain ones. */
export class JsonFault extends Error {
  constructor(
    /** Bytes of the text before the place. */
    readonly offset: number,
    /** serde_json's words, without the place. */
    readonly serde: string,
    /** What might be there, and what is. */
    readonly expected: string,
    readonly got: string,
  ) {
    super(serde);
  }
}

/** A number, and how it was written. */
export interface JsonNumber {
  readonly value: number;
  readonly text: string;
  /** Written without fraction and exponent. */
  readonly isInteger: boolean;
}

const QUOTE = 34;
const BACKSLASH = 92;
const COMMA = 44;
const COLON = 58;
const MINUS = 45;
const ZERO = 48;
const NINE = 57;
const DOT = 46;
const OPEN_LIST = 91;
const CLOSE_LIST = 93;
const OPEN_OBJECT = 123;
const CLOSE_OBJECT = 125;
const SPACE = 32;

/** serde_json refuses the 128th level. */
const DEPTH_MAX = 127;

const ESCAPES: ReadonlyMap<number, string> = new Map([
  [QUOTE, '"'],
  [BACKSLASH, "\\"],
  [47, "/"],
  [98, "\b"],
  [102, "\f"],
  [110, "\n"],
  [114, "\r"],
  [116, "\t"],
]);

const lossy = new TextDecoder();
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The kinds of value, told by their first byte. */
export type JsonKind = "object" | "array" | "string" | "number" | "boolean" | "null";

/** Reads a text from its start to its end, once. */
export class JsonReader {
  readonly bytes: Uint8Array;
  /** Bytes that were read. */
  offset = 0;
  #depth = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** The kind of the next value; raises when there is none. */
  peekKind(): JsonKind {
    const byte = this.#peek();
    if (byte === undefined) throw this.#eof("a value");
    if (byte === QUOTE) return "string";
    if (byte === OPEN_OBJECT) return "object";
    if (byte === OPEN_LIST) return "array";
    if (byte === MINUS || isDigit(byte)) return "number";
    if (byte === 116 || byte === 102) return "boolean";
    if (byte === 110) return "null";
    throw this.#atPeek("expected value", "a value", this.#shown());
  }

  readBoolean(): boolean {
    const isTrue = this.bytes[this.offset] === 116;
    this.#word(isTrue ? "true" : "false");
    return isTrue;
  }

  readNull(): null {
    this.#word("null");
    return null;
  }

  /** Nothing but white space may follow. */
  end(): void {
    if (this.#peek() === undefined) return;
    throw this.#atPeek("trailing characters", "the end of the text", this.#shown());
  }

  /** Enters an object; `nextKey` follows. */
  enterObject(): void {
    this.#enter();
  }

  /** The next key of an object, its colon not read yet; `undefined` when the object has ended. */
  nextKey(isFirst: boolean): string | undefined {
    let byte = this.#peek();
    if (byte === CLOSE_OBJECT) {
      this.offset++;
      this.#depth--;
      return undefined;
    }
    if (byte === undefined) throw this.#eof("an object");
    if (!isFirst) {
      if (byte !== COMMA) {
        throw this.#atPeek("expected `,` or `}`", "a comma or the object's end", this.#shown());
      }
      this.offset++;
      byte = this.#peek();
      if (byte === undefined) throw this.#eof("a value");
      if (byte === CLOSE_OBJECT) throw this.#atPeek("trailing comma", "another key", "}");
    }
    if (byte !== QUOTE) {
      throw this.#atPeek("key must be a string", "a key in quotes", this.#shown());
    }
    return this.readString();
  }

  readColon(): void {
    const byte = this.#peek();
    if (byte === undefined) throw this.#eof("an object");
    if (byte !== COLON) throw this.#atPeek("expected `:`", "a colon", this.#shown());
    this.offset++;
  }

  /**
   * Where serde_json says an object's own mistakes are (a key too many, too few, twice): it has gone on to the
   * object's end by then, if that is next.
   */
  endOfObject(): number {
    return this.#peek() === CLOSE_OBJECT ? this.offset + 1 : this.offset;
  }

  enterList(): void {
    this.#enter();
  }

  /** Whether the list has another element; false: it has ended. */
  nextElement(isFirst: boolean): boolean {
    const byte = this.#peek();
    if (byte === CLOSE_LIST) {
      this.offset++;
      this.#depth--;
      return false;
    }
    if (byte === undefined) throw this.#eof("a list");
    if (isFirst) return true;
    if (byte !== COMMA) {
      throw this.#atPeek("expected `,` or `]`", "a comma or the list's end", this.#shown());
    }
    this.offset++;
    const after = this.#peek();
    if (after === undefined) throw this.#eof("a value");
    if (after === CLOSE_LIST) throw this.#atPeek("trailing comma", "another element", "]");
    return true;
  }

  readNumber(): JsonNumber {
    const start = this.offset;
    const { bytes } = this;
    if (bytes[this.offset] === MINUS) this.offset++;
    const first = bytes[this.offset];
    if (first === undefined) throw this.#eof("a value");
    this.offset++;
    if (!isDigit(first)) throw this.#behind("invalid number", "a number");
    if (first === ZERO) {
      if (isDigit(bytes[this.offset])) {
        throw this.#atPeek("invalid number", "a number without leading zeros", this.#shown());
      }
    } else {
      this.#digits();
    }
    let isInteger = true;
    if (bytes[this.offset] === DOT) {
      isInteger = false;
      this.offset++;
      if (this.offset >= bytes.length) throw this.#eof("a value");
      if (!isDigit(bytes[this.offset])) {
        throw this.#atPeek("invalid number", "a digit", this.#shown());
      }
      this.#digits();
    }
    if ((bytes[this.offset] | 32) === 101) {
      isInteger = false;
      this.#exponent();
    }
    const text = latin1(bytes.subarray(start, this.offset));
    const value = Number(text);
    if (!Number.isFinite(value)) throw this.#behind("number out of range", "a smaller number");
    return { value, text, isInteger };
  }

  /** The quote is next. */
  readString(): string {
    const { bytes } = this;
    this.offset++;
    const start = this.offset;
    let isAscii = true;
    for (; ; this.offset++) {
      const byte = bytes[this.offset];
      if (byte === QUOTE) {
        const part = bytes.subarray(start, this.offset++);
        return isAscii ? latin1(part) : this.#decode(part);
      }
      if (byte === BACKSLASH) return this.#escapedString(start);
      if (byte === undefined) throw this.#eof("a string");
      if (byte < SPACE) throw this.#control();
      if (byte > 127) isAscii = false;
    }
  }

  #escapedString(start: number): string {
    const { bytes } = this;
    let text = "";
    let from = start;
    for (;;) {
      const byte = bytes[this.offset];
      if (byte === undefined) throw this.#eof("a string");
      if (byte === QUOTE) {
        const part = bytes.subarray(from, this.offset++);
        return text + this.#decode(part);
      }
      if (byte < SPACE) throw this.#control();
      if (byte !== BACKSLASH) {
        this.offset++;
        continue;
      }
      text += this.#decode(bytes.subarray(from, this.offset));
      this.offset++;
      text += this.#escape();
      from = this.offset;
    }
  }

  #escape(): string {
    const byte = this.bytes[this.offset];
    if (byte === undefined) throw this.#eof("a string");
    this.offset++;
    const plain = ESCAPES.get(byte);
    if (plain !== undefined) return plain;
    if (byte !== 117) throw this.#behind("invalid escape", "an escape that JSON has");
    const unit = this.#hex();
    if (unit >= 0xdc00 && unit <= 0xdfff) throw this.#loneSurrogate();
    if (unit < 0xd800 || unit > 0xdbff) return String.fromCharCode(unit);
    for (const wanted of [BACKSLASH, 117]) {
      const next = this.bytes[this.offset];
      if (next === undefined) throw this.#eof("a string");
      this.offset++;
      if (next !== wanted) throw this.#behind("unexpected end of hex escape", "a low surrogate");
    }
    const low = this.#hex();
    if (low < 0xdc00 || low > 0xdfff) throw this.#loneSurrogate();
    return String.fromCharCode(unit, low);
  }

  #hex(): number {
    const digits = this.bytes.subarray(this.offset, this.offset + 4);
    this.offset += digits.length;
    if (digits.length < 4) throw this.#eof("a string");
    const text = latin1(digits);
    if (!/^[0-9a-f]{4}$/i.test(text)) throw this.#behind("invalid escape", "four hex digits");
    return Number.parseInt(text, 16);
  }

  #decode(part: Uint8Array): string {
    try {
      return utf8.decode(part);
    } catch {
      throw this.#behind("invalid unicode code point", "UTF-8");
    }
  }

  #exponent(): void {
    this.offset++;
    const sign = this.bytes[this.offset];
    if (sign === MINUS || sign === 43) this.offset++;
    const first = this.bytes[this.offset];
    if (first === undefined) throw this.#eof("a value");
    this.offset++;
    if (!isDigit(first)) throw this.#behind("invalid number", "a digit");
    this.#digits();
  }

  #digits(): void {
    while (isDigit(this.bytes[this.offset])) this.offset++;
  }

  #word(word: string): void {
    for (let i = 0; i < word.length; i++) {
      const byte = this.bytes[this.offset];
      if (byte === undefined) throw this.#eof("a value");
      this.offset++;
      if (byte !== word.charCodeAt(i)) throw this.#behind("expected ident", word);
    }
  }

  #enter(): void {
    if (this.#depth === DEPTH_MAX) {
      throw this.#atPeek("recursion limit exceeded", `at most ${DEPTH_MAX} levels`, "more");
    }
    this.#depth++;
    this.offset++;
  }

  /** The next byte that is no white space, not read. */
  #peek(): number | undefined {
    for (; ; this.offset++) {
      const byte = this.bytes[this.offset];
      if (byte !== SPACE && byte !== 10 && byte !== 13 && byte !== 9) return byte;
    }
  }

  #shown(): string {
    const byte = this.bytes[this.offset];
    if (byte === undefined) return "the end";
    return byte > SPACE && byte < 127 ? String.fromCharCode(byte) : `byte ${byte}`;
  }

  /** What was read last, of a place where something else should be. */
  #lastRead(): string {
    const part = this.bytes.subarray(Math.max(0, this.offset - 8), this.offset);
    return JSON.stringify(lossy.decode(part));
  }

  #eof(what: string): JsonFault {
    this.offset = this.bytes.length;
    return new JsonFault(
      this.bytes.length,
      `EOF while parsing ${what}`,
      `the rest of ${what}`,
      "the end",
    );
  }

  #control(): JsonFault {
    this.offset++;
    return this.#behind(
      "control character (\\u0000-\\u001F) found while parsing a string",
      "an escape such as \\n",
    );
  }

  #loneSurrogate(): JsonFault {
    return this.#behind("lone leading surrogate in hex escape", "a pair of surrogates");
  }

  /** At the byte that was looked at. */
  #atPeek(serde: string, expected: string, got: string): JsonFault {
    return new JsonFault(Math.min(this.bytes.length, this.offset + 1), serde, expected, got);
  }

  /** Behind the byte that was read. */
  #behind(serde: string, expected: string): JsonFault {
    return new JsonFault(this.offset, serde, expected, this.#lastRead());
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE;
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

/** Line and column of an offset as serde_json counts: lines from 1, columns in bytes read of the line. */
export function placeOf(bytes: Uint8Array, offset: number): { line: number; column: number } {
  let line = 1;
  let start = 0;
  for (let i = 0; i < offset; i++) {
    if (bytes[i] !== 10) continue;
    line++;
    start = i + 1;
  }
  return { line, column: offset - start };
}
