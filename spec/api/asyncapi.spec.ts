import Type from "typebox";
import { describe, expect, it } from "vitest";
import { asyncApiDocument, type SocketSpec } from "../../src/api/asyncapi.js";

const Resize = Type.Object({ columns: Type.Integer() }, { title: "Resize" });

const sockets: SocketSpec[] = [
  {
    name: "console",
    path: "/v1/microvms/{id}/console",
    summary: "The console.",
    description: "Bytes both ways.",
    params: Type.Object({ id: Type.String({ description: "Its id." }) }),
    query: Type.Object({ write: Type.Optional(Type.Boolean()) }),
    serverSends: [{ name: "output", summary: "What the guest wrote." }],
    clientSends: [{ name: "resize", summary: "Its new size.", schema: Resize }],
    closeCodes: { 4404: "no such microVM" },
  },
  {
    name: "events",
    path: "/v1/events",
    summary: "Events.",
    serverSends: [{ name: "event", summary: "One.", schema: Type.Object({}) }],
    clientSends: [],
    closeCodes: {},
  },
];

describe("asyncApiDocument", () => {
  // biome-ignore lint/suspicious/noExplicitAny: a document is read by paths of its own
  const document = asyncApiDocument({ title: "T", version: "1", description: "" }, sockets) as any;

  it("has a channel for each socket, with parameters, query and close codes", () => {
    const channel = document.channels.console;
    expect(channel.address).toBe("/v1/microvms/{id}/console");
    expect(channel.parameters).toEqual({ id: { description: "Its id." } });
    expect(channel.bindings.ws.query.properties.write).toEqual({ type: "boolean" });
    expect(channel.description).toContain("- 4404: no such microVM");
  });

  it("tells binary messages from JSON ones", () => {
    const { output, resize } = document.channels.console.messages;
    expect(output.payload).toEqual({ type: "string", format: "binary" });
    expect(resize.payload).toEqual({ $ref: "#/components/schemas/Resize" });
    expect(document.components.schemas.Resize.type).toBe("object");
  });

  it("says who sends what, by references that lead somewhere", () => {
    expect(Object.keys(document.operations)).toEqual([
      "console.send",
      "console.receive",
      "events.send",
    ]);
    for (const { channel, messages } of Object.values<Record<string, never>>(document.operations)) {
      for (const { $ref } of [channel, ...(messages as never[])] as { $ref: string }[]) {
        const parts = $ref.slice(2).split("/");
        expect(parts.reduce((at, part) => at?.[part], document)).toBeDefined();
      }
    }
  });
});
