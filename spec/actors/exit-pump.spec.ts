/** The one timer of all exit streams, with nobody else's watchers in the process. */
import { expect, it, onTestFinished, vi } from "vitest";
import { PlayedVcpus } from "../support/played-exits.js";

it("polls once a turn for who begins anew at each batch of a busy guest, and stays one", () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const vcpus = new PlayedVcpus();
  let batches = 0;
  const begin = () => {
    const subscription = vcpus.stream.batches().subscribe(() => {
      subscription.unsubscribe();
      batches += 1;
      if (batches < 100) begin();
      vcpus.exit(0);
    });
  };
  begin();
  vcpus.exit(0);
  for (let turn = 1; turn < 10; turn++) {
    vi.advanceTimersToNextTimer();
    expect([batches, vi.getTimerCount()]).toEqual([turn, 1]);
  }
  vcpus.stream.close();
  expect(vi.getTimerCount()).toBe(0);
});
