import { describe, expect, it } from "vitest";
import {
  JAIL_FLAGS,
  jailHelp,
  parseJailArguments,
  parseRemovalArguments,
} from "../../src/cli/jail-arguments.js";

const NEEDED = ["--id", "vm-1", "--exec-file", "/bin/true", "--uid", "10", "--gid", "20"];
/** What the Go SDK and Kata Containers send. */
const GO_SDK = [
  ...NEEDED,
  ...["--cgroup", "cpuset.mems=0", "--cgroup", "cpuset.cpus=0-3", "--cgroup-version", "2"],
  ...["--parent-cgroup", "vms", "--chroot-base-dir", "/jails", "--netns", "/run/netns/a"],
  ...["--daemonize", "--", "--no-seccomp", "--api-sock", "/run/api.sock"],
];

describe("parseJailArguments", () => {
  it("has Firecracker's defaults", () => {
    expect(parseJailArguments(NEEDED, false)).toEqual({
      id: "vm-1",
      execFile: "/bin/true",
      uid: "10",
      gid: "20",
      baseFolder: "/srv/jailer",
      hasEmptyNetwork: false,
      isDaemon: false,
      hasPidNamespace: false,
      cgroups: [],
      cgroupVersion: "1",
      resourceLimits: [],
      cleans: false,
      arguments: [],
    });
  });

  it("takes every flag of Firecracker's jailer, and leaves the program what follows --", () => {
    const more = ["--new-pid-ns", "--resource-limit", "fsize=1", "--resource-limit", "no-file=2"];
    expect(parseJailArguments([...more, ...GO_SDK], true)).toMatchObject({
      baseFolder: "/jails",
      netns: "/run/netns/a",
      isDaemon: true,
      hasPidNamespace: true,
      cgroups: ["cpuset.mems=0", "cpuset.cpus=0-3"],
      cgroupVersion: "2",
      parentCgroup: "vms",
      resourceLimits: ["fsize=1", "no-file=2"],
      arguments: ["--no-seccomp", "--api-sock", "/run/api.sock"],
    });
  });

  it("gives an empty network by default where the caller says so, unless told otherwise", () => {
    const network = (words: string[], byDefault: boolean) =>
      parseJailArguments([...NEEDED, ...words], byDefault);
    expect(network([], true)).toMatchObject({ hasEmptyNetwork: true });
    expect(network(["--host-network"], true)).toMatchObject({ hasEmptyNetwork: false });
    expect(network(["--empty-network"], false)).toMatchObject({ hasEmptyNetwork: true });
    expect(() => network(["--empty-network", "--host-network"], true)).toThrow();
  });

  it.each([
    [[], "Argument 'exec-file' required, but not found."],
    [NEEDED.slice(0, 6), "Argument 'gid' required, but not found."],
    [[...NEEDED, "--nonsense"], "nonsense"],
    [[...NEEDED, "--netns"], "netns"],
    [[...NEEDED, "--id", "again"], "id"],
  ])("refuses %j", (words, message) => {
    expect(() => parseJailArguments(words, false)).toThrow(message);
  });

  it("answers --help and --version whatever else there is, but not behind --", () => {
    expect(parseJailArguments(["--help"], false)).toBe("help");
    expect(parseJailArguments(["--version", "--id"], false)).toBe("version");
    expect(parseJailArguments([...NEEDED, "--", "--version"], false)).toMatchObject({
      arguments: ["--version"],
    });
  });
});

describe("parseRemovalArguments", () => {
  it("takes a jail's id first, and where it is", () => {
    expect(parseRemovalArguments(["vm-1"])).toEqual({
      id: "vm-1",
      baseFolder: "/srv/jailer",
      execFile: "firecracker",
      kills: false,
    });
    const words = [
      "vm-1",
      "--force",
      "--chroot-base-dir",
      "/jails",
      "--exec-file",
      "/usr/bin/node",
    ];
    expect(parseRemovalArguments(words)).toEqual({
      id: "vm-1",
      baseFolder: "/jails",
      execFile: "/usr/bin/node",
      kills: true,
    });
  });
});

describe("jailHelp", () => {
  it("names every flag", () => {
    for (const { name } of JAIL_FLAGS) expect(jailHelp()).toContain(`--${name}`);
  });
});
