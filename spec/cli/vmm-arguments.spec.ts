import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/cli/firecracker-flags.js";
import { parseVmmArguments, vmmFlagsText } from "../../src/cli/vmm-arguments.js";

const parse = (line: string) => parseVmmArguments(line.split(" ").filter((word) => word !== ""));

describe("parseVmmArguments", () => {
  it("has Firecracker's defaults", () => {
    expect(parse("")).toMatchObject({
      action: "run",
      apiSocket: "/run/firecracker.socket",
      id: "anonymous-instance",
      noApi: false,
      maxPayloadBytes: 51_200,
      bootTimer: false,
      startTimeUs: undefined,
    });
  });

  it("takes what its clients give", () => {
    expect(parse("--api-sock s --id vm-1 --no-seccomp")).toMatchObject({
      apiSocket: "s",
      id: "vm-1",
    });
    expect(parse("--config-file f --no-api --level Debug --show-level")).toMatchObject({
      configFile: "f",
      noApi: true,
      level: "Debug",
      showLevel: true,
      showLogOrigin: false,
    });
    expect(
      parse("--start-time-us 1 --start-time-cpu-us 2 --parent-cpu-time-us 3 --boot-timer"),
    ).toMatchObject({ startTimeUs: 1, startTimeCpuUs: 2, parentCpuTimeUs: 3, bootTimer: true });
    expect(
      parse("--http-api-max-payload-size 99 --mmds-size-limit 1 --seccomp-filter f"),
    ).toMatchObject({ maxPayloadBytes: 99, metadataLimitBytes: 1 });
    expect(parse("--http-api-max-payload-size 99 --metadata f")).toMatchObject({
      metadataFile: "f",
      metadataLimitBytes: 99,
    });
  });

  it("does not look at what follows --", () => {
    expect(parse("--id a -- --id b --nonsense").id).toBe("a");
  });

  it("prints instead of running, whatever else is given", () => {
    expect(parse("--nonsense --version").action).toBe("version");
    expect(parse("--version --help").action).toBe("help");
    expect(parse("--snapshot-version").action).toBe("snapshot-version");
  });

  it.each([
    ["--foo", "Found argument 'foo' which wasn't expected, or isn't valid in this context."],
    ["foo", "Found argument 'foo' which wasn't expected, or isn't valid in this context."],
    ["--id=x", "Found argument 'id=x' which wasn't expected, or isn't valid in this context."],
    ["--id", "The argument 'id' requires a value, but none was supplied."],
    ["--id --no-seccomp", "The argument 'id' requires a value, but none was supplied."],
    ["--id a --id b", "The argument 'id' was provided more than once."],
    ["--no-api", "Argument 'config-file' required, but not found."],
    [
      "--no-seccomp --seccomp-filter f",
      "Argument 'seccomp-filter' cannot be used together with argument 'no-seccomp'.",
    ],
    ["--id a_b", "Invalid instance ID: 1 to 64 letters, digits and hyphens, not 'a_b'."],
    [
      "--http-api-max-payload-size many",
      "'http-api-max-payload-size' parameter expected to be a whole number, not 'many'.",
    ],
    [
      "--mmds-size-limit -1",
      "'mmds-size-limit' parameter expected to be a whole number, not '-1'.",
    ],
    ["--enable-pci", "--enable-pci: this build has no PCI yet."],
    ["--describe-snapshot f", "--describe-snapshot: this build has no snapshots yet."],
  ])("refuses %s", (line, message) => {
    expect(() => parse(line)).toThrow(new ArgumentError(message));
  });

  it("explains every flag", () => {
    const text = vmmFlagsText();
    for (const flag of ["api-sock <PATH>", "no-seccomp", "mmds-size-limit <BYTES>", "module"]) {
      expect(text).toContain(`--${flag}`);
    }
    expect(Math.max(...text.split("\n").map(({ length }) => length))).toBeLessThan(120);
  });
});
