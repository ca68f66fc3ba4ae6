/** The version of Firecracker whose command line and API door 1 speaks. */
export const FIRECRACKER_VERSION = "1.16.1";
/** The version of the snapshot format that goes with it. */
export const SNAPSHOT_VERSION = "10.0.0";
