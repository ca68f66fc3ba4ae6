/**
 * Why door 2 closes a WebSocket: codes of RFC 6455 § 7.4.1 and, from 4000 on, its own.
 */
/** The microVM has ended, and everything was sent. */
export const CLOSE_NORMAL = 1000;
/** The server ends. */
export const CLOSE_GOING_AWAY = 1001;
/** The client sent what this socket does not take. */
export const CLOSE_POLICY = 1008;
/** Something went wrong in the server. */
export const CLOSE_INTERNAL = 1011;
/** The reader, or the guest as a reader, is too slow. */
export const CLOSE_TOO_SLOW = 1013;
/** There is no such microVM. */
export const CLOSE_NOT_FOUND = 4404;
/** Its state does not allow it. */
export const CLOSE_WRONG_STATE = 4409;
/** `since` is older than what is kept, or newer than what there ever was. */
export const CLOSE_GAP = 4410;
