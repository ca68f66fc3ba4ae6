/**
 * Testing devices of one's own without KVM: `import { VirtioTester } from "estalo/testing"`. It needs no
 * addon, and any test runner.
 */
export { GuestMemory } from "../native/guest-memory.js";
export { BusTester } from "./bus-tester.js";
export { RingDriver, type RingDriverOptions, type Segment, type UsedEntry } from "./ring-driver.js";
export { type TestDriverOptions, VirtioTester, type VirtioTesterOptions } from "./virtio-tester.js";
