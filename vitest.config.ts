import { defineConfig } from "vitest/config";

/** A guest of one vCPU keeps one processor busy, and the testbed's are slow ones. */
const guestWorkers = process.env.ESTALO_SPEC_HOST === "testbed" ? 1 : 2;

/**
 * Two projects: unit specs need no KVM and run anywhere; guest specs boot kernels, two files at a time on this
 * host's KVM, one in the testbed.
 */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["spec/**/*.spec.ts"],
          exclude: ["spec/guest/**"],
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: "guest",
          include: ["spec/guest/**/*.spec.ts"],
          maxWorkers: guestWorkers,
          sequence: { groupOrder: 1 },
          // Far more than any takes on two quiet cores: a wait tells its guest's state before (guest-report.ts).
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
