// The README's transcripts are true: each command in a console block runs, and prints what stands there.
// In a transcript, … stands for anything within a line, and a line that is only … for any number of lines.
import { readFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { REPOSITORY } from '@minikeep/testkit';
import { expect, it } from 'vitest';

const COMMAND_TIMEOUT_MS = 240_000;

interface Transcript {
  readonly command: string;
  readonly output: readonly string[];
}

function transcripts(markdown: string): Transcript[] {
  const found: { command: string; output: string[] }[] = [];
  for (const [, block = ''] of markdown.matchAll(/^```console\n([\s\S]*?)^```$/gm))
    for (const line of block.trimEnd().split('\n'))
      if (line.startsWith('$ ')) found.push({ command: line.slice(2), output: [] });
      else found.at(-1)?.output.push(line);
  return found;
}

function pattern(output: readonly string[]): RegExp {
  const lines = output.map((line) =>
    line === '…'
      ? '(?:.*\n)*?'
      : `${line
          .split('…')
          .map((part) => part.replaceAll(/[$()*+.?[\\\]^{|}]/g, String.raw`\$&`))
          .join('.*')}\n`,
  );
  return new RegExp(`^${lines.join('')}$`);
}

const all = transcripts(readFileSync(path.join(REPOSITORY, 'README.md'), 'utf8'));

it('has transcripts, and the comparison can fail', () => {
  expect(all.length).toBeGreaterThan(0);
  expect('a 1\nb\nc\n').toMatch(pattern(['a …', '…', 'c']));
  expect('a 1\nb\n').not.toMatch(pattern(['a …', 'c']));
  expect('a 1\nb\n').not.toMatch(pattern(['a …']));
});

it.each(all)('$command', { timeout: COMMAND_TIMEOUT_MS }, ({ command, output }) => {
  const ended = spawnSync('sh', ['-c', command], {
    cwd: REPOSITORY,
    encoding: 'utf8',
    timeout: COMMAND_TIMEOUT_MS,
    env: { ...process.env, NO_COLOR: '1' },
  });
  expect(ended.stdout).toMatch(pattern(output));
  expect(ended.status).toBe(0);
});
