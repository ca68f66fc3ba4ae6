import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  assemble,
  type SeccompCondition,
  type SeccompFilter,
} from "../../../src/jail/seccomp/filter.js";
import { syscallNumber } from "../../../src/jail/seccomp/syscalls.js";
import { runFilter } from "../../support/bpf.js";

const ALLOW = 0x7fff_0000;
const TRAP = 0x0003_0000;
const KILL = 0x8000_0000;
const number = (name: string) => syscallNumber(name) as number;

function filterOf(...rules: SeccompFilter["rules"]): SeccompFilter {
  return { defaultAction: "trap", filterAction: "allow", rules };
}

function holds({ op, width, value, mask = 0n }: SeccompCondition, argument: bigint): boolean {
  const seen = width === "dword" ? argument & 0xffff_ffffn : argument;
  switch (op) {
    case "eq":
      return seen === value;
    case "ne":
      return seen !== value;
    case "lt":
      return seen < value;
    case "le":
      return seen <= value;
    case "gt":
      return seen > value;
    case "ge":
      return seen >= value;
    case "maskedEq":
      return (seen & mask) === value;
  }
}

/** Few different halves, so that equal ones come up. */
const half = fc.constantFrom(0n, 1n, 2n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn);
const word = fc.tuple(half, half).map(([high, low]) => (high << 32n) | low);
const condition = fc
  .record({
    index: fc.nat(5),
    op: fc.constantFrom("eq", "ne", "lt", "le", "gt", "ge", "maskedEq"),
    width: fc.constantFrom("dword", "qword"),
    value: word,
    mask: word,
  })
  .map((one) => {
    const most = one.width === "dword" ? 0xffff_ffffn : 2n ** 64n - 1n;
    return { ...one, value: one.value & most, mask: one.mask & most } as SeccompCondition;
  });

describe("assemble", () => {
  it("lets through what a rule knows, and nothing else", () => {
    const program = assemble(filterOf({ syscall: "read" }, { syscall: "exit" }));
    expect(runFilter(program, number("read"))).toBe(ALLOW);
    expect(runFilter(program, number("exit"))).toBe(ALLOW);
    expect(runFilter(program, number("write"))).toBe(TRAP);
  });

  it("kills other architectures and x32 calls", () => {
    const program = assemble(filterOf({ syscall: "read" }));
    expect(runFilter(program, 0, [], 0x4000_0003)).toBe(KILL);
    expect(runFilter(program, 0x4000_0000)).toBe(KILL);
  });

  it("answers with a rule's own action", () => {
    const program = assemble(filterOf({ syscall: "clone3", action: { errno: 38 } }));
    expect(runFilter(program, number("clone3"))).toBe(0x0005_0000 + 38);
  });

  it("holds conditions as they are written, one rule or another", () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(condition, { maxLength: 4 }), { minLength: 1, maxLength: 4 }),
        fc.array(word, { minLength: 6, maxLength: 6 }),
        (rules, args) => {
          const program = assemble(
            filterOf(...rules.map((conditions) => ({ syscall: "ioctl", conditions })), {
              syscall: "read",
            }),
          );
          const isAllowed = rules.some((all) => all.every((one) => holds(one, args[one.index])));
          expect(runFilter(program, number("ioctl"), args)).toBe(isAllowed ? ALLOW : TRAP);
          expect(runFilter(program, number("read"), args)).toBe(ALLOW);
        },
      ),
      { numRuns: 2000 },
    );
  });

  it.each([
    [filterOf({ syscall: "nonsense" }), /no system call/],
    [filterOf({ syscall: "read", action: { errno: 5000 } }), /errno/],
    [
      filterOf({
        syscall: "read",
        conditions: [{ index: 6, op: "eq", width: "dword", value: 0n }],
      }),
      /arguments 0 to 5/,
    ],
    [
      filterOf({
        syscall: "read",
        conditions: [{ index: 0, op: "eq", width: "dword", value: 2n ** 32n }],
      }),
      /does not fit/,
    ],
  ])("refuses what cannot be %#", (filter, message) => {
    expect(() => assemble(filter)).toThrowError(message);
  });
});
