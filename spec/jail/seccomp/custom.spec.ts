import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isEstaloError } from "../../../src/errors.js";
import { parseFilters } from "../../../src/jail/seccomp/custom.js";
import { assemble } from "../../../src/jail/seccomp/filter.js";

const PLAIN = { default_action: "trap", filter_action: "allow", filter: [{ syscall: "read" }] };
const parse = (value: unknown) => parseFilters(JSON.stringify(value));
const withRule = (rule: unknown) => parse({ process: { ...PLAIN, filter: [rule] } });

describe("parseFilters", () => {
  it("reads a filter in seccompiler's form", () => {
    const { process, vcpu } = parse({
      process: {
        default_action: { errno: 1 },
        filter_action: "allow",
        filter: [
          { syscall: "read" },
          {
            syscall: "ioctl",
            comment: "KVM",
            args: [
              { index: 1, type: "dword", op: { masked_eq: 65280 }, val: 44544 },
              { index: 2, type: "qword", op: "le", val: 5, comment: "few" },
            ],
          },
        ],
      },
    });
    expect(process).toEqual({
      defaultAction: { errno: 1 },
      filterAction: "allow",
      rules: [
        { syscall: "read" },
        {
          syscall: "ioctl",
          conditions: [
            { index: 1, width: "dword", op: "maskedEq", mask: 65280n, value: 44544n },
            { index: 2, width: "qword", op: "le", value: 5n },
          ],
        },
      ],
    });
    expect(vcpu).toEqual({ defaultAction: "allow", filterAction: "allow", rules: [] });
  });

  it.each([
    [() => parseFilters("{"), /is not JSON/],
    [() => parse([]), /it is not an object/],
    [() => parse({}), /process is missing/],
    [() => parse({ process: PLAIN, vmm: PLAIN }), /it\.vmm is unknown/],
    [
      () => parse({ process: { ...PLAIN, default_action: "no" } }),
      /default_action is not an object/,
    ],
    [() => parse({ process: { ...PLAIN, filter: {} } }), /process\.filter is not a list/],
    [() => withRule({ syscall: 1 }), /filter\[0\]\.syscall is not a name/],
    [() => withRule({ syscall: "read", args: [{ index: 0, type: "word" }] }), /type is not dword/],
    [
      () => withRule({ syscall: "read", args: [{ index: 0, type: "dword", op: "eq", val: -1 }] }),
      /val is not a whole number/,
    ],
  ])("refuses what is none, with the place (%#)", (call, message) => {
    expect(call).toThrowError(message);
  });

  it("raises its own error for any JSON", () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        try {
          assemble(parseFilters(text).process);
        } catch (error) {
          return isEstaloError(error) && error.code === "ERR_ESTALO_JAIL_CONFIG";
        }
        return true;
      }),
    );
  });
});
