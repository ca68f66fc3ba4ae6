/**
 * Session tokens of the metadata service: the time of their end, sealed with a key that lives and dies with the
 * microVM's process. Firecracker 1.16, src/vmm/src/mmds/token.rs.
 *
 *     token = base64 of IV 12 | sealed end in ms, u64 little-endian, 8 | tag 16
 */
import type { TokenSealer } from "../backend.js";

export const TTL_MIN_SECONDS = 1;
export const TTL_MAX_SECONDS = 21_600;

/** Longer ones are not looked at. */
const TOKEN_CHARS_MAX = 70;
const TOKEN_BYTES = 36;
const END_BYTES = 8;
/** A key seals no more than this many (NIST SP 800-38D § 8.3). */
const TOKENS_PER_KEY = 2 ** 32 - 1;
const WORD = 2 ** 32;

/** See the file's header. */
export class TokenAuthority {
  readonly #sealer: TokenSealer;
  readonly #nowUs: () => number;
  readonly #microVmId: Uint8Array;
  readonly #tokensPerKey: number;
  #sealed = 0;

  /** @param tokensPerKey - after which the key is replaced, and the tokens before are void */
  constructor(
    sealer: TokenSealer,
    nowUs: () => number,
    microVmId: string,
    tokensPerKey = TOKENS_PER_KEY,
  ) {
    this.#sealer = sealer;
    this.#nowUs = nowUs;
    this.#microVmId = new TextEncoder().encode(`microvmid=${microVmId}`);
    this.#tokensPerKey = tokensPerKey;
  }

  /** A token for so many seconds; `undefined`: not 1 to 21,600. */
  issue(ttlSeconds: number): string | undefined {
    if (!(ttlSeconds >= TTL_MIN_SECONDS && ttlSeconds <= TTL_MAX_SECONDS)) return undefined;
    if (this.#sealed === this.#tokensPerKey) {
      this.#sealer.renewKey();
      this.#sealed = 0;
    }
    this.#sealed++;
    const endMs = Math.floor(this.#nowUs() / 1000) + ttlSeconds * 1000;
    const end = new Uint8Array(END_BYTES);
    const view = new DataView(end.buffer);
    view.setUint32(0, endMs % WORD, true);
    view.setUint32(4, Math.floor(endMs / WORD), true);
    return btoa(String.fromCharCode(...this.#sealer.seal(end, this.#microVmId)));
  }

  /** Whether it was issued here and has not ended. */
  isValid(token: string): boolean {
    const sealed = decode(token);
    const end = sealed && this.#sealer.open(sealed, this.#microVmId);
    if (end?.length !== END_BYTES) return false;
    const view = new DataView(end.buffer, end.byteOffset);
    const endMs = view.getUint32(4, true) * WORD + view.getUint32(0, true);
    return endMs > this.#nowUs() / 1000;
  }
}

/** `undefined`: not the base64 of a token's bytes, each in its one spelling. */
function decode(token: string): Uint8Array | undefined {
  if (token.length > TOKEN_CHARS_MAX || !/^[A-Za-z0-9+/]+$/.test(token)) return undefined;
  if (token.length % 4 !== 0) return undefined;
  const bytes = Uint8Array.from(atob(token), (char) => char.charCodeAt(0));
  return bytes.length === TOKEN_BYTES ? bytes : undefined;
}
