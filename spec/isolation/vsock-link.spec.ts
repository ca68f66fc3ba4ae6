/** The link to a socket in a jail. */
import {
  existsSync,
  mkdtempSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { checkConfig } from "../../src/actors/config.js";
import { linkVsock, removeVsockLink } from "../../src/isolation/vsock-link.js";

function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), "estalo-link-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

const configOf = (udsPath?: string) =>
  checkConfig({
    id: "one",
    kernel: "k",
    ...(udsPath === undefined ? {} : { vsock: { udsPath } }),
  });

describe("linkVsock", () => {
  it("leads to the jail's socket until it is removed", () => {
    const path = join(scratch(), "v");
    const remove = linkVsock(configOf(path), "/jail/root");
    expect(readlinkSync(path)).toBe("/jail/root/run/one.vsock");
    remove();
    remove();
    expect(() => readlinkSync(path)).toThrow("ENOENT");
    linkVsock(configOf(), "/jail/root")();
  });

  it("takes no path that somebody has, and removes no link but its own", () => {
    const folder = scratch();
    const path = join(folder, "v");
    writeFileSync(path, "");
    expect(() => linkVsock(configOf(path), "/jail/root")).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_VSOCK_SOCKET" }),
    );
    removeVsockLink(path, folder);
    expect(existsSync(path)).toBe(true);
    const other = join(folder, "other");
    symlinkSync("/elsewhere", other);
    removeVsockLink(other, "/jail");
    expect(readlinkSync(other)).toBe("/elsewhere");
    removeVsockLink(other, "/elsewhere");
    expect(() => readlinkSync(other)).toThrow("ENOENT");
  });

  it("is found again below a folder that has another name as well", () => {
    const [folder, names] = [realpathSync(scratch()), scratch()];
    const path = join(names, "v");
    const known = join(names, "state");
    symlinkSync(folder, known);
    // A jail's own name is the real one (makePlan).
    linkVsock(configOf(path), join(folder, "cell/one/root"));
    removeVsockLink(path, known);
    expect(() => readlinkSync(path)).toThrow("ENOENT");
  });
});
