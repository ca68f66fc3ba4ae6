/**
 * Door 1 as an OpenAPI document, from its operations.
 */
import { openApiDocument } from "../openapi.js";
import { FIRECRACKER_OPERATIONS } from "./operations.js";
import { FIRECRACKER_VERSION } from "./version.js";

/** The document, as plain data. */
export function firecrackerDocument(): Readonly<Record<string, unknown>> {
  return openApiDocument(
    {
      title: "Firecracker API",
      version: FIRECRACKER_VERSION,
      description:
        "What `estalo vmm` answers on its socket: Firecracker's API over one microVM. Operations " +
        "tagged Missing are refused until their device is there.",
      tags: [
        { name: "Instance", description: "The microVM as a whole, and its life." },
        { name: "Boot", description: "What boots." },
        { name: "Machine", description: "vCPUs and memory." },
        { name: "Devices", description: "Drives, entropy, the serial port." },
        { name: "Diagnostics", description: "Log and metrics." },
        { name: "Missing", description: "What this build does not have yet." },
      ],
    },
    FIRECRACKER_OPERATIONS,
  );
}
