#!/usr/bin/env node
// Runs the built command. Plain JavaScript that any Node.js understands, so that an old one gets a clear line.
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 17)) {
  console.error(`estalo: Node.js 20.17 or later is needed, this is ${process.version}`);
  process.exit(125);
}
const { existsSync } = await import("node:fs");
// One verb has a bundle of its own, since clients wait for its start.
const isVmm = process.argv[2] === "vmm" && !process.argv.includes("--help");
const command = new URL(isVmm ? "../dist/vmm.js" : "../dist/cli.js", import.meta.url);
if (!existsSync(command)) {
  console.error("estalo: it is not built yet\nhint: npm run setup");
  process.exit(125);
}
// Node.js 22.1 and later keep compiled code.
(await import("node:module")).enableCompileCache?.();
const { vmm } = await import(command.href);
if (isVmm) await vmm(process.argv.slice(3));
