import { describe, expect, it } from "vitest";
import { SYSCALL_NAMES, syscallNumber } from "../../../src/jail/seccomp/syscalls.js";

describe("system calls of x86-64", () => {
  it.each([
    ["read", 0],
    ["ioctl", 16],
    ["execve", 59],
    ["seccomp", 317],
    ["rseq", 334],
    ["pidfd_send_signal", 424],
    ["clone3", 435],
    ["landlock_restrict_self", 446],
    ["mseal", 462],
  ])("%s is %d", (name, number) => {
    expect(syscallNumber(name)).toBe(number);
    expect(SYSCALL_NAMES.get(number)).toBe(name);
  });

  it("have a name each, once", () => {
    expect(SYSCALL_NAMES.size).toBe(335 + 39);
    expect(new Set(SYSCALL_NAMES.values()).size).toBe(SYSCALL_NAMES.size);
    expect(syscallNumber("nonsense")).toBeUndefined();
  });
});
