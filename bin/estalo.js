#!/usr/bin/env node
// Runs the built command. Plain JavaScript that any Node.js understands, so that an old one gets a clear line.
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 17)) {
  console.error(`estalo: Node.js 20.17 or later is needed, this is ${process.version}`);
  process.exit(125);
}
const { existsSync } = await import("node:fs");
// Two verbs have bundles of their own, since clients wait for their start.
const isVmm = process.argv[2] === "vmm" && !process.argv.includes("--help");
const isJail = process.argv[2] === "jail";
const bundle = isVmm ? "vmm" : isJail ? "jail" : "cli";
const command = new URL(`../dist/${bundle}.js`, import.meta.url);
if (!existsSync(command)) {
  console.error("estalo: it is not built yet\nhint: npm run setup");
  process.exit(125);
}
// Node.js 22.1 and later keep compiled code.
(await import("node:module")).enableCompileCache?.();
const { vmm, jail } = await import(command.href);
if (isJail) jail(process.argv.slice(3), true);
if (isVmm) await vmm(process.argv.slice(3));
