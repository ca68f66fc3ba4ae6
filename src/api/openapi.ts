/**
 * The OpenAPI 3.1 document of a door, from the descriptions of its operations.
 */
import type { TObject, TSchema } from "typebox";
import type { ReplySpec, RouteSpec } from "./route.js";
import { SchemaComponents } from "./schema-components.js";

type Json = Readonly<Record<string, unknown>>;

/** What a document says of the whole. */
export interface OpenApiInfo {
  readonly title: string;
  readonly version: string;
  readonly description: string;
  /** Tags of the operations, in the order in which they are shown. */
  readonly tags?: readonly { readonly name: string; readonly description: string }[];
  /** Whether requests may have to carry `Authorization: Bearer TOKEN`. Default false. */
  readonly hasToken?: boolean;
}

/** OpenAPI 3.1.1. */
const OPENAPI_VERSION = "3.1.1";

const JSON_TYPE = "application/json";

/** A document of `routes`, as plain data. */
export function openApiDocument(info: OpenApiInfo, routes: readonly RouteSpec[]): Json {
  const components = new SchemaComponents();
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    paths[route.path] ??= {};
    paths[route.path][route.method.toLowerCase()] = operation(route, components);
  }
  const { title, version, description, tags = [], hasToken = false } = info;
  const scheme = { type: "http", scheme: "bearer", description: "The server's token." };
  return {
    openapi: OPENAPI_VERSION,
    info: {
      title,
      version,
      description,
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    tags,
    paths,
    components: {
      schemas: components.toJson(),
      ...(hasToken ? { securitySchemes: { token: scheme } } : {}),
    },
    // Either: on a Unix socket no token is needed.
    ...(hasToken ? { security: [{ token: [] }, {}] } : {}),
  };
}

function operation(route: RouteSpec, components: SchemaComponents): Json {
  const { operationId, summary, description, tag, deprecated } = route;
  const parameters = [
    ...pathParameters(route, components),
    ...parametersOf("query", route.query, components),
    ...parametersOf("header", route.headers, components),
  ];
  return {
    operationId,
    summary,
    ...(description === undefined ? {} : { description }),
    tags: [tag],
    ...(deprecated === true ? { deprecated } : {}),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.body === undefined
      ? {}
      : {
          requestBody: {
            required: route.isBodyOptional !== true,
            content: content(route.bodyContentType, route.body, components),
          },
        }),
    responses: Object.fromEntries(
      Object.entries(route.replies).map(([status, reply]) => [status, response(reply, components)]),
    ),
  };
}

/** Every `{name}` of a path is a parameter, described or not. */
function pathParameters({ path, params }: RouteSpec, components: SchemaComponents): Json[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) =>
    parameter("path", name, true, params?.properties[name] ?? { type: "string" }, components),
  );
}

function parametersOf(
  place: string,
  schema: TObject | undefined,
  components: SchemaComponents,
): Json[] {
  const required = (schema as { required?: readonly string[] } | undefined)?.required ?? [];
  return Object.entries(schema?.properties ?? {}).map(([name, property]) =>
    parameter(place, name, required.includes(name), property, components),
  );
}

function parameter(
  place: string,
  name: string,
  isRequired: boolean,
  schema: TSchema,
  components: SchemaComponents,
): Json {
  const { description, ...rest } = schema as TSchema & { description?: string };
  return {
    name,
    in: place,
    ...(description === undefined ? {} : { description }),
    ...(isRequired ? { required: true } : {}),
    schema: components.ref(rest),
  };
}

function response({ description, schema, contentType }: ReplySpec, components: SchemaComponents) {
  if (schema === undefined) return { description };
  return { description, content: content(contentType, schema, components) };
}

function content(type: string | undefined, schema: TSchema, components: SchemaComponents): Json {
  return { [type ?? JSON_TYPE]: { schema: components.ref(schema) } };
}
