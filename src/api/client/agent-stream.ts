/**
 * A connection with the agent in a microVM's guest, through the server: bytes both ways, as a console's.
 */
import { GuestAgent } from "../../actors/agent/guest-agent.js";
import { ConsoleStream } from "./console-stream.js";
import type { ServerAddress } from "./server-address.js";

class AgentStream extends ConsoleStream {
  protected override get query(): Record<string, boolean> {
    return {};
  }
}

/** The agent of one microVM's guest; `parent` ends what is under way. */
export function agentOf(
  address: ServerAddress,
  path: string,
  timeoutMs: number,
  parent: AbortSignal,
): GuestAgent {
  return new GuestAgent(async (signal) => {
    const options = signal === undefined ? {} : { signal };
    return new AgentStream(address, path, timeoutMs, options, parent);
  });
}
