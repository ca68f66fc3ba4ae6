import { Validator } from "@seriousme/openapi-schema-validator";
import { describe, expect, it } from "vitest";
import { firecrackerDocument } from "../../../src/api/firecracker/openapi.js";
import { FIRECRACKER_OPERATIONS } from "../../../src/api/firecracker/operations.js";

describe("firecrackerDocument", () => {
  it("is valid OpenAPI, and has every operation", async () => {
    const document = firecrackerDocument() as {
      paths: Record<string, Record<string, { operationId: string }>>;
    };
    const { valid, errors } = await new Validator().validate(structuredClone(document));
    expect(errors).toBeUndefined();
    expect(valid).toBe(true);
    const ids = Object.values(document.paths).flatMap((path) =>
      Object.values(path).map(({ operationId }) => operationId),
    );
    expect(ids.sort()).toEqual(FIRECRACKER_OPERATIONS.map(({ operationId }) => operationId).sort());
  });
});
