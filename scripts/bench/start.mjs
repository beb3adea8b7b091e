// From the command to the first token, with slices that are already cut, and from there to the end.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { ROOT } from '../setup.mjs';
import { atEnd } from './ending.mjs';
import { spread } from './figures.mjs';
import { watchNoise } from './noise.mjs';

async function secondsToFirstToken(file, stages, cacheFolder) {
  const began = performance.now();
  const child = spawn(
    path.join(ROOT, 'minikeep'),
    ['run', file, 'x', '--raw', '--json', '--local', String(stages), '--max-tokens', '2'],
    { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, XDG_CACHE_HOME: cacheFolder } },
  );
  atEnd(() => child.kill());
  const ended = new Promise((resolve) => child.once('close', resolve));
  let first;
  for await (const line of createInterface({ input: child.stdout }))
    if (first === undefined && JSON.parse(line).type === 'token')
      first = (performance.now() - began) / 1000;
  const code = await ended;
  if (code !== 0 || first === undefined) throw new Error(`minikeep run ended with ${code}`);
  return first;
}

export async function startBench({ file, folder, rounds, stages, log }) {
  log('start: cutting the slices once');
  await secondsToFirstToken(file, stages, folder);
  const seconds = [];
  const noise = watchNoise();
  for (let round = 0; round < rounds; round++) {
    log(`start: round ${round + 1} of ${rounds}`);
    seconds.push(await secondsToFirstToken(file, stages, folder));
    noise.tick();
  }
  return { stages, noise: noise.report(), seconds_to_first_token: spread(seconds) };
}
