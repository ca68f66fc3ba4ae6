/**
 * What a microVM is made with, in one module: it is loaded after the API answers, in one piece.
 */
export { checkConfig } from "../../actors/config.js";
export { machinesReleased } from "../../actors/machine.js";
export { MicrovmSupervisor } from "../../actors/microvm-supervisor.js";
export { vcpuThreads } from "../../actors/transport.js";
