/**
 * The rules every file keeps, checked by scanning: who may import whom, who owns which package, sizes,
 * headers, and that each source has its spec. Breaking one is a decision: change it here, with the reason.
 */
import { describe, expect, it } from "vitest";
import {
  findCycle,
  type ImportOf,
  importsOf,
  longFunctions,
  readSource,
  sourceFiles,
  withoutComments,
} from "./support/source-tree.js";

const files = sourceFiles("src");
const typescript = files.filter((path) => path.endsWith(".ts"));
const imports = typescript.flatMap(importsOf);

/** cli ▶ isolation ▶ api ▶ { library, testing } ▶ { actors ▶ { devices, boot }, jail } ▶ native ▶ basics; a layer may skip downwards. */
const RANKS: Readonly<Record<string, number>> = {
  cli: 7,
  isolation: 6,
  api: 5,
  library: 4,
  testing: 4,
  actors: 3,
  jail: 3,
  devices: 2,
  boot: 2,
  native: 1,
  basics: 0,
};

function layerOf(path: string): string {
  const [, folder, ...below] = path.split("/");
  if (below.length > 0) return folder;
  return folder === "errors.ts" || folder === "units.ts" ? "basics" : "library";
}

const arrow = ({ from, to }: ImportOf) => `${from} ▶ ${to}`;
const inside = imports.filter(({ isPackage }) => !isPackage);
const outside = imports.filter(({ isPackage }) => isPackage);

describe("imports", () => {
  it("were found", () => {
    expect(inside.length).toBeGreaterThan(200);
    expect(outside.some(({ to }) => to === "comlink")).toBe(true);
    expect(new Set(typescript.map(layerOf))).toEqual(new Set(Object.keys(RANKS)));
  });

  it("run one way, types too", () => {
    const wrong = inside.filter(({ from, to }) => {
      const [importer, imported] = [layerOf(from), layerOf(to)];
      return importer !== imported && !(RANKS[importer] > RANKS[imported]);
    });
    expect(wrong.map(arrow)).toEqual([]);
  });

  it("form no cycle", () => {
    const next = new Map(typescript.map((path) => [path, [] as string[]]));
    for (const { from, to } of inside) next.get(from)?.push(to);
    expect(findCycle(next)).toBeUndefined();
  });

  it("name files that exist", () => {
    const missing = inside.filter(({ to }) => !typescript.includes(to));
    expect(missing.map(arrow)).toEqual([]);
  });

  it("show pure machines and loaders of native code only what has no addon behind it", () => {
    const pure = [
      "src/native/guest-memory.ts",
      "src/native/kvm-structs.ts",
      "src/native/layouts.ts",
    ];
    const wrong = inside.filter(
      ({ from, to }) =>
        (layerOf(from) === "devices" && to.startsWith("src/native/") && to !== pure[0]) ||
        (layerOf(from) === "boot" && to.startsWith("src/native/") && !pure.includes(to)),
    );
    expect(wrong.map(arrow)).toEqual([]);
  });
});

