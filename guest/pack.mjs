// Packs what build.sh made, or compares it with what is packed already.
//
//   node pack.mjs            compare with images/manifest.json; status 1 if anything differs
//   node pack.mjs --update   compress into images/ and write the manifest anew
//
// The images are compared uncompressed: another version of brotli may pack the same bytes otherwise.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, brotliDecompressSync, constants } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const work = process.env.ESTALO_GUEST_WORK;
const images = join(here, "images");
const manifestFile = join(images, "manifest.json");
const sizeLimitBytes = 8 * 1024 * 1024;

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const packageVersion = (name) =>
  execFileSync("dpkg-query", ["-W", "-f", "${Version}", name], { encoding: "utf8" });

function hashOfFolder(folder, pattern) {
  const files = readdirSync(folder).filter((name) => pattern.test(name)).sort();
  return sha256(files.map((name) => `${name} ${sha256(readFileSync(join(folder, name)))}\n`).join(""));
}

function compress(bytes) {
  return brotliCompressSync(bytes, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: 11,
      [constants.BROTLI_PARAM_LGWIN]: 24,
      [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    },
  });
}

const built = {
  kernel: readFileSync(join(work, "vmlinux")),
  rootfs: readFileSync(join(work, "rootfs.erofs")),
};

/** What the images are made from; differs from the manifest's when the build differs for a good reason. */
function provenance() {
  return {
    kernelConfigSha256: sha256(readFileSync(join(here, "kernel/config"))),
    kernelPatchesSha256: hashOfFolder(join(here, "kernel/patches"), /\.patch$/),
    initSha256: hashOfFolder(join(here, "init"), /\.[ch]$/),
    agentSha256: hashOfFolder(join(here, "agent"), /\.[ch]$/),
    packages: Object.fromEntries(
      ["linux-source-6.1", "gcc-12", "binutils", "musl-dev", "busybox-static", "erofs-utils"].map(
        (name) => [name, packageVersion(name)],
      ),
    ),
  };
}

function describe(file, bytes, packed) {
  return {
    file,
    sizeBytes: bytes.length,
    sha256: sha256(bytes),
    compressedSizeBytes: packed.length,
    compressedSha256: sha256(packed),
  };
}

function linuxVersion() {
  const banner = /Linux version (\S+)/.exec(built.kernel.toString("latin1"));
  return banner[1];
}

function update() {
  const commandLine = JSON.parse(readFileSync(join(here, "command-line.json"), "utf8"));
  const packed = { kernel: compress(built.kernel), rootfs: compress(built.rootfs) };
  const total = packed.kernel.length + packed.rootfs.length;
  if (total > sizeLimitBytes) throw new Error(`the images are ${total} bytes, the limit is ${sizeLimitBytes}`);
  const made = provenance();
  const manifest = {
    version: commandLine.version,
    commandLine: commandLine.commandLine,
    commandLineEmulated: commandLine.commandLineEmulated,
    kernel: {
      ...describe("vmlinux.br", built.kernel, packed.kernel),
      linuxVersion: linuxVersion(),
      sourcePackage: "linux-source-6.1",
      sourceVersion: made.packages["linux-source-6.1"],
    },
    rootfs: {
      ...describe("rootfs.erofs.br", built.rootfs, packed.rootfs),
      busyboxVersion: made.packages["busybox-static"],
      muslVersion: made.packages["musl-dev"],
    },
    provenance: made,
  };
  writeFileSync(join(images, "vmlinux.br"), packed.kernel);
  writeFileSync(join(images, "rootfs.erofs.br"), packed.rootfs);
  writeFileSync(manifestFile, `${JSON.stringify(manifest, null, 2)}\n`);
  console.log(`guest: images written, ${total} bytes together`);
}

function compare() {
  const manifest = JSON.parse(readFileSync(manifestFile, "utf8"));
  let identical = true;
  for (const part of ["kernel", "rootfs"]) {
    const { file, sha256: expected } = manifest[part];
    const packedFile = join(images, file);
    const packed = existsSync(packedFile) ? sha256(brotliDecompressSync(readFileSync(packedFile))) : "absent";
    const actual = sha256(built[part]);
    const same = actual === expected && packed === expected;
    identical &&= same;
    console.log(`guest: ${part} ${same ? "identical" : "DIFFERS"}: built ${actual}, manifest ${expected}, packed ${packed}`);
  }
  if (identical) return console.log("guest: byte for byte identical with images/manifest.json");
  const made = provenance();
  for (const [name, version] of Object.entries(made.packages)) {
    const before = manifest.provenance.packages[name];
    if (before !== version) console.log(`guest: built with ${name} ${version}, the manifest with ${before}`);
  }
  for (const name of ["kernelConfigSha256", "kernelPatchesSha256", "initSha256", "agentSha256"]) {
    if (made[name] !== manifest.provenance[name]) console.log(`guest: ${name} is not the manifest's`);
  }
  process.exitCode = 1;
}

if (process.argv.includes("--update")) update();
else compare();
