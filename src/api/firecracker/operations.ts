/**
 * Every operation of door 1, for the door and for OpenAPI.
 */
import { BALLOON_OPERATIONS } from "./balloon.js";
import { BOOT_OPERATIONS } from "./boot.js";
import { DEVICE_OPERATIONS } from "./devices.js";
import { INSTANCE_OPERATIONS } from "./instance.js";
import { MEMORY_OPERATIONS } from "./memory.js";
import { MISSING_OPERATIONS } from "./missing-devices.js";
import { MMDS_OPERATIONS } from "./mmds.js";
import { NETWORK_OPERATIONS } from "./network.js";
import type { Operation } from "./operation.js";

export const FIRECRACKER_OPERATIONS: readonly Operation[] = [
  ...INSTANCE_OPERATIONS,
  ...BOOT_OPERATIONS,
  ...DEVICE_OPERATIONS,
  ...NETWORK_OPERATIONS,
  ...MMDS_OPERATIONS,
  ...BALLOON_OPERATIONS,
  ...MEMORY_OPERATIONS,
  ...MISSING_OPERATIONS,
];
