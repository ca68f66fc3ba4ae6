/**
 * How door 1 speaks to the log, and a log that nobody reads.
 */

/** Levels that write; the one below is shown with all above it. */
export type LogLevel = "Error" | "Warn" | "Info" | "Debug" | "Trace";

/** Takes lines. `site` names where in the program the line comes from, as `api::request`. */
export interface FirecrackerLog {
  write(level: LogLevel, site: string, text: string): void;
}

export const SILENT_LOG: FirecrackerLog = { write() {} };
