/**
 * From a request to its operation: path, method, parameters, query, headers and body, all checked by the
 * operation's schemas before it sees them; and from what it throws to a reply.
 *
 * A path matches whole and literally; `{name}` takes one segment, percent-decoded. HEAD is GET, its body left
 * out by the server. A body must be JSON, and say so if it says anything. Unknown query parameters are refused: a mistyped name
 * would go unnoticed otherwise.
 */
import type { TObject, TSchema } from "typebox";
import { EstaloError } from "../errors.js";
import { checkJson, checkText } from "./check.js";
import { plainWording } from "./check-wording.js";
import { errorReply } from "./errors-http.js";
import type { ApiHandler, ApiReply, ApiRequest } from "./http.js";
import type { Problem } from "./json-schema.js";
import type { Route, RouteCall } from "./route.js";

/** How a door says no. */
export interface RouterWording {
  /** What is wrong with a body, a query or a header, as one sentence. */
  problem(problem: Problem): string;
  /** The reply for anything thrown; `headers` go with it. */
  reply(error: unknown, headers?: Readonly<Record<string, string>>): ApiReply;
}

/** Door 2's. */
export const PLAIN_WORDING: RouterWording = { problem: plainWording, reply: errorReply };

interface Node {
  readonly literals: Map<string, Node>;
  parameter: Node | undefined;
  readonly routes: Map<string, { readonly route: Route; readonly names: readonly string[] }>;
}

const JSON_TYPE = "application/json";
const EMPTY_OBJECT = new Uint8Array([123, 125]);

/** A handler that knows `routes`. Two with the same method and path, whatever their parameters' names: raises. */
export function createRouter(
  routes: readonly Route[],
  wording: RouterWording = PLAIN_WORDING,
): ApiHandler {
  const root = newNode();
  for (const route of routes) addRoute(root, route);
  return (request) => {
    try {
      const matched = match(root, request);
      const call = checkCall(matched.route, request, matched.params, wording);
      const reply = matched.route.handle(call);
      if (!(reply instanceof Promise)) return reply;
      return reply.catch((error) => wording.reply(error));
    } catch (error) {
      return wording.reply(error, error instanceof WrongMethod ? error.headers : undefined);
    }
  };
}

class WrongMethod extends EstaloError {
  readonly headers: Readonly<Record<string, string>>;

  constructor(request: ApiRequest, allowed: readonly string[]) {
    super(
      "ERR_ESTALO_METHOD",
      `${shorten(request.path)} does not take ${shorten(request.method)}`,
      {
        data: { allowed },
      },
    );
    this.headers = { Allow: allowed.join(", ") };
  }
}

function newNode(): Node {
  return { literals: new Map(), parameter: undefined, routes: new Map() };
}

function addRoute(root: Node, route: Route): void {
  const names: string[] = [];
  let node = root;
  for (const segment of route.path.split("/").slice(1)) {
    const name = /^\{(\w+)\}$/.exec(segment)?.[1];
    let next = name === undefined ? node.literals.get(segment) : node.parameter;
    if (next === undefined) {
      next = newNode();
      if (name === undefined) node.literals.set(segment, next);
      else node.parameter = next;
    }
    if (name !== undefined) names.push(name);
    node = next;
  }
  if (node.routes.has(route.method)) {
    throw new EstaloError("ERR_ESTALO_BUG", `two operations for ${route.method} ${route.path}`);
  }
  node.routes.set(route.method, { route, names });
}

function match(root: Node, request: ApiRequest) {
  const segments = request.path.split("/").slice(1);
  const node = find(root, segments, 0, []);
  if (node === undefined || node.end.routes.size === 0) {
    throw new EstaloError("ERR_ESTALO_NOT_FOUND", `there is no ${shorten(request.path)}`, {
      data: { path: shorten(request.path) },
    });
  }
  const { end, values } = node;
  const found = end.routes.get(request.method === "HEAD" ? "GET" : request.method);
  if (found === undefined) {
    const allowed = [...end.routes.keys()].flatMap((one) =>
      one === "GET" ? [one, "HEAD"] : [one],
    );
    throw new WrongMethod(request, allowed);
  }
  const params: Record<string, string> = {};
  for (const [i, name] of found.names.entries()) {
    params[name] = decode(values[i], "the path");
  }
  return { route: found.route, params };
}

