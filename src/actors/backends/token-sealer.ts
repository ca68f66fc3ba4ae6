/** Session tokens sealed by Node's AES-256-GCM. */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { TokenSealer } from "../../devices/backend.js";

const CIPHER = "aes-256-gcm";
const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** See devices/backend.ts. The key stays in this object. */
export class HostTokenSealer implements TokenSealer {
  #key = randomBytes(KEY_BYTES);

  renewKey(): void {
    this.#key = randomBytes(KEY_BYTES);
  }

  seal(plain: Uint8Array, associated: Uint8Array): Uint8Array {
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv(CIPHER, this.#key, iv).setAAD(associated);
    const sealed = Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
    return new Uint8Array(sealed);
  }

  open(sealed: Uint8Array, associated: Uint8Array): Uint8Array | undefined {
    if (sealed.length < IV_BYTES + TAG_BYTES) return undefined;
    const end = sealed.length - TAG_BYTES;
    const options = { authTagLength: TAG_BYTES };
    const cipher = createDecipheriv(CIPHER, this.#key, sealed.subarray(0, IV_BYTES), options)
      .setAAD(associated)
      .setAuthTag(sealed.subarray(end));
    try {
      const plain = Buffer.concat([cipher.update(sealed.subarray(IV_BYTES, end)), cipher.final()]);
      return new Uint8Array(plain);
    } catch {
      // The tag is wrong, the only thing that can fail here.
      return undefined;
    }
  }
}
