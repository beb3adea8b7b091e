// npm run conformance: every covered model, at every published layer count, in every type, cut everywhere it may be,
// compared bit by bit with the whole. Hours of work: it goes on where it was stopped, and renews CONFORMANCE.md.
//   --only NAME[,NAME]   --weights TYPE[,TYPE]   --few (first, middle and last single cut)   --force (again)
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT } from './setup.mjs';
import {
  allJobs,
  directPlatform,
  fingerprint,
  jobKey,
  report,
  runJob,
} from '../packages/testkit/src/index.ts';

const RESULTS = path.join(ROOT, 'conformance.json');
const TABLE = path.join(ROOT, 'CONFORMANCE.md');

const { values: flags } = parseArgs({
  options: {
    only: { type: 'string' },
    weights: { type: 'string' },
    few: { type: 'boolean', default: false },
    force: { type: 'boolean', default: false },
  },
});

const order = new Map(allJobs().map((job, index) => [jobKey(job), index]));
const resultKey = (result) => `${result.name}/${result.layers}/${result.weights}`;
const wanted = (list, name) => list === undefined || list.split(',').includes(name);

/** @type {Map<string, import('../packages/testkit/src/index.ts').JobResult>} */
const results = new Map();
if (existsSync(RESULTS))
  for (const result of JSON.parse(readFileSync(RESULTS, 'utf8')).results)
    if (order.has(resultKey(result))) results.set(resultKey(result), result);

function save() {
  const sorted = [...results.values()].sort(
    (a, b) => order.get(resultKey(a)) - order.get(resultKey(b)),
  );
  const header = {
    llama: 'v0.4.0',
    platform: `${process.platform}-${process.arch}, ${cpus()[0]?.model ?? ''}`,
  };
  // Whole or not at all: the next run starts from this file.
  for (const [file, text] of [
    [RESULTS, `${JSON.stringify({ results: sorted }, null, 1)}\n`],
    [TABLE, report(sorted, header)],
  ]) {
    writeFileSync(`${file}.part`, text);
    renameSync(`${file}.part`, file);
  }
}

const stop = new AbortController();
process.once('SIGINT', () => stop.abort());
process.once('SIGTERM', () => stop.abort());

const print = fingerprint();
const singles = flags.few ? 'few' : 'all';
const jobs = allJobs().filter(
  (job) => wanted(flags.only, job.model.name) && wanted(flags.weights, job.weights),
);
/** A result of an earlier run that still holds, with at least as many cuts as this run would make. */
const done = (job) => {
  const known = results.get(jobKey(job));
  return known?.fingerprint === print && (singles === 'few' || known.singles === 'all');
};
const open = jobs.filter((job) => flags.force || !done(job));
process.stderr.write(
  `${open.length} of ${jobs.length} jobs to do, ${availableParallelism()} cores\n`,
);
const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-conformance-models-'));
let wrong = 0;
let notRun = 0;
try {
  for (const [index, job] of open.entries()) {
    const began = performance.now();
    let result;
    try {
      result = await runJob(job, {
        // Node compiles here, which the sandbox forbids: the bits come from llama.cpp, and hours are saved.
        platform: directPlatform({ nodeFlags: [] }),
        fingerprint: print,
        singles,
        folder,
        signal: stop.signal,
      });
    } catch (thrown) {
      if (stop.signal.aborted) throw thrown;
      // One job that could not run (a machine that was suspended, a full disk) does not end hours of others.
      notRun++;
      process.stderr.write(`${index + 1}/${open.length} ${jobKey(job)}: NOT RUN: ${thrown}\n`);
      continue;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    if (!result.identical) wrong++;
    results.set(jobKey(job), result);
    save();
    process.stderr.write(
      `${index + 1}/${open.length} ${jobKey(job)}: ${result.cuts} cuts, ` +
        `${result.identical ? 'identical' : `DIFFERENT (${result.max_logit_difference}) at ${result.failed.join('; ')}`}, ` +
        `${((performance.now() - began) / 1000).toFixed(1)} s\n`,
    );
  }
} catch (thrown) {
  if (!stop.signal.aborted) throw thrown;
  process.stderr.write('stopped; the next run goes on from here\n');
  process.exitCode = 130;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (notRun > 0)
  process.stderr.write(`${notRun} jobs could not run; the next run tries them again\n`);
if (wrong > 0) process.exitCode = 3;
else if (notRun > 0 && process.exitCode === undefined) process.exitCode = 1;
