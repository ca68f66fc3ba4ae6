import { describe, expect, it, onTestFinished, vi } from "vitest";
import { type Middleware, MiddlewareChain } from "../../src/actors/middleware.js";

function created(heldMax = 4) {
  const reports: string[] = [];
  const uses: boolean[] = [];
  const chain = new MiddlewareChain<{ value: number }>("things", heldMax, (where, error) =>
    reports.push(`${where}: ${error.message.split("\n")[0]}`),
  );
  chain.onUse = (isUsed) => uses.push(isUsed);
  return { chain, reports, uses };
}

const add =
  (amount: number): Middleware<{ value: number }> =>
  (item, next) => {
    item.value += amount;
    return next();
  };

describe("MiddlewareChain", () => {
  it("asks functions in order, and says what became of an item", async () => {
    const { chain, uses } = created();
    const log: number[] = [];
    const removeFirst = chain.use(add(1));
    const removeSecond = chain.use(async (item, next) => {
      item.value *= 10;
      await next();
      log.push(item.value);
    });
    const item = { value: 1 };
    expect(await chain.send(item, ({ value }) => void log.push(-value))).toBe("passed");
    expect(log).toEqual([-20, 20]);
    removeFirst();
    removeFirst();
    chain.use(() => {});
    expect(await chain.send({ value: 1 }, () => void log.push(0))).toBe("kept");
    expect(log).toEqual([-20, 20, 10]);
    removeSecond();
    expect(uses).toEqual([true]);
    expect(chain.metrics).toEqual({ seen: 2, passed: 1, kept: 1, failed: 0, refused: 0 });
  });

  it("is done at once with functions that do not wait", () => {
    const { chain } = created();
    chain.use(add(1));
    let got = 0;
    void chain.send({ value: 1 }, ({ value }) => {
      got = value;
    });
    expect(got).toBe(2);
  });

  it("reports what throws, rejects or calls next twice, once a second at most", async () => {
    const { chain, reports } = created();
    const fates: string[] = [];
    const failing: Middleware<{ value: number }>[] = [
      () => {
        throw new Error("first");
      },
      async () => Promise.reject(new Error("second")),
      async (_item, next) => {
        await next();
        await next();
      },
    ];
    for (const run of failing) {
      const remove = chain.use(run);
      fates.push(await chain.send({ value: 0 }, () => {}));
      remove();
    }
    expect(fates).toEqual(["failed", "failed", "failed"]);
    expect(reports).toEqual(["things middleware: Error: first"]);
    expect(chain.metrics.failed).toBe(3);
  });

  it("is done when those behind a function are that does not wait for them, also when they fail", async () => {
    const unhandled = vi.fn();
    process.on("unhandledRejection", unhandled);
    onTestFinished(() => void process.off("unhandledRejection", unhandled));
    const { chain, reports } = created();
    chain.use((_item, next) => {
      void next();
      void next();
    });
    chain.use(async (_item, next) => {
      await new Promise((resolve) => setImmediate(resolve));
      await next();
    });
    const log: number[] = [];
    expect(await chain.send({ value: 1 }, ({ value }) => void log.push(value))).toBe("passed");
    expect(log).toEqual([1]);
    const failed = chain.send({ value: 2 }, () => Promise.reject(new Error("no room")));
    expect(await failed).toBe("passed");
    await new Promise((resolve) => setImmediate(resolve));
    expect(unhandled).not.toHaveBeenCalled();
    expect(reports).toEqual(["things middleware: things: next() twice"]);
  });

  it("fails an item whose function throws behind one that does not wait for it", async () => {
    const { chain, reports } = created();
    chain.use((_item, next) => void next());
    const remove = chain.use(async (_item, next) => {
      await next();
      throw new Error("the second's");
    });
    expect(await chain.send({ value: 1 }, () => {})).toBe("failed");
    remove();
    chain.use(() => {
      throw new Error("the third's");
    });
    expect(await chain.send({ value: 1 }, () => {})).toBe("failed");
    expect(reports).toEqual(["things middleware: Error: the second's"]);
  });

  it("leaves it to who waits for next what becomes of a failure behind it", async () => {
    const { chain, reports } = created();
    const waiting: Middleware<{ value: number }>[] = [
      async (_item, next) => {
        try {
          await next();
        } catch {}
      },
      (_item, next) => next().catch(() => {}),
    ];
    for (const run of waiting) {
      const removeFirst = chain.use(run);
      const removeSecond = chain.use(() => {
        throw new Error("the second's");
      });
      expect(await chain.send({ value: 1 }, () => {})).toBe("kept");
      removeFirst();
      removeSecond();
    }
    expect(reports).toEqual([]);
  });

  it("holds so many at once and refuses others", async () => {
    const { chain } = created(2);
    let go: () => void = () => {};
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    chain.use(async (_item, next) => {
      await gate;
      await next();
    });
    const all = [1, 2, 3].map((value) => chain.send({ value }, () => {}));
    go();
    expect(await Promise.all(all)).toEqual(["passed", "passed", "refused"]);
    expect(await chain.send({ value: 4 }, () => {})).toBe("passed");
  });

  it("takes functions only", () => {
    expect(() => created().chain.use(5 as never)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
  });
});
