/**
 * Which microVM is in which cell: each in one of its own, or those of a tenant together; a spare one is kept ready,
 * so that no microVM waits for a process to start.
 *
 * A cell that has no microVM any more is ended, never used again: what a guest may have left in it goes with it.
 */
import type { CheckedConfig } from "../actors/config.js";
import type { FleetRecord } from "../actors/fleet-messages.js";
import { EstaloError } from "../errors.js";
import { CellLink, type CellProcess } from "./cell-link.js";
import { RemoteMicrovm } from "./remote-microvm.js";
import { linkVsock } from "./vsock-link.js";

/** Users and groups of cells: each number is one cell's at a time. */
export interface IdRange {
  readonly first: number;
  readonly last: number;
}

/** How microVMs are isolated. */
export interface CellsOptions {
  /** Value of this label that microVMs share a cell by; without it, and without the label, none is shared. */
  readonly tenantLabel: string | undefined;
  readonly ids: IdRange;
  /** Starts a cell for this user; `id` was never used before. */
  readonly start: (id: string, user: number) => CellProcess;
  /** Told of what has gone wrong with a cell. */
  readonly onLost: (error: EstaloError) => void;
}

interface Cell {
  readonly link: CellLink;
  readonly user: number;
  readonly tenant: string | undefined;
  /** MicroVMs in it, those being made too. */
  count: number;
}

/** See the file's header. */
export class Cells {
  readonly #options: CellsOptions;
  readonly #prefix = Date.now().toString(36);
  readonly #users = new Set<number>();
  readonly #tenants = new Map<string, Cell>();
  readonly #ending = new Set<Promise<void>>();
  readonly #living = new Set<CellLink>();
  #spare: { link: CellLink; user: number } | undefined;
  #lastCell = 0;
  #lastVm = 0;
  #isClosed = false;

  constructor(options: CellsOptions) {
    this.#options = options;
  }

  /** Cells that there are, the spare one too. */
  get size(): number {
    return this.#living.size;
  }

  /** Starts the spare cell; rejects when there can be none. */
  async open(): Promise<void> {
    this.#spare ??= this.#start();
    await this.#spare.link.ready;
  }

  /** Makes a microVM in the cell where it belongs. */
  async make(config: CheckedConfig, { labels }: FleetRecord): Promise<RemoteMicrovm> {
    const { tenantLabel } = this.#options;
    const tenant = tenantLabel === undefined ? undefined : labels[tenantLabel];
    const cell = this.#take(tenant);
    cell.count += 1;
    let microvm: RemoteMicrovm;
    try {
      await cell.link.ready;
      this.#lastVm += 1;
      microvm = await RemoteMicrovm.create(cell.link, this.#lastVm, config);
    } catch (error) {
      this.#leave(cell);
      throw error;
    }
    let unlink = () => {};
    void microvm.exited.then(() => {
      unlink();
      this.#leave(cell);
    });
    try {
      unlink = linkVsock(config, cell.link.process.root);
    } catch (error) {
      await microvm.kill();
      throw error;
    }
    return microvm;
  }

  /** Ends all cells; fulfilled when nothing of them is left. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#spare = undefined;
    await Promise.all([...this.#living].map((link) => link.close()));
    await Promise.all(this.#ending);
  }

  #take(tenant: string | undefined): Cell {
    const known = tenant === undefined ? undefined : this.#tenants.get(tenant);
    if (known !== undefined && known.link.lost === undefined) return known;
    const { link, user } = this.#takeSpare();
    const cell = { link, user, tenant, count: 0 };
    if (tenant !== undefined) this.#tenants.set(tenant, cell);
    return cell;
  }

  #takeSpare(): { link: CellLink; user: number } {
    const spare = this.#spare;
    this.#spare = undefined;
    const taken = spare !== undefined && spare.link.lost === undefined ? spare : this.#start();
    // Not before this one has what it needs: the processor is the guest's now.
    setTimeout(() => this.#prepare(), SPARE_DELAY_MS).unref();
    return taken;
  }

  #prepare(): void {
    if (this.#isClosed || this.#spare !== undefined) return;
    try {
      this.#spare = this.#start();
    } catch {
      // Who needs one hears why there is none.
    }
  }

  #start(): { link: CellLink; user: number } {
    const user = this.#takeUser();
    this.#lastCell += 1;
    let link: CellLink;
    try {
      link = new CellLink(this.#options.start(`${this.#prefix}-${this.#lastCell}`, user));
    } catch (error) {
      this.#users.delete(user);
      throw error;
    }
    this.#living.add(link);
    const ended = link.gone.then(() => {
      this.#users.delete(user);
      this.#living.delete(link);
      this.#ending.delete(ended);
      if (this.#spare?.link === link) this.#spare = undefined;
      if (link.failure !== undefined) this.#options.onLost(link.failure);
    });
    this.#ending.add(ended);
    return { link, user };
  }

  #takeUser(): number {
    const { first, last } = this.#options.ids;
    // Without root there is one user only, and every cell is its.
    if (first === last) return first;
    for (let user = first; user <= last; user++) {
      if (this.#users.has(user)) continue;
      this.#users.add(user);
      return user;
    }
    throw new EstaloError(
      "ERR_ESTALO_ISOLATION",
      `all users from ${first} to ${last} have a cell`,
      {
        data: { first, last },
        hint: "give a wider range with --isolate-ids",
      },
    );
  }

  #leave(cell: Cell): void {
    cell.count -= 1;
    if (cell.count > 0) return;
    if (cell.tenant !== undefined && this.#tenants.get(cell.tenant) === cell) {
      this.#tenants.delete(cell.tenant);
    }
    void cell.link.close();
  }
}

/** A spare cell is started so long after the last one was taken, ms. */
const SPARE_DELAY_MS = 250;
