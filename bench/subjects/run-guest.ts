/**
 * Subject: boots a kernel with the library and copies its serial port to stdout until it powers off.
 *
 * `node run-guest.js KERNEL BOOT-ARGS`: what `estalo run` does, without a command line to parse. KERNEL may
 * be `default`: the guest that comes with Estalo, and BOOT-ARGS are added to its own.
 */
import { writeSync } from "node:fs";
import { defaultGuest, MicroVm } from "../../src/index.js";

const [kernel, bootArgs] = process.argv.slice(2);
const guest =
  kernel === "default"
    ? { bootArgs: `${(await defaultGuest()).bootArgs} ${bootArgs}` }
    : { kernel, bootArgs };
const vm = await MicroVm.create({ ...guest, memoryMib: 128 });
vm.console.read((bytes) => {
  writeSync(1, bytes);
});
await vm.start();
const exit = await vm.wait();
if (exit.reason !== "poweroff") {
  console.error(exit);
  process.exitCode = 1;
}
