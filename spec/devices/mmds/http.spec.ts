import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  endOfRequest,
  formatReply,
  HttpFault,
  headerOf,
  parseRequest,
  parseU32,
} from "../../../src/devices/mmds/http.js";

const bytes = (text: string) => new TextEncoder().encode(text);
const parse = (text: string) => parseRequest(bytes(text));
const faultOf = (input: string | Uint8Array) => {
  try {
    parseRequest(typeof input === "string" ? bytes(input) : input);
  } catch (error) {
    if (error instanceof HttpFault) return [error.status, error.message];
    throw error;
  }
  return undefined;
};

describe("endOfRequest", () => {
  it.each([
    ["", 0],
    ["GET / HTTP/1.1\r\n", 0],
    ["GET / HTTP/1.1\r\n\r", 0],
    ["GET / HTTP/1.1\r\n\r\n", 18],
    ["GET / HTTP/1.1\r\n\r\nGET /", 18],
    ["GET / HTTP/1.1\n\n", 16],
    ["\n\n", 2],
    ["\r\n\r\n", 4],
    ["\n", 0],
  ])("of %j is %d", (text, end) => {
    expect(endOfRequest(bytes(text))).toBe(end);
  });
});

describe("parseRequest", () => {
  it("takes a request apart", () => {
    const request = parse(
      "GET /latest//meta-data?x HTTP/1.0\r\nHost: h\r\nACCEPT:  application/json \r\nX-Token :a:b\r\n" +
        "Accept-Encoding: gzip, identity\r\nContent-Length: 0\r\nX-Empty:\r\n\r\n",
    );
    expect(request).toEqual({
      method: "GET",
      version: "HTTP/1.0",
      path: "/latest//meta-data?x",
      accept: "application/json",
      headers: [
        ["Host", "h"],
        ["X-Token", "a:b"],
        ["X-Empty", ""],
      ],
    });
    expect(headerOf(request, "x-other", "x-token")).toEqual(["X-Token", "a:b"]);
    expect(headerOf(request, "token")).toBeUndefined();
  });

  it.each([
    ["/", "/"],
    ["http://169.254.169.254/a/b", "/a/b"],
    ["http://169.254.169.254:80/", "/"],
    ["http://169.254.169.254", ""],
    ["http://", ""],
    ["latest", ""],
    ["https://x/y", ""],
    ["*", ""],
  ])("finds in the URI %s the path %j", (uri, path) => {
    expect(parse(`PATCH ${uri} HTTP/1.1\r\n\r\n`).path).toBe(path);
  });

  it.each(["*/*", "text/html", "application/json, text/plain", "", "text/plain"])(
    "takes Accept: %s for text",
    (accept) => {
      expect(parse(`GET / HTTP/1.1\r\nAccept: ${accept}\r\n\r\n`).accept).toBe("text/plain");
    },
  );

  it.each([
    ["", 400, "Invalid request."],
    ["\r\n\r\n", 400, "Invalid request."],
    ["GET / HTTP/1.1\n\n", 400, "Invalid request."],
    ["GET / HTTP/1.1\r\nA: b\n\n", 400, "Invalid request."],
    ["GET /longlonglonglong\r\n\r\n", 400, "Invalid request."],
    ["GET  HTTP/1.0\r\n\r\n", 400, "Invalid request."],
    ["PATCH  HTTP/1.0\r\n\r\n", 400, "Empty URI not allowed."],
    ["POST / HTTP/1.1\r\n\r\n", 501, "Unsupported HTTP method."],
    ["HEAD / HTTP/1.1\r\n\r\n", 501, "Unsupported HTTP method."],
    ["get / HTTP/1.1\r\n\r\n", 501, "Unsupported HTTP method."],
    ["GET / HTTP/2.0\r\n\r\n", 501, "Unsupported HTTP version."],
    ["GET / HTTP/1.1 x\r\n\r\n", 501, "Unsupported HTTP version."],
    ["GET / HTTP/1.1\r\nbroken\r\n\r\n", 400, "Header is incorrectly formatted. Key: broken"],
    [
      "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
      400,
      "Invalid value. Key:Content-Length; Value: x",
    ],
    [
      "PUT / HTTP/1.1\r\nContent-Length: 4294967296\r\n\r\n",
      400,
      "Invalid value. Key:Content-Length; Value: 4294967296",
    ],
    ["PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 400, "Invalid request."],
    ["GET / HTTP/1.1\r\nAccept-Encoding:\r\n\r\n", 400, "Invalid request."],
    [
      "GET / HTTP/1.1\r\nAccept-Encoding: gzip, identity;q=0\r\n\r\n",
      400,
      "Invalid value. Key:Accept-Encoding; Value:identity;q=0",
    ],
    [
      "GET / HTTP/1.1\r\nAccept-Encoding: *;q=0\r\n\r\n",
      400,
      "Invalid value. Key:Accept-Encoding; Value:*;q=0",
    ],
  ])("refuses %j", (text, status, message) => {
    expect(faultOf(text)).toEqual([status, message]);
  });

  it("refuses what is no UTF-8", () => {
    const broken = bytes("GET /x HTTP/1.1\r\n\r\n");
    broken[5] = 0xff;
    expect(faultOf(broken)).toEqual([400, "Invalid request."]);
  });

  it("answers or refuses any bytes", () => {
    const line = fc.constantFrom(
      "GET",
      "PUT",
      " ",
      "/",
      "HTTP/1.1",
      "\r\n",
      "\n",
      ":",
      "Accept",
      "é",
      "0",
    );
    const text = fc
      .array(fc.oneof(line, fc.string()), { maxLength: 30 })
      .map((words) => words.join(""));
    fc.assert(
      fc.property(fc.oneof(text.map(bytes), fc.uint8Array({ maxLength: 100 })), (input) => {
        const end = endOfRequest(input);
        expect(end).toBeLessThanOrEqual(input.length);
        faultOf(input.subarray(0, end));
        faultOf(input);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("parseU32", () => {
  it.each([
    ["0", 0],
    ["+7", 7],
    ["0021600", 21_600],
    ["4294967295", 4_294_967_295],
    ["4294967296", undefined],
    ["", undefined],
    ["-1", undefined],
    ["1.5", undefined],
    ["1e3", undefined],
    ["0x10", undefined],
    ["１", undefined],
  ])("of %j is %j", (text, value) => {
    expect(parseU32(text)).toBe(value);
  });
});

describe("formatReply", () => {
  it("has Firecracker's headers in its order", () => {
    const headers = [["Allow", "GET, PUT"]] as const;
    const reply = formatReply({ status: 405, body: "ä", headers }, "HTTP/1.0");
    expect(new TextDecoder().decode(reply)).toBe(
      "HTTP/1.0 405 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nAllow: GET, PUT\r\n" +
        "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nä",
    );
  });
});
