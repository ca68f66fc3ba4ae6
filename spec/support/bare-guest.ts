/** Programs of spec/guest/bare, which need no operating system: compiled, with the bench guest's entry. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Scratch } from "./tiny-guest.js";

/** Far from the pages that a balloon may be told to give up by mistake. */
const LINK_ADDRESS = "0x3000000";
const FLAGS =
  "-std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none " +
  "-fno-strict-aliasing -mno-red-zone -mgeneral-regs-only -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noexecstack";
const BARE = new URL("../guest/bare/", import.meta.url);
const BENCH = new URL("../../bench/guest/", import.meta.url);

/** Compiles NAME.c, with these sources of the bench guest besides; gives the kernel's path. */
export function bareGuest(scratch: Scratch, name: string, ...besides: string[]): string {
  const layout = readFileSync(new URL("guest.ld", BENCH), "utf8");
  const script = join(scratch.path, "guest.ld");
  writeFileSync(script, layout.replace("0x100000", LINK_ADDRESS));
  const kernel = join(scratch.path, name);
  const sources = [
    ...[`${name}.c`, "start.c"].map((file) => new URL(file, BARE)),
    ...["entry.S", "text.c", ...besides].map((file) => new URL(file, BENCH)),
  ].map((url) => fileURLToPath(url));
  const cc = process.env.CC ?? "cc";
  execFileSync(cc, [...FLAGS.split(" "), `-Wl,-T,${script}`, ...sources, "-o", kernel]);
  return kernel;
}
