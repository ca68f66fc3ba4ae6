/**
 * A vitest reporter that tells `npm test` how a run went, as JSON in the file that ESTALO_SPEC_REPORT names:
 *
 *   { passed, failed, skipped, failures: [{ name, message }] }
 *
 * Failures of hooks, of whole files and outside of tests are among them; vitest's own JSON reporter leaves them out.
 */
import { writeFileSync } from "node:fs";
import { relative } from "node:path";

/** The error's own text, and where in the specs it was raised. */
function messageOf(error) {
  const frame = error.stacks?.find(({ file }) => !file.includes("/node_modules/"));
  const where = frame === undefined ? "" : `\nat ${relative(".", frame.file)}:${frame.line}`;
  return `${error.name ?? "Error"}: ${error.message}${where}`;
}

/** What went wrong with a test, suite or file, once for each error. */
function failuresOf(entity, errors) {
  const names = [relative(".", (entity.module ?? entity).moduleId)];
  if (entity.fullName !== undefined) names.push(entity.fullName);
  return errors.map((error) => ({ name: names.join(" > "), message: messageOf(error) }));
}

export default class SpecReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const report = { passed: 0, failed: 0, skipped: 0, failures: [] };
    const failed = (entity, errors) => {
      report.failed += errors.length;
      report.failures.push(...failuresOf(entity, errors));
    };
    for (const module of modules) {
      failed(module, module.errors());
      for (const suite of module.children.allSuites()) failed(suite, suite.errors());
      for (const test of module.children.allTests()) {
        const { state, errors } = test.result();
        // One failure, however many errors it has.
        if (state === "failed") failed(test, errors.slice(0, 1));
        else report[state === "pending" ? "skipped" : state] += 1;
      }
    }
    for (const error of unhandledErrors) {
      report.failed += 1;
      report.failures.push({ name: "outside of tests", message: messageOf(error) });
    }
    writeFileSync(process.env.ESTALO_SPEC_REPORT, JSON.stringify(report));
  }
}
