/**
 * One operation of a door, described once: its schemas check requests, type the client, make the serialisers
 * and are the OpenAPI document.
 */
import type { TObject, TSchema } from "typebox";
import type { ApiReply, ApiRequest } from "./http.js";

/** What a reply of a status holds. */
export interface ReplySpec {
  readonly description: string;
  /** Absent: no body. */
  readonly schema?: TSchema;
  /** Default "application/json". */
  readonly contentType?: string;
}

/** An operation as OpenAPI describes it. */
export interface RouteSpec {
  readonly operationId: string;
  readonly method: "GET" | "PUT" | "PATCH" | "POST" | "DELETE";
  /** With `{name}` for parameters: "/v1/microvms/{id}". */
  readonly path: string;
  readonly summary: string;
  readonly description?: string;
  readonly tag: string;
  readonly deprecated?: boolean;
  /** Properties are the path's parameters. */
  readonly params?: TObject;
  /** Properties are the query's; values are strings, numbers or booleans. */
  readonly query?: TObject;
  readonly headers?: TObject;
  readonly body?: TSchema;
  /** A request without a body stands for `{}`. Default false. */
  readonly isBodyOptional?: boolean;
  /** Default "application/json". */
  readonly bodyContentType?: string;
  readonly replies: Readonly<Record<number, ReplySpec>>;
}

/** A request that was matched and checked. */
export interface RouteCall {
  readonly request: ApiRequest;
  /** Percent-decoded. */
  readonly params: Readonly<Record<string, string>>;
  /** Checked and converted by the route's schema. */
  readonly query: Readonly<Record<string, unknown>>;
  /** Parsed and checked by the route's schema; `undefined` when the route has no body. */
  readonly body: unknown;
}

/** An operation with what does it. Throws an EstaloError for what goes wrong. */
export interface Route extends RouteSpec {
  handle(call: RouteCall): ApiReply | Promise<ApiReply>;
}
