#!/usr/bin/env node
// Runs the built command. Plain JavaScript that any Node.js understands, so that an old one gets a clear line.
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 17)) {
  console.error(`estalo: Node.js 20.17 or later is needed, this is ${process.version}`);
  process.exit(125);
}
const { existsSync } = await import("node:fs");
// Two verbs have bundles of their own, since clients wait for their start.
const [verb, ...words] = process.argv.slice(2);
const end = words.indexOf("--");
const asksForHelp = words.slice(0, end < 0 ? undefined : end).includes("--help");
const isVmm = verb === "vmm" && !asksForHelp;
const isJail = verb === "jail";
const bundle = isVmm ? "vmm" : isJail ? "jail" : "cli";
const command = new URL(`../dist/${bundle}.js`, import.meta.url);
if (!existsSync(command)) {
  console.error("estalo: it is not built yet\nhint: npm run setup");
  process.exit(125);
}
// Node.js 22.1 and later keep compiled code.
(await import("node:module")).enableCompileCache?.();
const { vmm, jail } = await import(command.href);
if (isJail) jail(words, true);
if (isVmm) await vmm(words);
