/**
 * Operations on the metadata service: its configuration, and its data before and after the start.
 */
import { type Metadata, MetadataStore } from "../../actors/metadata-store.js";
import { formatAddress, isLinkLocal, parseAddress } from "../../devices/mmds/frames.js";
import { MMDS_IPV4_DEFAULT } from "../../devices/mmds/frames.regs.js";
import { isEstaloError } from "../../errors.js";
import type { Mmds } from "./draft.js";
import { Fault } from "./faults.js";
import * as schemas from "./network-schemas.js";
import { NO_CONTENT, type Operation } from "./operation.js";
import type { FirecrackerTarget } from "./target.js";

const NOT_INITIALIZED = "The MMDS data store is not initialized.";

const WRITTEN = {
  ...NO_CONTENT,
  413: { description: "More than the store may hold.", schema: NO_CONTENT[400].schema },
} as const;

function ipv4Of(text: string | null | undefined): string {
  if (text == null) return formatAddress(MMDS_IPV4_DEFAULT);
  const address = parseAddress(text);
  if (address !== undefined && isLinkLocal(address)) return formatAddress(address);
  throw new Fault("The MMDS IPv4 address is not link local.");
}

const putConfig: Operation = {
  operationId: "putMmdsConfig",
  method: "PUT",
  path: "/mmds/config",
  tag: "Devices",
  summary: "Sets which interfaces reach the metadata service, and how it answers.",
  body: schemas.MmdsConfig,
  replies: NO_CONTENT,
  when: "before boot",
  counter: "mmds",
  run({ target, body, deprecated }) {
    const json = body as schemas.MmdsConfigJson;
    const address = ipv4Of(json.ipv4_address);
    if (json.network_interfaces.length === 0) {
      throw new Fault(
        "The list of network interface IDs that allow forwarding MMDS requests is empty.",
      );
    }
    const known = new Set(target.draft.interfaces.map(({ iface_id }) => iface_id));
    if (!json.network_interfaces.every((id) => known.has(id))) {
      throw new Fault(
        "The list of network interface IDs provided contains at least one ID that does not " +
          "correspond to any existing network interface.",
      );
    }
    const mmds: Mmds = {
      version: json.version ?? "V1",
      network_interfaces: json.network_interfaces,
      ipv4_address: address,
      imds_compat: json.imds_compat ?? false,
    };
    if (mmds.version === "V1") deprecated("PUT /mmds/config: V1 is deprecated. Use V2 instead.");
    target.draft = { ...target.draft, mmds };
  },
};

const putData: Operation = {
  operationId: "putMmds",
  method: "PUT",
  path: "/mmds",
  tag: "Devices",
  summary: "Replaces the metadata service's data.",
  body: schemas.MmdsContents,
  replies: WRITTEN,
  when: "always",
  counter: "mmds",
  run: ({ target, body }) => write(target, "put", body),
};

const patchData: Operation = {
  operationId: "patchMmds",
  method: "PATCH",
  path: "/mmds",
  tag: "Devices",
  summary: "Merges into the metadata service's data (RFC 7396).",
  body: schemas.MmdsContents,
  replies: WRITTEN,
  when: "always",
  counter: "mmds",
  run: ({ target, body }) => write(target, "patch", body),
};

/** Does it to the running service, or to what a machine that is not started will begin with. */
function write(target: FirecrackerTarget, verb: "put" | "patch", body: unknown): void {
  try {
    if (target.phase !== "Not started") {
      running(target)[verb](body as Metadata);
      return;
    }
    const { metadataLimitBytes, draft } = target;
    const store = new MetadataStore(metadataLimitBytes, draft.metadata);
    store[verb](body as Metadata);
    target.draft = { ...draft, metadata: store.get() };
  } catch (error) {
    if (!isEstaloError(error) || error.code !== "ERR_ESTALO_TOO_LARGE") throw error;
    throw new Fault(error.message, 413);
  }
}

function running({ metadata }: FirecrackerTarget) {
  if (metadata === undefined) throw new Fault(NOT_INITIALIZED);
  return metadata;
}

const getData: Operation = {
  operationId: "getMmds",
  method: "GET",
  path: "/mmds",
  tag: "Devices",
  summary: "The metadata service's data; {} when there is none yet.",
  replies: {
    200: { description: "As it is.", schema: schemas.MmdsContents },
    400: NO_CONTENT[400],
  },
  when: "always",
  counter: "mmds",
  run: ({ target }) =>
    target.phase === "Not started" ? (target.draft.metadata ?? {}) : running(target).get(),
};

export const MMDS_OPERATIONS: readonly Operation[] = [putConfig, putData, patchData, getData];
