/**
 * Types that hold a schema and the type it stands for against each other.
 */
/** `T` with every property, at any depth, read-only. */
export type DeepReadonly<T> = T extends object
  ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
  : T;
/** Each can stand for the other. */
export type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
/** Refuses to compile unless it holds. */
export type Holds<T extends true> = T;
