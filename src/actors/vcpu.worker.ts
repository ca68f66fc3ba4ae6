/** The entry of a vCPU thread: its actor behind Comlink. See transport.ts for the other end. */
import { parentPort } from "node:worker_threads";
import { expose } from "comlink";
import nodeEndpoint from "comlink/dist/esm/node-adapter.mjs";
import { native } from "../native/binding.js";
import { VcpuActor } from "./vcpu-actor.js";

const actor = new VcpuActor();

expose(
  {
    attach: (setup: Parameters<VcpuActor["attach"]>[0]) => actor.attach(setup),
    run: () => actor.run(),
    detach: () => actor.detach(),
    trim: () => native().trimMemory(),
  },
  nodeEndpoint(parentPort!),
);
