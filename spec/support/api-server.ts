/**
 * A server of our own for a spec: listening on a Unix socket in a folder that goes with the spec.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiServer } from "../../src/api/server.js";
import type { ServerOptions } from "../../src/api/server-options.js";

/** Servers of one spec file. */
export class SpecServers {
  readonly folder = mkdtempSync(join(tmpdir(), "estalo-server-"));
  readonly #open = new Set<ApiServer>();
  #count = 0;

  /** A path that nobody has. */
  path(): string {
    return join(this.folder, `s${this.#count++}`);
  }

  async listen(options: Partial<ServerOptions> = {}) {
    const { address = { path: this.path() } } = options;
    const server = await ApiServer.listen({
      address,
      handler: ({ path }) => ({ status: 200, body: JSON.stringify({ path }) }),
      ...options,
    });
    this.#open.add(server);
    return { server, path: "path" in address ? address.path : "" };
  }

  async closeAll(): Promise<void> {
    for (const server of this.#open) await server.close({ timeoutMs: 100 });
    this.#open.clear();
  }

  drop(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Resolves when `isSo`; the spec's own time limit ends it otherwise. */
export async function eventually(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5));
}
