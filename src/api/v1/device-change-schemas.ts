/**
 * What can be changed of a running microVM's devices, as JSON Schema: the library's `DeviceChanges`. The type at
 * the end refuses to compile when the two differ.
 */
import Type, { type Static } from "typebox";
import type { DeviceChanges as LibraryChanges } from "../../actors/device-changes.js";
import { MEMORY_MIB_MAX } from "../../boot/memory-map.js";
import { closed, HostPath, RateLimiter, TokenBucket, UserNetwork } from "./config-schemas.js";
import type { DeepReadonly, Holds, Same } from "./schema-types.js";

/** By ids, at most so many devices. */
const byId = <const Change extends Type.TSchema>(change: Change, description: string) =>
  Type.Optional(Type.Record(Type.String(), change, { maxProperties: 64, description }));
const limiter = Type.Optional(RateLimiter);

/** See the file's header. */
export const DeviceChanges = Type.Object(
  {
    drives: byId(
      Type.Object(
        {
          path: Type.Optional(HostPath("Another file; default: the same one, measured again.")),
          rateLimiter: limiter,
        },
        { ...closed, title: "DriveChange" },
      ),
      "Drives by id.",
    ),
    networkInterfaces: byId(
      Type.Object(
        {
          rxRateLimiter: limiter,
          txRateLimiter: limiter,
          isLinkUp: Type.Optional(
            Type.Boolean({ description: "The cable; it is in again at the next start." }),
          ),
          forwards: UserNetwork.properties.forwards,
        },
        {
          ...closed,
          title: "NetworkInterfaceChange",
          description: "forwards: all that a user's network has from now on.",
        },
      ),
      "Network interfaces by id.",
    ),
    pmem: byId(
      Type.Object({ rateLimiter: limiter }, { ...closed, title: "PmemChange" }),
      "Persistent memory by id.",
    ),
    balloon: Type.Optional(
      Type.Object(
        {
          amountMib: Type.Optional(Type.Integer({ minimum: 0, maximum: MEMORY_MIB_MAX })),
          statsIntervalS: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
        },
        { ...closed, title: "BalloonChange" },
      ),
    ),
    entropy: Type.Optional(
      Type.Object({ rateLimiter: limiter }, { ...closed, title: "EntropyChange" }),
    ),
    serial: Type.Optional(
      Type.Object(
        { rateLimiter: Type.Optional(TokenBucket) },
        { ...closed, title: "SerialChange" },
      ),
    ),
  },
  {
    ...closed,
    title: "DeviceChanges",
    description:
      "What is not named stays as it is; so does a limiter's bucket that is not given. A bucket of size 0 lifts its limit.",
  },
);

/** See the file's header. */
export type DeviceChangesAgree = Holds<
  Same<DeepReadonly<Static<typeof DeviceChanges>>, DeepReadonly<LibraryChanges>>
>;
