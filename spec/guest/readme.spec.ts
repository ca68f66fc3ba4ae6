/**
 * The examples in the documents: every block that is marked as run is run, as a program of its own.
 *
 * The mark is a comment on the line before the block. Blocks are TypeScript or JavaScript; esbuild makes of
 * them what this Node.js understands, and they import the built package by its name.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { transform } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { execute } from "../support/guest-child.js";
import { ServeProcess } from "../support/serve-process.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const MARKED_BLOCK = /<!-- example: runs -->\n```(js|ts)\n(.*?)```/gs;

interface Example {
  readonly language: "js" | "ts";
  readonly code: string;
}

function examplesOf(document: string): Example[] {
  const markdown = readFileSync(`${root}${document}`, "utf8");
  return [...markdown.matchAll(MARKED_BLOCK)].map(([, language, code]) => ({
    language: language as Example["language"],
    code,
  }));
}

async function runExample({ language, code }: Example, env: Record<string, string>) {
  const { code: program } = await transform(code, { loader: language, target: "node20" });
  return execute(process.execPath, ["--input-type=module"], { cwd: root, input: program, env });
}

/** What each example prints, in the order of the document. */
const DOCUMENTS: readonly (readonly [string, readonly RegExp[]])[] = [
  [
    "README.md",
    [/^Linux \S*6\.1\.\S* x86_64\r?\npoweroff, status 0, \d+ ms to the guest's init\n$/],
  ],
  [
    "docs/library.md",
    [
      /^from the guest\r?\npoweroff, status 3, exit code 3\n$/,
      /paused after \d+ exits\nport writes: \d+; the last exit took \d+ ticks\n$/,
      /^pio serial 0x3f[8-f]: 0x[0-9a-f]{1,2}, \d+ ns\n0 lost, 0 dropped\n$/,
    ],
  ],
  ["docs/own-devices.md", [/^123456\r?\n0 failures\n$/]],
  ["docs/fleet.md", [/^poweroff, exit code 3\ntrue\n$/]],
  [
    "docs/client.md",
    [
      /^hello\npoweroff, exit code 3\n$/,
      /^one configured\ntwo configured\nERR_ESTALO_NOT_FOUND\n$/,
      /^created watched\nupdated renamed\ndeleted renamed\n$/,
    ],
  ],
];

describe.each(DOCUMENTS)("the examples of %s", (document, expected) => {
  const examples = examplesOf(document);

  const env: Record<string, string> = {};
  let server: ServeProcess | undefined;
  beforeAll(async () => {
    if (!examples.some(({ code }) => code.includes("estalo/client"))) return;
    server = await ServeProcess.start();
    env.ESTALO_HOST = server.host;
  });
  afterAll(() => server?.[Symbol.asyncDispose]());

  it("are all known here", () => {
    expect(examples.length).toBe(expected.length);
  });

  it.each(expected.map((output, index) => [index + 1, output] as const))(
    "number %i runs and prints what it says",
    async (number, output) => {
      const { status, stdout, stderr } = await runExample(examples[number - 1], env);
      expect(stdout, stderr).toMatch(output);
      expect(status, stderr).toBe(0);
    },
  );
});
