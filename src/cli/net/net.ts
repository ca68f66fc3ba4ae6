/**
 * `estalo net`: the words, checked, and what is said of what was done.
 */
import { type ParsedArguments, usageError } from "../arguments.js";
import { type Column, tableText } from "../fleet/table.js";
import { NET_ACTIONS, type NetAction } from "./net-verb.js";
import { downNetwork, listNetworks, type Network, upNetwork } from "./networks.js";
import { parseSubnet, subnetText } from "./subnet.js";
import { addTap, NETWORK_NAME_MAX, type NetworkTap, removeTap } from "./taps.js";

const DEFAULT_NAME = "estalo0";
const DEFAULT_SUBNET = "172.30.0.1/24";
const INTERFACE_NAME_MAX = 15;
/** Options that only some actions have. */
const OWN_OPTIONS: Readonly<Record<string, readonly NetAction[]>> = {
  name: ["up", "tap", "down"],
  subnet: ["up"],
  nat: ["up"],
  owner: ["tap"],
  "multi-queue": ["tap"],
  force: ["down", "rm"],
};
const USAGE = "estalo net up|tap|rm|down|ls, see estalo help net";

/** Does what the words ask for; raises ERR_ESTALO_USAGE and ERR_ESTALO_NETWORK. */
export function net(parsed: ParsedArguments): number {
  const [action, tap, ...more] = parsed.operands;
  if (!isAction(action) || more.length > 0) {
    throw usageError(`net does not know ${parsed.operands.join(" ") || "what to do"}`, USAGE);
  }
  const takesTap = action === "tap" || action === "rm";
  if (tap !== undefined && !takesTap) throw usageError(`net ${action} takes no ${tap}`, USAGE);
  const said = [...parsed.switches, ...parsed.values.keys()];
  const odd = said.find((one) => OWN_OPTIONS[one]?.includes(action) === false);
  if (odd !== undefined) throw usageError(`--${odd} is not for net ${action}`, USAGE);
  if (tap !== undefined) checkName("a tap", tap, INTERFACE_NAME_MAX);
  const print = (record: object, text: string) =>
    process.stdout.write(parsed.switches.has("json") ? `${JSON.stringify(record)}\n` : text);
  const actions: Readonly<Record<NetAction, () => void>> = {
    up: () => up(parsed, print),
    tap: () => makeTap(parsed, tap, print),
    rm: () => removeOne(parsed, tap, print),
    down: () => {
      const name = networkName(parsed);
      const isGone = downNetwork(name, parsed.switches.has("force"));
      print({ name, removed: isGone }, isGone ? `${name} is gone\n` : `there is no ${name}\n`);
    },
    ls: () => {
      const networks = listNetworks();
      print(networks, listText(networks));
    },
  };
  actions[action]();
  return 0;
}

type Print = (record: object, text: string) => void;

function isAction(word: string | undefined): word is NetAction {
  return NET_ACTIONS.some((action) => action === word);
}

function networkName({ values }: ParsedArguments): string {
  const name = values.get("name")?.[0] ?? DEFAULT_NAME;
  checkName("a network", name, NETWORK_NAME_MAX);
  return name;
}

function checkName(what: string, name: string, most: number): void {
  const isName = /^[A-Za-z][A-Za-z0-9_.]*$/.test(name) && name.length <= most;
  if (isName) return;
  throw usageError(
    `the name of ${what} is a letter and up to ${most - 1} letters, digits, underscores and dots, not ${name}`,
    USAGE,
  );
}

function up(parsed: ParsedArguments, print: Print): void {
  const name = networkName(parsed);
  const text = parsed.values.get("subnet")?.[0] ?? DEFAULT_SUBNET;
  const subnet = parseSubnet(text);
  if (subnet === undefined) {
    throw usageError(
      `--subnet is the host's IPv4 address in a network of 16 to 30 bits, not ${text}`,
      `--subnet ${DEFAULT_SUBNET}`,
    );
  }
  const nat = parsed.switches.has("nat");
  const { isNew } = upNetwork({ name, subnet, nat });
  const is = `${name} is ${isNew ? "up" : "there"}: ${subnetText(subnet)}${nat ? ", NAT" : ""}\n`;
  print({ name, subnet: subnetText(subnet), nat, created: isNew }, is);
}

function makeTap(parsed: ParsedArguments, name: string | undefined, print: Print): void {
  const owner = parsed.values.get("owner")?.[0];
  const made = addTap({
    network: networkName(parsed),
    ...(name === undefined ? {} : { name }),
    ...(owner === undefined ? {} : { owner }),
    hasSeveralQueues: parsed.switches.has("multi-queue"),
  });
  print(made, `${netWords(made)}\n`);
}

/** What `estalo run --net` takes. */
function netWords({ name, address, gateway }: NetworkTap): string {
  return address === undefined ? `tap=${name}` : `tap=${name},ip=${address},gateway=${gateway}`;
}

function removeOne(parsed: ParsedArguments, name: string | undefined, print: Print): void {
  if (name === undefined) throw usageError("net rm takes the name of a tap", USAGE);
  const isGone = removeTap(name, parsed.switches.has("force"));
  print({ name, removed: isGone }, isGone ? `${name} is gone\n` : `there is no ${name}\n`);
}

interface Row {
  readonly network: string;
  readonly address: string;
  readonly tap: string;
  readonly state: string;
}

const COLUMNS: readonly Column<Row>[] = [
  { title: "NETWORK", cell: ({ network }) => network },
  { title: "TAP", cell: ({ tap }) => tap },
  { title: "ADDRESS", cell: ({ address }) => address },
  { title: "STATE", cell: ({ state }) => state },
];

function listText(networks: readonly Network[]): string {
  const rows = networks.flatMap(({ name, subnet = "", nat, taps }): Row[] => [
    { network: name, tap: "", address: subnet, state: nat ? "NAT" : "" },
    ...taps.map((tap) => ({
      network: name,
      tap: tap.name,
      address: tap.address ?? "",
      state: tap.isUsed ? "in use" : "free",
    })),
  ]);
  return tableText(COLUMNS, rows);
}
