/**
 * A cell: a jailed process that runs microVMs for a server, over descriptor 1 (frames, both ways) and 0 (open
 * files, from the server). It ends when the server's end is gone.
 *
 * It trusts the server, and is trusted by nobody: before it reads anything its threads are under seccomp filters.
 */
import { Socket } from "node:net";
import { vcpuThreads } from "../actors/transport.js";
import { EstaloError, toEstaloError } from "../errors.js";
import { confine } from "../jail/seccomp/confine.js";
import {
  type CallMessage,
  type CellCalls,
  type CellMessage,
  type SentFiles,
  sentError,
} from "./cell-messages.js";
import { CellMicrovm, receiveFiles } from "./cell-microvm.js";
import { Channel } from "./channel.js";

const CHANNEL_FD = 1;
const DESCRIPTORS_FD = 0;
/** The server's rules bound what it sends. */
const PAYLOAD_BYTES_MAX = 256 * 1024 * 1024;
/** Guests that do not end keep the process no longer, ms. */
const END_PATIENCE_MS = 2000;

/** See the file's header. */
export class Cell {
  readonly #channel: Channel;
  readonly #descriptors: number;
  readonly #microvms = new Map<number, CellMicrovm>();

  /** @param descriptors - where open files come from */
  constructor(socket: Socket, descriptors: number, onClose: (microvms: CellMicrovm[]) => void) {
    this.#descriptors = descriptors;
    this.#channel = new Channel(socket, {
      payloadBytesMax: PAYLOAD_BYTES_MAX,
      onMessage: (message) => void this.#answer(message as CallMessage),
      onClose: () => onClose([...this.#microvms.values()]),
    });
    this.#post({ hello: 1 });
  }

  #post(message: CellMessage): void {
    this.#channel.post(message);
  }

  async #answer({ call, vm, method, args }: CallMessage): Promise<void> {
    try {
      const value = await this.#do(vm, method, args);
      this.#post({ reply: call, ...(value === undefined ? {} : { value }) });
    } catch (thrown) {
      this.#post({ reply: call, error: sentError(toEstaloError(thrown).toRecord()) });
    }
  }

  async #do(vm: number, method: CallMessage["method"], args: unknown): Promise<unknown> {
    if (method === "create") {
      const microvm = await CellMicrovm.create(vm, args as CellCalls["create"], {
        channel: this.#channel,
        descriptors: this.#descriptors,
        onEnd: (ended) => this.#microvms.delete(ended),
      });
      this.#microvms.set(vm, microvm);
      return microvm.made;
    }
    const microvm = this.#microvms.get(vm);
    if (microvm !== undefined) return microvm.call(method, args);
    // They would be taken for the next one's.
    const { files = [] } = args as { readonly files?: SentFiles };
    receiveFiles(files, this.#descriptors).close();
    throw new EstaloError("ERR_ESTALO_STATE", "the microVM has ended");
  }
}

/** Runs a cell in this process, which it ends. */
export function runCell(): void {
  confine();
  // A thread takes tens of milliseconds to start, and is there for the first microVM.
  vcpuThreads.prepare(1);
  const end = async (microvms: CellMicrovm[]) => {
    setTimeout(() => process.exit(1), END_PATIENCE_MS);
    // A thread that is in a guest keeps the process.
    await Promise.allSettled(microvms.map((microvm) => microvm.call("kill", {})));
    process.exit(0);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});
  process.on("unhandledRejection", (reason) => crash(reason));
  process.on("uncaughtException", crash);
  new Cell(new Socket({ fd: CHANNEL_FD }), DESCRIPTORS_FD, (microvms) => void end(microvms));
}

function crash(error: unknown): void {
  process.stderr.write(`${toEstaloError(error).message}\n`);
  process.exit(1);
}
