/**
 * Door 2 as a whole: a fleet behind HTTP and WebSockets, on any number of listeners with rules of their own.
 *
 *     listener ─▶ Host, Origin, token (auth.ts) ─▶ router ─▶ check ─▶ routes.ts ─▶ fleet
 *                                               └▶ sockets.ts ─▶ session
 */
import { accessSync, constants } from "node:fs";
import Type from "typebox";
import { installedGuest } from "../../actors/default-guest.js";
import type { EstaloError } from "../../errors.js";
import { docsRoutes } from "../docs-page.js";
import { firecrackerDocument } from "../firecracker/openapi.js";
import type { ApiHandler, ApiReply } from "../http.js";
import type { Route } from "../route.js";
import { createRouter } from "../router.js";
import { serialiserOf } from "../serialise.js";
import { ApiServer } from "../server.js";
import type { ServerAddress, ServerLimits } from "../server-options.js";
import { type AccessOptions, AccessPolicy } from "./auth.js";
import { doorDescriptions } from "./descriptions.js";
import { EventsHub } from "./events-socket.js";
import type { DoorFleet } from "./fleet.js";
import { repliesOf } from "./route-specs.js";
import { fleetRoutes } from "./routes.js";
import { Microvm, MicrovmPage } from "./schemas.js";
import { ProcessProbe, totalsOf } from "./server-metrics.js";
import { type DoorSocket, doorSockets } from "./sockets.js";
import { stepRoutes } from "./step-routes.js";

/** What a door is made of. */
export interface DoorOptions {
  readonly fleet: DoorFleet;
  /** Estalo's. */
  readonly version: string;
  readonly limits?: Partial<ServerLimits>;
  /** Told of what the client sees as status 500. */
  readonly onFailure?: (error: EstaloError) => void;
}

interface Listener {
  readonly server: ApiServer;
  readonly policy: AccessPolicy;
}

/** See the file's header. */
export class FleetDoor {
  /** What GET /readyz says. */
  status: "opening" | "ok" | "closing" = "opening";
  /** Every operation, as the description has them. */
  readonly routes: readonly Route[];
  readonly #options: DoorOptions;
  readonly #hub: EventsHub;
  readonly #probe = new ProcessProbe();
  readonly #listeners: Listener[] = [];
  readonly #handler: ApiHandler;
  readonly #sockets: readonly DoorSocket[];

  constructor(options: DoorOptions) {
    this.#options = options;
    const { fleet, version } = options;
    this.#hub = new EventsHub(fleet.events);
    this.#sockets = doorSockets(fleet, this.#hub);
    const sockets = this.#sockets.map(({ spec }) => spec);
    this.routes = [
      ...fleetRoutes({
        fleet,
        version,
        startedAtMs: Date.now(),
        status: () => this.status,
        hasKvm,
        guest: installedGuest,
        serverMetrics: () => this.#metrics(),
      }),
      ...stepRoutes(fleet),
      describeDoor1,
      ...docsRoutes(doorDescriptions(version, () => this.routes, sockets)).map((route) => ({
        ...route,
        replies: repliesOf(route.replies, [404]),
      })),
    ];
    this.#handler = createRouter(this.routes);
    warmUp();
  }

  /** Listens at one more address; raises ERR_ESTALO_LISTEN. */
  async listen(address: ServerAddress, access: AccessOptions): Promise<ApiServer> {
    const policy = new AccessPolicy(access);
    const { limits, onFailure } = this.#options;
    const server = await ApiServer.listen({
      address,
      admit: (request) => policy.admit(request),
      handler: withOrigin(policy, this.#handler),
      sockets: Object.fromEntries(this.#sockets.map(({ spec, open }) => [spec.path, open])),
      ...(limits === undefined ? {} : { limits }),
      ...(onFailure === undefined ? {} : { onFailure }),
    });
    this.#listeners.push({ server, policy });
    return server;
  }

  /** Reads every listener's TLS files again; raises ERR_ESTALO_LISTEN, and then the old ones stay. */
  reloadTls(): void {
    for (const { server } of this.#listeners) server.reloadTls();
  }

  /** Answers what is being answered and lets go of every client; the fleet is its owner's to close. */
  async close(): Promise<void> {
    this.status = "closing";
    await Promise.all(this.#listeners.map(({ server }) => server.close()));
    this.#probe.close();
  }

  #metrics() {
    const counts = this.#listeners.map(({ server, policy }) => ({
      server: server.counters,
      auth: policy.counts,
    }));
    return {
      version: this.#options.version,
      uptimeMs: process.uptime() * 1000,
      eventReaders: this.#hub.size,
      totals: totalsOf(counts),
      loopDelaySeconds: this.#probe.loopDelaySeconds(),
      process: this.#probe.process,
    };
  }
}

/** The other door, for who asks this one what Estalo speaks. */
const describeDoor1: Route = {
  operationId: "getFirecrackerOpenApi",
  method: "GET",
  path: "/openapi-firecracker.json",
  summary: "The API of estalo vmm, which is Firecracker's, as OpenAPI 3.1.",
  tag: "documents",
  replies: repliesOf({
    200: {
      description: "The document.",
      schema: Type.Object({}, { additionalProperties: true }),
    },
  }),
  handle: () => ({ status: 200, body: JSON.stringify(firecrackerDocument()) }),
};

/** Makes the largest serialiser now, which takes a tenth of a second, and not in front of running guests. */
function warmUp(): void {
  serialiserOf(MicrovmPage)({ items: [], next: null });
  serialiserOf(Microvm);
}

function hasKvm(): boolean {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The handler, whose replies the pages of allowed origins see. */
function withOrigin(policy: AccessPolicy, handler: ApiHandler): ApiHandler {
  return (request) => {
    const reply = handler(request);
    if (request.header("origin") === undefined) return reply;
    const added = policy.originHeaders(request);
    const complete = (done: ApiReply) => ({ ...done, headers: { ...done.headers, ...added } });
    return reply instanceof Promise ? reply.then(complete) : complete(reply);
  };
}
