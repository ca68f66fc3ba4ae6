import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Fault } from "../../../src/api/firecracker/faults.js";
import { matchRequest } from "../../../src/api/firecracker/match.js";
import { FIRECRACKER_OPERATIONS } from "../../../src/api/firecracker/operations.js";

describe("matchRequest", () => {
  it("finds every operation by its own path", () => {
    for (const { method, path, body, isBodyOptional } of FIRECRACKER_OPERATIONS) {
      const request = path.replace(/\{\w+\}/, "Id_1");
      const id = path === request ? "" : "Id_1";
      const hasBody = body !== undefined && !isBodyOptional;
      expect(matchRequest(method, request, hasBody)).toEqual({ method, path, id });
    }
  });

  it("takes letters and digits of any script for an id, as Firecracker", () => {
    expect(matchRequest("PUT", "/drives/плата_٣", true).id).toBe("плата_٣");
  });

  it("takes all else below PATCH /balloon for that", () => {
    const { path } = matchRequest("PATCH", "/balloon/anything", true);
    expect(path).toBe("/balloon");
  });

  it("finds an operation that is there, or raises a Fault, whatever comes", () => {
    const places = new Set(FIRECRACKER_OPERATIONS.map(({ method, path }) => `${method} ${path}`));
    const words = [...places].flatMap((place) => place.split(/[ /{}]+/)).concat("", "..", "%2f");
    const path = fc.array(fc.oneof(fc.constantFrom(...words), fc.string()), { maxLength: 5 });
    const method = fc.constantFrom("GET", "PUT", "PATCH", "DELETE", "POST");
    fc.assert(
      fc.property(method, path, fc.boolean(), (verb, segments, hasBody) => {
        try {
          const match = matchRequest(verb, `/${segments.join("/")}`, hasBody);
          expect(places).toContain(`${match.method} ${match.path}`);
        } catch (error) {
          expect(error).toBeInstanceOf(Fault);
        }
      }),
    );
  });
});
