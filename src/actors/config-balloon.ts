/**
 * The memory balloon in a microVM's configuration, and its checks.
 */
import { EstaloError } from "../errors.js";
import { boolean, integer, invalid, onlyFields } from "./config-checks.js";

/** One memory balloon. */
export interface BalloonConfig {
  /** Memory that the guest is to give from its start, in MiB, at most its own. Default 0. */
  readonly amountMib?: number;
  /** The guest takes pages back before it kills a process for want of memory. Default false. */
  readonly deflateOnOom?: boolean;
  /** How often the guest is asked for statistics, in seconds, 0 to 65,535; 0: never. Default 0. */
  readonly statsIntervalS?: number;
  /** The guest can be asked for its free pages. Default false. */
  readonly freePageHinting?: boolean;
  /** The guest gives its free pages by itself. Default false. */
  readonly freePageReporting?: boolean;
}

/** A balloon with nothing left open. */
export type CheckedBalloon = Required<BalloonConfig>;

const INTERVAL_MAX_S = 65_535;

/** The balloon with its defaults, or ERR_ESTALO_CONFIG_INVALID naming the field. */
export function checkBalloon(balloon: BalloonConfig, memoryMib: number): CheckedBalloon {
  onlyFields("balloon", balloon, [
    "amountMib",
    "deflateOnOom",
    "statsIntervalS",
    "freePageHinting",
    "freePageReporting",
  ]);
  return {
    amountMib: checkBalloonAmount(balloon.amountMib ?? 0, memoryMib),
    deflateOnOom: boolean("balloon.deflateOnOom", balloon.deflateOnOom ?? false),
    statsIntervalS: checkStatsInterval(balloon.statsIntervalS ?? 0),
    freePageHinting: boolean("balloon.freePageHinting", balloon.freePageHinting ?? false),
    freePageReporting: boolean("balloon.freePageReporting", balloon.freePageReporting ?? false),
  };
}

/** A balloon's size in MiB, at most the guest's memory. */
export function checkBalloonAmount(amountMib: number, memoryMib: number): number {
  return integer("balloon.amountMib", amountMib, 0, memoryMib);
}

/** Seconds between two statistics; 0: none. */
export function checkStatsInterval(seconds: number): number {
  return integer("balloon.statsIntervalS", seconds, 0, INTERVAL_MAX_S);
}

/** A change of that interval: it cannot begin or end what the driver was offered, or not, at its start. */
export function checkStatsChange(from: number, to: number): number {
  const seconds = checkStatsInterval(to);
  if ((from === 0) === (seconds === 0)) return seconds;
  const expected = from === 0 ? "0: there are no statistics" : "1 or more: there are statistics";
  throw invalid("balloon.statsIntervalS", expected, to);
}

/** What a microVM without one answers. */
export function noBalloon(): EstaloError {
  return new EstaloError("ERR_ESTALO_STATE", "this microVM has no balloon", {
    hint: "give it one: balloon: {}",
  });
}