/** A literal is tried before a parameter. */
function find(
  node: Node,
  segments: readonly string[],
  at: number,
  values: readonly string[],
): { end: Node; values: readonly string[] } | undefined {
  if (at === segments.length) return { end: node, values };
  const literal = node.literals.get(segments[at]);
  const found = literal && find(literal, segments, at + 1, values);
  if (found !== undefined && found.end.routes.size > 0) return found;
  // An empty segment is no value.
  if (node.parameter === undefined || segments[at] === "") return found;
  return find(node.parameter, segments, at + 1, [...values, segments[at]]);
}

function checkCall(
  route: Route,
  request: ApiRequest,
  params: Readonly<Record<string, string>>,
  wording: RouterWording,
): RouteCall {
  for (const [name, schema] of propertiesOf(route.params)) {
    checkedValue(checkText(schema, [params[name] ?? ""], name), wording, "path");
  }
  for (const [name, schema] of propertiesOf(route.headers)) {
    const text = request.header(name);
    if (text !== undefined) checkedValue(checkText(schema, [text], name), wording, "header");
    else if (isRequired(route.headers, name)) throw wrong(`the header ${name} is missing`);
  }
  const query = checkQuery(route, request.query, wording);
  return { request, params, query, body: checkBody(route, request, wording) };
}

function checkQuery(route: Route, query: string, wording: RouterWording): Record<string, unknown> {
  const texts = parseQuery(query);
  const result: Record<string, unknown> = {};
  const properties = propertiesOf(route.query);
  for (const [name, schema] of properties) {
    const given = texts.get(name);
    texts.delete(name);
    if (given !== undefined)
      result[name] = checkedValue(checkText(schema, given, name), wording, "query");
    else if (isRequired(route.query, name)) throw wrong(`the query lacks ${name}`);
    else if ("default" in schema) result[name] = schema.default;
  }
  const [unknown] = texts.keys();
  if (unknown === undefined) return result;
  const known = properties.map(([name]) => name).join(", ");
  throw wrong(
    `the query has ${shorten(unknown)}, which is not known here${known === "" ? "" : ` (known: ${known})`}`,
  );
}

/** Names and values, decoded as forms are: `+` is a space. */
function parseQuery(query: string): Map<string, string[]> {
  const texts = new Map<string, string[]>();
  for (const part of query.split("&")) {
    if (part === "") continue;
    const split = part.indexOf("=");
    const raw = split < 0 ? [part, ""] : [part.slice(0, split), part.slice(split + 1)];
    const [name, value] = raw.map((text) => decode(text.replaceAll("+", " "), "the query"));
    const before = texts.get(name);
    if (before === undefined) texts.set(name, [value]);
    else before.push(value);
  }
  return texts;
}

function checkBody(route: Route, request: ApiRequest, wording: RouterWording): unknown {
  const { body } = request;
  const type = route.bodyContentType ?? JSON_TYPE;
  if (route.body === undefined) {
    if (body.length > 0) throw wrong("the operation takes no body");
    return undefined;
  }
  const given = request.header("content-type")?.split(";")[0].trim().toLowerCase();
  if (body.length > 0 && given !== undefined && given !== type) {
    throw new EstaloError("ERR_ESTALO_MEDIA_TYPE", `the body is ${shorten(given)}, not ${type}`);
  }
  if (type !== JSON_TYPE) return body;
  const isImplied = body.length === 0 && route.isBodyOptional === true;
  return checkedValue(checkJson(route.body, isImplied ? EMPTY_OBJECT : body), wording, "body");
}

function checkedValue(
  checked: ReturnType<typeof checkJson>,
  wording: RouterWording,
  where: string,
): unknown {
  if (!("problem" in checked)) return checked.value;
  const { pointer, expected, got } = checked.problem;
  throw new EstaloError("ERR_ESTALO_REQUEST", wording.problem(checked.problem), {
    data: { where, pointer, expected, got: shorten(got) },
  });
}

function propertiesOf(schema: TObject | undefined): [string, TSchema & { default?: unknown }][] {
  return Object.entries(schema?.properties ?? {});
}

function isRequired(schema: TObject | undefined, name: string): boolean {
  return (
    (schema as { required?: readonly string[] } | undefined)?.required?.includes(name) ?? false
  );
}

function decode(text: string, where: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    throw wrong(`${where} has an escape that is no UTF-8: ${shorten(text)}`);
  }
}

function wrong(message: string): EstaloError {
  return new EstaloError("ERR_ESTALO_REQUEST", message);
}

/** What a client sent is not repeated at any length. */
function shorten(text: string): string {
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}
