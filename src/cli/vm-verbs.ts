/**
 * The verbs that need the whole of Estalo, in one module: one file to load while the vCPU threads start.
 */
export { demo } from "./demo.js";
export { doctor } from "./doctor.js";
export { run, runJailed } from "./run.js";
