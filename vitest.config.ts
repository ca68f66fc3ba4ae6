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
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
