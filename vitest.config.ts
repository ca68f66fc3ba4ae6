import { defineConfig } from "vitest/config";

/**
 * Two projects: unit specs need no KVM and run anywhere; guest specs boot kernels, one file after another,
 * on this host's KVM or in the testbed.
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
          fileParallelism: false,
          // Far more than any takes on two quiet cores: a wait tells its guest's state before (guest-report.ts).
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
