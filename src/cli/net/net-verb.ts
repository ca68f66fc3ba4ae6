/** `estalo net` as table. */
import { HELP, type VerbSpec } from "../verb-spec.js";

export const NET_ACTIONS = ["up", "tap", "rm", "down", "ls"] as const;
export type NetAction = (typeof NET_ACTIONS)[number];

export const NET_VERB: VerbSpec = {
  name: "net",
  summary: "Set up a network for microVMs on this host, and take it down.",
  operands: "up|tap|rm|down|ls [TAP]",
  options: [
    { name: "name", value: "NAME", help: "The network, a bridge of this name. Default estalo0." },
    {
      name: "subnet",
      value: "ADDRESS/BITS",
      help: "up: the bridge's address, its guests' gateway. Default 172.30.0.1/24.",
    },
    { name: "nat", help: "up: let guests reach what the host reaches, under its address." },
    {
      name: "owner",
      value: "USER",
      help: "tap: who may open it. Default: whoever may administrate.",
    },
    { name: "multi-queue", help: "tap: for --net queues=." },
    { name: "force", help: "down, rm: although a microVM has the tap." },
    { name: "json", help: "Write JSON to standard output, for programs." },
    HELP,
  ],
  details: `up makes a bridge; tap a tap on it (TAP: its name), for a user without rights, and prints what --net takes;
rm removes a tap, down the network with its taps; ls lists what there is. All but ls need root. What is there
already is left as it is, and nothing that was not made here is changed. See docs/networking.md.`,
  examples: [
    ["sudo estalo net up --nat", "a network with a way out"],
    ["sudo estalo run --net bridge=estalo0 -- wget -O - example.org", "a guest in it"],
    ['estalo run --net "$(sudo estalo net tap --owner $USER)"', "with a tap of one's own"],
    ["sudo estalo net down", "as it was before"],
  ],
};
