/** What users' tests get as well (estalo/testing and its parts). */
export * from "../../src/testing/fake-front.js";
