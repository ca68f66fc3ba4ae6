/** Comlink's adapter for worker_threads ships without types for its ES module. */
declare module "comlink/dist/esm/node-adapter.mjs" {
  import type { Endpoint } from "comlink";
  import type { MessagePort, Worker } from "node:worker_threads";

  export default function nodeEndpoint(port: MessagePort | Worker): Endpoint;
}
