/**
 * Types that hold a schema and the type it stands for against each other.
 */
/** `T` with every property, at any depth, read-only. */
export type DeepReadonly<T> = T extends object
  ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
  : T;
/** `T` with every property, at any depth, present: what may be left out cannot be forgotten. */
type DeepRequired<T> = T extends object
  ? { readonly [Key in keyof T]-?: DeepRequired<Exclude<T[Key], undefined>> }
  : T;
type Mutual<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;

/** Each can stand for the other, and has the same properties. */
export type Same<A, B> =
  Mutual<A, B> extends true ? Mutual<DeepRequired<A>, DeepRequired<B>> : false;

/** Refuses to compile unless it holds. */
export type Holds<T extends true> = T;
