/** Commands of the package as a user without rights, wherever the package is. Needs root. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
export const NOBODY = 65_534;

/** Another user than the spec's. */
export interface OtherUser {
  readonly id: number;
  /** Starts the program that follows it as that user. */
  readonly command: readonly string[];
  /** bin/estalo.js, where that user sees it. */
  readonly script: string;
}

/** A user without rights that may use /dev/kvm and sees the package, wherever it is. */
export function nobody(): OtherUser {
  const base = mkdtempSync(join(tmpdir(), "estalo-nobody-"));
  onTestFinished(() => rmSync(base, { recursive: true }));
  const [home, devices] = [join(base, "package"), join(base, "devices")];
  for (const path of [home, devices]) mkdirSync(path);
  const script = `set -e
    chmod 755 "$1"
    mount --bind "$2" "$1/package"
    mount -t tmpfs none "$1/devices"
    mknod -m 666 "$1/devices/kvm" c 10 232
    mount --bind "$1/devices/kvm" /dev/kvm
    shift 2
    exec setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups --inh-caps=-all -- "$@"`;
  return {
    id: NOBODY,
    command: ["unshare", "--mount", "sh", "-c", script, "sh", base, PACKAGE],
    script: join(home, "bin/estalo.js"),
  };
}
