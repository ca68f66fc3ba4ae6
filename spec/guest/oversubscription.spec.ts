/**
 * More guest memory than there is: four microVMs of 8 GiB each that use a part of it one after the other and
 * give it back. ESTALO_SPEC_USED_MIB says how large that part is.
 */
import { totalmem } from "node:os";
import { MicroVm } from "estalo";
import { afterAll, describe, expect, it } from "vitest";
import { bareGuest } from "../support/bare-guest.js";
import { expectEnd, GUEST_PATIENCE_MS } from "../support/guest-report.js";
import { heldMib } from "../support/held-memory.js";
import { Scratch } from "../support/tiny-guest.js";

const scratch = new Scratch();
const vms: MicroVm[] = [];
afterAll(async () => {
  await Promise.all(vms.map((vm) => vm.kill()));
  scratch[Symbol.dispose]();
});

const COUNT = 4;
const MEMORY_MIB = 8192;
const usedMib = Number(process.env.ESTALO_SPEC_USED_MIB ?? 64);

/** A guest that says one word after the other, each when it is asked. */
class AskedGuest {
  readonly #vm: MicroVm;
  #said = "";
  #news = () => {};

  constructor(vm: MicroVm) {
    this.#vm = vm;
    vm.console.read((bytes) => {
      this.#said += Buffer.from(bytes).toString("latin1");
      this.#news();
    }, true);
  }

  async says(word: string): Promise<void> {
    const deadline = AbortSignal.timeout(GUEST_PATIENCE_MS);
    while (!this.#said.includes(`${word}\n`)) {
      if (deadline.aborted) throw new Error(`no "${word}", but: ${this.#said}`);
      await new Promise<void>((resolve) => {
        this.#news = resolve;
        deadline.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  }

  async ask(word: string): Promise<void> {
    await this.#vm.console.send(Buffer.from("x"));
    await this.says(word);
  }
}

describe("four microVMs of 8 GiB", () => {
  it("hold what they use, and give it back to each other", async () => {
    const kernel = bareGuest(scratch, "free-pages", "virtio.c");
    for (let index = 0; index < COUNT; index++) {
      const config = { kernel, bootArgs: `n=${usedMib}`, memoryMib: MEMORY_MIB };
      const vm = await MicroVm.create({ ...config, balloon: { freePageReporting: true } });
      vms.push(vm);
    }
    const guests = vms.map((vm) => new AskedGuest(vm));
    for (const [index, vm] of vms.entries()) {
      await vm.start();
      await guests[index].says("ready");
    }
    const idleMib = heldMib();
    let mostMib = 0;
    for (const guest of guests) {
      await guest.ask("used");
      const inUseMib = heldMib();
      expect(inUseMib - idleMib).toBeGreaterThanOrEqual(usedMib);
      mostMib = Math.max(mostMib, inUseMib);
      await guest.ask("given");
      expect(heldMib() - idleMib).toBeLessThan(usedMib / 16);
    }
    // Never more than one of them has in use.
    expect(mostMib - idleMib).toBeLessThan(usedMib * 1.25);
    for (const vm of vms) {
      const { free_page_report_freed, free_page_report_fails } = vm.metrics.balloon ?? {};
      expect([free_page_report_freed, free_page_report_fails]).toEqual([usedMib * 2 ** 20, 0]);
    }
    console.log(
      `${COUNT} x ${MEMORY_MIB} MiB on a host of ${Math.round(totalmem() / 2 ** 20)}: idle ${idleMib.toFixed(1)} MiB, ` +
        `each used ${usedMib}, most at once ${mostMib.toFixed(1)}, in the end ${heldMib().toFixed(1)}`,
    );
    for (const [index, vm] of vms.entries()) {
      await guests[index].ask("PASS");
      await expectEnd(vm, { reason: "poweroff" });
    }
  });
});
