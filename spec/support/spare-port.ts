import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";

/** A port of the host's that nobody listens at. */
export async function sparePort(): Promise<number> {
  const spare = createServer().listen(0, "127.0.0.1");
  await once(spare, "listening");
  const { port } = spare.address() as AddressInfo;
  await new Promise((resolve) => spare.close(resolve));
  return port;
}
