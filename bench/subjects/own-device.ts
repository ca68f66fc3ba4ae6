/**
 * Subject: boots the bench guest with an MMIO device of the user's own, and copies its serial port to stdout.
 *
 * `node own-device.js KERNEL JOB SYNC`: the guest takes the first window on its command line, which is the
 * device's. SYNC 1: its vCPU waits for this thread; 0: reads come from the register image, writes are posted.
 */
import { writeSync } from "node:fs";
import { defineMmioDevice, MicroVm } from "../../src/index.js";

const BASE = 0xd000_0000;

const [kernel, job, sync] = process.argv.slice(2);
const place = { id: "own", base: BASE, sizeBytes: 4096 };
const device = defineMmioDevice(
  sync === "1" ? { ...place, sync: true, read: () => 1, write: () => {} } : place,
);
const vm = await MicroVm.create({
  kernel,
  bootArgs: `${job} virtio_mmio.device=4K@0x${BASE.toString(16)}:0`,
  memoryMib: 128,
  devices: [device],
});
vm.console.read((bytes) => {
  writeSync(1, bytes);
});
await vm.start();
const exit = await vm.wait();
if (exit.reason !== "poweroff") {
  console.error(exit);
  process.exitCode = 1;
}
