/**
 * The canary: a harmless program of ours that stands where an engine stands, and tries what it is told to. It is
 * single-threaded and waits in plain reads and writes, so that every system call between `begin` and `end` belongs to
 * the attempt.
 */
import { readSync, writeSync } from 'node:fs';
import { addressOf, type Native, openNative } from './native.ts';
import { runWay } from './steps.ts';
import { type CanaryLine, type Job, LINE_BYTES_MAX, OUTSIDE } from './wire.ts';

const INPUT = 0;
const OUTPUT = 1;
const AT_FDCWD = -100n;
const CHUNK_BYTES = 64 * 1024;
/** The user that owns nothing, by custom. */
const NOBODY = 65_534;

function say(line: CanaryLine): void {
  const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
  for (let sent = 0; sent < bytes.length;) sent += writeSync(OUTPUT, bytes, sent);
}

/** Lines from the runner; ends with its pipe. */
function* lines(): Generator<string> {
  const chunk = Buffer.alloc(CHUNK_BYTES);
  let rest = Buffer.alloc(0);
  for (;;) {
    const end = rest.indexOf(10);
    if (end >= 0) {
      yield rest.subarray(0, end).toString('utf8');
      rest = rest.subarray(end + 1);
      continue;
    }
    if (rest.length > LINE_BYTES_MAX) throw new Error('a job is too long');
    const got = readSync(INPUT, chunk);
    if (got === 0) return;
    rest = Buffer.concat([rest, chunk.subarray(0, got)]);
  }
}

/** Opens a path that can't be there: the sandbox reports it, in its own order. */
function mark(native: Native, path: string): void {
  const bytes = Buffer.from(`${path}\0`);
  native.call('openat', [AT_FDCWD, addressOf(bytes), 0n, 0n]);
}

/** Leaves without Node's own exit, which asks for more than a sealed engine may. */
function leave(native: Native, code: number): never {
  native.call(process.platform === 'linux' ? 'exit_group' : '_exit', [BigInt(code)]);
  throw new Error('still here');
}

/** Outside of a sandbox, what is tried is tried without any right that an engine would not have. */
function dropRights(): void {
  if (process.geteuid?.() !== 0) return;
  process.setgroups?.([]);
  process.setgid?.(NOBODY);
  process.setuid?.(NOBODY);
}

function main(): void {
  const platform = process.platform === 'darwin' ? 'darwin' : 'linux';
  const native = openNative(platform);
  if (process.argv[2] === OUTSIDE) dropRights();
  say({ event: 'ready', pid: process.pid, node: process.version });
  try {
    for (const line of lines()) {
      const job = JSON.parse(line) as Job;
      say({ event: 'begin', number: job.number });
      if (job.marks !== null) mark(native, job.marks[0]);
      const ways = job.ways.map((steps) => runWay(steps, { native, platform, facts: job.facts }));
      if (job.marks !== null) mark(native, job.marks[1]);
      say({ event: 'end', number: job.number, ways });
    }
  } catch (thrown) {
    say({ event: 'fault', message: String(thrown).slice(0, 1000) });
    leave(native, 1);
  }
  leave(native, 0);
}

main();
