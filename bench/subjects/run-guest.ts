/**
 * Subject: boots a kernel with the library and copies its serial port to stdout until it powers off.
 *
 * `node run-guest.js KERNEL BOOT-ARGS [CONFIGURATION]`: what `estalo run` does, without a command line to parse.
 * KERNEL may be `default`: the guest that comes with Estalo, and BOOT-ARGS are added to its own. CONFIGURATION is
 * more of a MicroVmConfig, as JSON.
 */
import { writeSync } from "node:fs";
import { defaultGuest, MicroVm, type MicroVmConfig } from "../../src/index.js";

const [kernel, bootArgs, more = "{}"] = process.argv.slice(2);
const guest =
  kernel === "default"
    ? { bootArgs: `${(await defaultGuest()).bootArgs} ${bootArgs}` }
    : { kernel, bootArgs };
const config: MicroVmConfig = { ...guest, memoryMib: 128, ...(JSON.parse(more) as MicroVmConfig) };
const vm = await MicroVm.create(config);
vm.console.read((bytes) => {
  writeSync(1, bytes);
});
await vm.start();
const exit = await vm.wait();
if (exit.reason !== "poweroff") {
  console.error(exit);
  process.exitCode = 1;
}
