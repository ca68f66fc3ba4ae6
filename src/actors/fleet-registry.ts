/**
 * The microVMs of a fleet by id and name, and lists of them.
 *
 * Invariant: a name or id means one microVM at most, since no name is another one's id.
 */
import { randomBytes } from "node:crypto";
import { EstaloError } from "../errors.js";
import type { FleetMember } from "./fleet-member.js";
import type { FleetPage, FleetRecord, FleetState } from "./fleet-messages.js";
import { type CheckedQuery, cursorOf, FLEET_STATES } from "./fleet-spec.js";

/** See the file's header. */
export class FleetRegistry implements Iterable<FleetMember> {
  /** By id, oldest first. */
  readonly #members = new Map<string, FleetMember>();
  /** Ids by name. */
  readonly #ids = new Map<string, string>();

  [Symbol.iterator](): Iterator<FleetMember> {
    return this.#members.values();
  }

  /** By its id only. */
  get(id: string): FleetMember | undefined {
    return this.#members.get(id);
  }

  /** By id or name. @throws ERR_ESTALO_NOT_FOUND */
  find(idOrName: string): FleetMember {
    const member = this.#members.get(idOrName) ?? this.#members.get(this.#ids.get(idOrName) ?? "");
    if (member !== undefined) return member;
    throw new EstaloError("ERR_ESTALO_NOT_FOUND", `there is no microVM ${idOrName}`, {
      data: { microvm: idOrName },
    });
  }

  /** Adds the newest one; its id and name are free. */
  add(member: FleetMember): void {
    this.#members.set(member.record.id, member);
    this.#ids.set(member.record.name, member.record.id);
  }

  delete({ record }: FleetMember): void {
    this.#members.delete(record.id);
    this.#ids.delete(record.name);
  }

  rename(id: string, from: string, to: string): void {
    this.#ids.delete(from);
    this.#ids.set(to, id);
  }

  /**
   * Raises ERR_ESTALO_NAME_TAKEN when a microVM has this id or name.
   *
   * @param ownId - whose new name it is: it may keep its name, or be called by its own id
   */
  requireFree(idOrName: string, ownId?: string): void {
    const taken = this.#members.has(idOrName) ? idOrName : this.#ids.get(idOrName);
    if (taken === undefined || taken === ownId) return;
    throw new EstaloError("ERR_ESTALO_NAME_TAKEN", `microVM ${taken} has the name ${idOrName}`, {
      data: { name: idOrName, id: taken },
      hint: "remove it first, or choose another name",
    });
  }

  /** An id that nobody has: 12 hexadecimal digits. */
  newId(): string {
    for (;;) {
      const id = randomBytes(6).toString("hex");
      if (!this.#members.has(id) && !this.#ids.has(id)) return id;
    }
  }

  list({ states, name, labels, limit, after }: CheckedQuery): FleetPage {
    const items: FleetRecord[] = [];
    let last = after;
    for (const { ordinal, record } of this.#members.values()) {
      if (ordinal <= after) continue;
      if (states !== undefined && !states.has(record.state)) continue;
      if (name !== undefined && record.name !== name) continue;
      if (!labels.every(([key, value]) => hasLabel(record, key, value))) continue;
      if (items.length === limit) return { items, next: cursorOf(last) };
      items.push(record);
      last = ordinal;
    }
    return { items, next: undefined };
  }

  counts(): Record<FleetState, number> {
    const counts = Object.fromEntries(FLEET_STATES.map((state) => [state, 0]));
    for (const { record } of this.#members.values()) counts[record.state] += 1;
    return counts as Record<FleetState, number>;
  }
}

function hasLabel({ labels }: FleetRecord, key: string, value: string): boolean {
  return Object.hasOwn(labels, key) && labels[key] === value;
}
