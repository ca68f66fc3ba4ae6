/** What a command does when its microVM has started and it only waits for the end. */
import { native } from "../native/binding.js";

/** As long as vCPU threads take to calm down, and then some, ms. */
const CALM_AFTER_MS = 4000;

/**
 * Gives back what starting took of this thread's memory, once, in a few seconds: 3 MiB for a pause of the
 * devices of 15 ms. For a process that has one microVM and nothing else to do; a server never gets calm, and a
 * program with the library has its own plans for its main thread.
 *
 * @returns drops the plan
 */
export function trimWhenCalm(): () => void {
  const timer = setTimeout(() => native().trimMemory(), CALM_AFTER_MS).unref();
  return () => clearTimeout(timer);
}
