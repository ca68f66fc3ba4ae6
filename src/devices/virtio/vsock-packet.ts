/**
 * The header of a socket packet, in and out of 44 bytes. Scratch, used again for each packet.
 */
import * as regs from "./vsock.regs.js";

/** struct virtio_vsock_hdr, VirtIO 1.2 § 5.10.6. */
export class VsockHeader {
  readonly bytes = new Uint8Array(regs.HEADER_BYTES);
  readonly #view = new DataView(this.bytes.buffer);

  /** Inexact above 2^53, where there is no context. */
  get sourceCid(): number {
    return this.#u64(regs.HEADER_SOURCE_CID_OFFSET);
  }
  get destinationCid(): number {
    return this.#u64(regs.HEADER_DESTINATION_CID_OFFSET);
  }
  get sourcePort(): number {
    return this.#view.getUint32(regs.HEADER_SOURCE_PORT_OFFSET, true);
  }
  get destinationPort(): number {
    return this.#view.getUint32(regs.HEADER_DESTINATION_PORT_OFFSET, true);
  }
  /** Payload in bytes, as the sender says. */
  get length(): number {
    return this.#view.getUint32(regs.HEADER_LENGTH_OFFSET, true);
  }
  get type(): number {
    return this.#view.getUint16(regs.HEADER_TYPE_OFFSET, true);
  }
  get operation(): number {
    return this.#view.getUint16(regs.HEADER_OPERATION_OFFSET, true);
  }
  get flags(): number {
    return this.#view.getUint32(regs.HEADER_FLAGS_OFFSET, true);
  }
  /** Size of the sender's receive buffer. */
  get buffer(): number {
    return this.#view.getUint32(regs.HEADER_BUFFER_OFFSET, true);
  }
  /** Bytes that the sender has taken out of it since the beginning; wraps. */
  get forwarded(): number {
    return this.#view.getUint32(regs.HEADER_FORWARDED_OFFSET, true);
  }

  /** Makes a packet of the host's; `length` is set by who knows it. */
  set(
    guestCid: number,
    hostPort: number,
    guestPort: number,
    operation: number,
    flags: number,
    forwarded: number,
  ): void {
    const view = this.#view;
    this.bytes.fill(0);
    view.setUint32(regs.HEADER_SOURCE_CID_OFFSET, regs.HOST_CID, true);
    view.setUint32(regs.HEADER_DESTINATION_CID_OFFSET, guestCid, true);
    view.setUint32(regs.HEADER_SOURCE_PORT_OFFSET, hostPort, true);
    view.setUint32(regs.HEADER_DESTINATION_PORT_OFFSET, guestPort, true);
    view.setUint16(regs.HEADER_TYPE_OFFSET, regs.TYPE_STREAM, true);
    view.setUint16(regs.HEADER_OPERATION_OFFSET, operation, true);
    view.setUint32(regs.HEADER_FLAGS_OFFSET, flags, true);
    view.setUint32(regs.HEADER_BUFFER_OFFSET, regs.BUFFER_BYTES, true);
    view.setUint32(regs.HEADER_FORWARDED_OFFSET, forwarded, true);
  }

  setLength(length: number): void {
    this.#view.setUint32(regs.HEADER_LENGTH_OFFSET, length, true);
  }

  #u64(offset: number): number {
    return this.#view.getUint32(offset, true) + this.#view.getUint32(offset + 4, true) * 2 ** 32;
  }
}
