/**
 * `estalo create` and `estalo run -d`: from the options of `run` to what the server is asked for.
 *
 * Files are the server's: on its own host relative names are made whole here, to another host they go as they
 * are. The default guest is the server's, too; of its kernel arguments it is asked when a command or anything
 * else is to be added to them.
 */
import { resolve } from "node:path";
import type { MicroVmConfig } from "../../actors/config.js";
import type { EstaloClient } from "../../api/client/client.js";
import type { MicrovmSpec, RestartPolicy } from "../../api/client/types.js";
import { EstaloError } from "../../errors.js";
import { type ParsedArguments, usageError } from "../arguments.js";
import { type RunOptions, runOptions } from "../run-options.js";
import { planWithGuest, planWithKernel, usesDefaultSystem } from "../run-plan.js";
import { type FleetCall, writeJson } from "./call.js";

/** What only makes sense to who stays. */
const ATTACHED_OPTIONS = ["console", "jail", "timeout", "timings"];

/** `estalo create`. */
export async function create(call: FleetCall): Promise<number> {
  return make(call, false);
}

/** `estalo run -d`. */
export async function runDetached(call: FleetCall): Promise<number> {
  const { switches, values } = call.parsed;
  const odd = ATTACHED_OPTIONS.find((name) => switches.has(name) || values.has(name));
  if (odd !== undefined) {
    throw usageError(
      `--${odd} does not go with --detach`,
      "estalo console, logs and wait are for a microVM of the server",
    );
  }
  return make(call, true);
}

async function make({ client, parsed, isJson }: FleetCall, start: boolean): Promise<number> {
  const options = runOptions(parsed);
  if (options.nets.some(({ bridge }) => bridge !== undefined)) {
    throw usageError(
      "--net bridge= is for a microVM that lives in the command, not on a server",
      "on the server's host: estalo net tap, and --net tap=NAME",
    );
  }
  const record: MicrovmSpec = {
    ...(options.name === undefined ? {} : { name: options.name }),
    labels: labelsOf(parsed),
    restart: restartOf(parsed.values.get("restart")?.[0]),
    autoRemove: parsed.switches.has("rm"),
    start,
  };
  const config = await configOf(client, options);
  const microvm = await client.microvms.create({ ...record, config });
  if (isJson) writeJson(microvm);
  else process.stdout.write(`${microvm.id}\n`);
  return 0;
}

/** What these options describe, for a server: its files and its guest. */
export async function configOf(client: EstaloClient, options: RunOptions): Promise<MicroVmConfig> {
  const whole = client.isLocal ? resolve : (path: string) => path;
  if (options.configFile !== undefined) {
    // Its paths are relative to where we are, too.
    const { readFirecrackerConfig } = await import("../../api/firecracker/config-file.js");
    return withWholePaths(await readFirecrackerConfig(options.configFile), whole);
  }
  const { id: _name, ...config } =
    options.kernel === undefined
      ? await configWithGuest(client, options)
      : planWithKernel(options, options.kernel).config;
  return withWholePaths(config, whole);
}

async function configWithGuest(client: EstaloClient, options: RunOptions): Promise<MicroVmConfig> {
  // Its kernel and root are left to the server; only what they are told is planned here.
  const { guest } = await client.info();
  if (guest === undefined) {
    throw new EstaloError(
      "ERR_ESTALO_DEFAULT_GUEST",
      `${client.host} does not have the guest that comes with Estalo`,
      { hint: "npm run guest:build makes it on the server's host; --kernel takes your own" },
    );
  }
  const planned = { ...guest, kernel: "", rootfs: "" };
  const host = { isTerminal: false, rows: 0, columns: 0, term: undefined };
  const { config } = planWithGuest({ ...options, console: true }, host, planned);
  const { kernel: _kernel, drives = [], ...rest } = config;
  // With a socket device its guest's agent hears estalo exec and cp.
  const vsock = usesDefaultSystem(options) ? { vsock: {} } : {};
  return { ...rest, ...vsock, drives: usesDefaultSystem(options) ? drives.slice(1) : drives };
}

/** The configuration with every file's name made whole, that of the vsock device's socket too. */
function withWholePaths(config: MicroVmConfig, whole: (path: string) => string): MicroVmConfig {
  const { kernel, initrd, cpuTemplate, drives, pmem, vsock } = config;
  const withPath = <T extends { readonly path: string }>(one: T): T => ({
    ...one,
    path: whole(one.path),
  });
  return {
    ...config,
    ...(kernel === undefined ? {} : { kernel: whole(kernel) }),
    ...(initrd === undefined ? {} : { initrd: whole(initrd) }),
    ...(typeof cpuTemplate === "string" ? { cpuTemplate: whole(cpuTemplate) } : {}),
    ...(drives === undefined ? {} : { drives: drives.map(withPath) }),
    ...(pmem === undefined ? {} : { pmem: pmem.map(withPath) }),
    ...(vsock?.udsPath === undefined ? {} : { vsock: { ...vsock, udsPath: whole(vsock.udsPath) } }),
  };
}

function labelsOf({ values }: ParsedArguments): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const label of values.get("label") ?? []) {
    const [, key, value] = /^([^=]+)=(.*)$/s.exec(label) ?? [];
    if (key === undefined) {
      throw usageError(`--label is KEY=VALUE, not ${label}`, "--label team=blue");
    }
    labels[key] = value;
  }
  return labels;
}

/** `no`, `on-failure[:TIMES]` or `always`; raises ERR_ESTALO_USAGE. */
export function restartOf(text = "no"): RestartPolicy {
  const [, policy, times] = /^(no|always|on-failure)(?::([0-9]{1,6}))?$/.exec(text) ?? [];
  const mayCount = times === undefined || policy === "on-failure";
  if (policy === undefined || !mayCount) {
    throw usageError(
      `--restart is no, on-failure, on-failure:TIMES or always, not ${text}`,
      "--restart on-failure:3",
    );
  }
  const maxRetries = times === undefined ? {} : { maxRetries: Number(times) };
  return { policy: policy as RestartPolicy["policy"], ...maxRetries };
}