/** Who may import a package; a folder for all in it. Types of RxJS may be named where streams are handed out. */
const OWNERS: Readonly<Record<string, readonly RegExp[]>> = {
  "node:worker_threads": [/^src\/actors\/transport\.ts$/, /\.worker\.ts$/],
  comlink: [/^src\/actors\/transport\.ts$/, /\.worker\.ts$/],
  "better-sqlite3": [/^src\/actors\/fleet-store\.ts$/],
  // memory-*: a pipeline of which each stage can be replaced by its user's own.
  rxjs: [
    /^src\/actors\/(inspection|rate-limits|exit-stream|balloon-family)\.ts$/,
    /^src\/actors\/memory-(pressure|policy)\.ts$/,
    /^src\/isolation\/remote-(exits|limits)\.ts$/,
  ],
  "node:fs": [
    /^src\/boot\/boot-file\.ts$/,
    /^src\/actors\/(config|default-guest|drive-set|fleet-store|given-files)\.ts$/,
    /^src\/actors\/(memory-pressure|transport)\.ts$/,
    /^src\/actors\/backends\//,
    /^src\/actors\/agent\/copy-(in|out)\.ts$/,
    /^src\/(api|cli|jail|isolation)\//,
  ],
  "node:child_process": [
    /^src\/cli\//,
    /^src\/actors\/backends\/passt(-program)?\.ts$/,
    /^src\/isolation\/jailed-cell\.ts$/,
  ],
  "node:net": [
    /^src\/api\/(unix-path|tls-front|client\/socket|v1\/auth)\.ts$/,
    /^src\/actors\/backends\/(passt|vsock-sockets)\.ts$/,
    /^src\/cli\/(net-options|net\/(subnet|bridge-taps))\.ts$/,
    /^src\/isolation\/(cell|jailed-cell)\.ts$/,
  ],
  "node:tls": [/^src\/api\/(tls-front|client\/socket)\.ts$/],
  "node:http": [/^src\/api\/client\/connection\.ts$/],
  "node:https": [/^src\/api\/client\/connection\.ts$/],
  ws: [/^src\/api\/client\/socket\.ts$/],
  "uWebSockets.js": [/^src\/api\/server\.ts$/],
  "fast-json-stringify": [/^src\/api\/serialise\.ts$/],
  typebox: [/^src\/api\//, /^src\/isolation\/cell-checks\.ts$/],
  "node:module": [/^src\/native\/binding\.ts$/],
};

describe("outside packages", () => {
  it.each(Object.entries(OWNERS))("%s has its owners", (name, owners) => {
    const strangers = outside.filter(
      ({ from, to, isType }) =>
        !isType &&
        (to === name || to.startsWith(`${name}/`)) &&
        !owners.some((owner) => owner.test(from)) &&
        !from.endsWith(".d.ts"),
    );
    expect(strangers.map(arrow)).toEqual([]);
  });

  it("stay out of devices, which are pure machines", () => {
    const impure = outside.filter(({ from }) => layerOf(from) === "devices");
    expect(impure.map(arrow)).toEqual([]);
    const timed = typescript.filter(
      (path) =>
        layerOf(path) === "devices" &&
        /\b(setTimeout|setInterval|setImmediate|Date\.now|performance\.now)\(/.test(
          withoutComments(readSource(path)),
        ),
    );
    expect(timed).toEqual([]);
  });

  it("are dependencies, each of which somebody imports", () => {
    const { dependencies } = JSON.parse(readSource("package.json"));
    const used = outside.map(({ to }) => to).filter((name) => !name.startsWith("node:"));
    expect(Object.keys(dependencies).sort()).toEqual(
      [...new Set(used.map((name) => name.split("/")[0]))].sort(),
    );
  });

  it("are joined by the addon, which one file loads", () => {
    const loaders = typescript.filter((path) => readSource(path).includes("estalo.node"));
    expect(loaders).toEqual(["src/native/binding.ts"]);
  });
});

describe("every source file", () => {
  it("says at its start what it is for", () => {
    const silent = files.filter((path) => !/^(#!.*\n)?(\/\*\*?|#) ?\n?.*\w/.test(readSource(path)));
    expect(silent).toEqual([]);
  });

  it("has at most 400 lines", () => {
    const long = files.filter((path) => readSource(path).trimEnd().split("\n").length > 400);
    expect(long).toEqual([]);
  });

  it("has functions of at most 70 lines", () => {
    expect(typescript.flatMap((path) => longFunctions(path, 70))).toEqual([]);
  });

  it("names its numbers: machines and loaders have hexadecimal ones in tables only", () => {
    const bare = typescript
      .filter((path) => ["devices", "boot"].includes(layerOf(path)))
      .filter((path) => !/\.regs\.ts$|\/layout\.ts$/.test(path))
      .filter((path) => /\b0x[0-9a-f_]+/i.test(withoutStrings(withoutComments(readSource(path)))));
    expect(bare).toEqual([]);
  });

  it("is finished", () => {
    const open = [...files, ...sourceFiles("spec"), ...sourceFiles("scripts")].filter(
      (path) =>
        path !== "spec/architecture.spec.ts" && /\b(TODO|FIXME|XXX)\b/.test(readSource(path)),
    );
    expect(open).toEqual([]);
  });
});

function withoutStrings(text: string): string {
  return text.replace(/"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, '""');
}

/** Sources without a spec of their own name, and why. */
const NO_SPEC: readonly (readonly [RegExp, string])[] = [
  [/\.d\.ts$/, "types only"],
  [/\.regs\.ts$/, "tables, checked by what their device's spec sees"],
  [/\.state\.ts$/, "tables, as above"],
  [/^src\/(testing\/)?index\.ts$/, "names only; guest specs import them"],
  [
    /^src\/testing\/(fake-|plain-memory|ring-driver|virtio-machine)/,
    "every virtio device's spec drives its device with them",
  ],
  [/^src\/actors\/legacy-devices\.ts$/, "a table; device-board.spec.ts sees its devices answer"],
  [/^src\/devices\/virtio\/device-chain\.ts$/, "chain-device.spec.ts: its part"],
  [/^src\/actors\/(fleet-)?messages\.ts$/, "types only"],
  [/^src\/api\/(http|route|json-schema)\.ts$/, "types only"],
  [/^src\/api\/server-(exchange|options)\.ts$/, "server.spec.ts: parts of one server"],
  [/^src\/api\/(check-wording|json-reader)\.ts$/, "check.spec.ts: parts of one check"],
  [/^src\/api\/errors-http\.ts$/, "router.spec.ts sees its replies"],
  [/^src\/api\/schema-components\.ts$/, "openapi.spec.ts"],
  [/^src\/api\/client\/(index|types)\.ts$/, "names and types only"],
  [/^src\/api\/client\/agent-stream\.ts$/, "agent-socket.spec.ts runs it against the server's end"],
  [/^src\/api\/client\/(errors|socket)\.ts$/, "connection.spec.ts and the streams' specs see them"],
  [/^src\/actors\/device-family\.ts$/, "a contract"],
  [
    /^src\/actors\/agent\/(channel|process|files|copy-in|copy-out)\.ts$/,
    "guest-agent.spec.ts drives them with the agent itself, copy.spec.ts with a hostile one",
  ],
  [
    /^src\/api\/v1\/((config|device-change|limit|stream|metrics)-schemas|schema-types|(route|socket)-specs)\.ts$/,
    "tables; schemas.spec.ts and routes.spec.ts run them",
  ],
  [/^src\/api\/v1\/(close-codes|fleet)\.ts$/, "names and contracts"],
  [/^src\/api\/v1\/lossy-session\.ts$/, "exits-socket.spec.ts and limits-socket.spec.ts"],
  [/^src\/isolation\/remote-limits\.ts$/, "remote-microvm.spec.ts"],
  [/^src\/api\/v1\/(microvm-json|descriptions)\.ts$/, "routes.spec.ts and door.spec.ts"],
  [/^src\/actors\/abortable\.ts$/, "fleet.spec.ts and lifecycle.spec.ts give up calls"],
  [/^src\/actors\/fleet-(registry|run)\.ts$/, "fleet.spec.ts: parts of the fleet"],
  [/^src\/actors\/fleet-(errors|schema|writer)\.ts$/, "fleet-store.spec.ts: parts of the store"],
  [/^src\/actors\/vcpu\.worker\.ts$/, "transport.spec.ts runs it"],
  [/^src\/actors\/(guest-stdio-frames|console-output)\.ts$/, "guest-stdio.spec.ts"],
  [/^src\/boot\/(bzimage|elf-image|kernel-file)\.ts$/, "kernel-image.spec.ts"],
  [/^src\/boot\/acpi\/dsdt\.ts$/, "tables.spec.ts disassembles it"],
  [/^src\/devices\/(backend|events)\.ts$/, "contracts and codes"],
  [/^src\/devices\/fronts\.ts$/, "every front's spec makes its front by it"],
  [/^src\/devices\/virtio\/(device|features|chain-io)\.ts$/, "queue, block and entropy specs"],
  [/^src\/devices\/virtio\/block-.*\.ts$/, "block.spec.ts: parts of one device"],
  [/^src\/devices\/virtio\/page-ranges\.ts$/, "balloon.spec.ts"],
  [/^src\/devices\/virtio\/net-.*\.ts$/, "net.spec.ts: parts of one device"],
  [/^src\/devices\/virtio\/vsock-.*\.ts$/, "vsock.spec.ts: parts of one device"],
  [/^src\/api\/firecracker\/memory-draft\.ts$/, "draft.spec.ts"],
  [
    /^src\/api\/firecracker\/(api-counters|boot|devices|faults|instance|missing-devices|operations?|version)\.ts$/,
    "door.spec.ts drives them, one by one",
  ],
  [
    /^src\/api\/firecracker\/((balloon|device|memory|network)-)?schemas\.ts$/,
    "tables; door.spec.ts checks bodies by them",
  ],
  [/^src\/api\/firecracker\/(log|target)\.ts$/, "types, and a log that is silent"],
  [/^src\/api\/firecracker\/(machine-metrics|metrics-fields)\.ts$/, "metrics.spec.ts"],
  [
    /^src\/api\/firecracker\/(machine|machine-parts|serial-output)\.ts$/,
    "spec/guest/vmm.spec.ts runs the machine",
  ],
  [/^src\/jail\/jail-error\.ts$/, "the jail's specs see its errors"],
  [/^src\/actors\/running-microvm\.ts$/, "a contract"],
  [
    /^src\/isolation\/cell(-main|-microvm)?\.ts$/,
    "spec/guest/isolate.spec.ts runs cells; remote-microvm.spec.ts speaks with one without a guest",
  ],
  [/^src\/isolation\/(cell-messages|cell-checks)\.ts$/, "cell-link.spec.ts"],
  [/^src\/isolation\/stream-duplex\.ts$/, "channel.spec.ts"],
  [/^src\/isolation\/remote-(devices|exits)\.ts$/, "remote-microvm.spec.ts"],
  [/^src\/isolation\/(opened-files|thread-folders)\.ts$/, "spec/guest/isolate.spec.ts"],
  [/^src\/cli\//, "spec/guest/cli.spec.ts runs the command; some parts have specs besides"],
];

describe("specs", () => {
  const specs = sourceFiles("spec").filter((path) => path.endsWith(".spec.ts"));

  it("mirror the sources", () => {
    const missing = typescript
      .filter((path) => !NO_SPEC.some(([pattern]) => pattern.test(path)))
      .filter((path) => !specs.includes(path.replace(/^src/, "spec").replace(/\.ts$/, ".spec.ts")));
    expect(missing).toEqual([]);
  });

  it("are excused only where there is something to excuse", () => {
    const idle = NO_SPEC.filter(([pattern]) => !typescript.some((path) => pattern.test(path)));
    expect(idle).toEqual([]);
  });

  it("run, all of them: none alone, and none left out without saying what it needs", () => {
    // Guest specs are left out as a whole, without KVM, and print why.
    const others = specs.filter((path) => !/^spec\/(guest\/|architecture)/.test(path));
    expect(others.filter((path) => /\.(only|todo|skip)\b/.test(readSource(path)))).toEqual([]);
    const unreasoned = others.filter((path) =>
      [
        ...readSource(path).matchAll(/\.(?:skipIf|runIf)\([\s\S]{0,120}?\)\(\s*(["'`])(.*?)\1/g),
      ].some(([, , title]) => !/\(.*\)/.test(title)),
    );
    expect(unreasoned).toEqual([]);
  });
});

describe("README.md", () => {
  it("names the two commands that start and test everything", () => {
    const readme = readSource("README.md");
    expect(readme).toContain("npm start");
    expect(readme).toContain("npm test");
  });
});
