/** The one register of pvpanic, port 505h. Source: QEMU documentation, "PVPANIC DEVICE". */

/** RW, u8: read gives the supported events, a write reports those that happened. */
export const EVENTS_OFFSET = 0x0;
/** The guest's kernel panicked and will not go on. */
export const PANICKED_MASK = 0x1;
/** The guest's kernel panicked and a crash kernel takes over. */
export const CRASH_LOADED_MASK = 0x2;
