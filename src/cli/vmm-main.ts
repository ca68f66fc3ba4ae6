/**
 * The entry of `estalo vmm` and of `bin/firecracker`: a bundle of its own, small, since its start is waited for.
 */
export { vmm } from "./vmm.js";
