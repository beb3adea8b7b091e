// Tells scripts/test.mjs what vitest found: counts, and why each skipped test was skipped.
import { writeFileSync } from 'node:fs';

export default class Report {
  onTestRunEnd(modules, unhandledErrors) {
    const report = { passed: 0, failed: 0, skipped: [], errors: unhandledErrors.length };
    for (const module of modules) {
      // A file that can't be imported has no tests to fail.
      if (module.errors().length > 0) report.errors++;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === 'passed') report.passed++;
        else if (result.state === 'failed') report.failed++;
        else
          report.skipped.push({
            name: `${module.relativeModuleId}: ${test.fullName}`,
            reason: result.note ?? 'no reason given: use ctx.skip(reason)',
          });
      }
      for (const suite of module.children.allSuites())
        if (suite.errors().length > 0) report.errors++;
    }
    const file = process.env['MINIKEEP_TEST_REPORT'];
    if (file) writeFileSync(file, JSON.stringify(report));
  }
}
