/** A chat on a real terminal (tmux): answers, Ctrl-C stops one, history, leaving; nothing left behind. */
import { needCommand, randomModelFile, REPOSITORY } from '@minikeep/testkit';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { treeOf } from './cluster-helpers.ts';
import { Place } from './nothing-left.ts';
import { SANDBOX_FLAGS } from './sandbox-flags.ts';

const place = new Place();
const socket = `minikeep-test-${process.pid}`;
const tmux = (...args: string[]): string =>
  execFileSync('tmux', ['-L', socket, '-f', '/dev/null', ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });

afterAll(() => {
  try {
    tmux('kill-server');
  } catch {
    // It was never started, or is gone with its last window.
  }
  place.remove();
});

const screen = (): string => tmux('capture-pane', '-p', '-S', '-500', '-t', 'chat');
const type = (...keys: string[]): string => tmux('send-keys', '-t', 'chat', ...keys);

async function shows(pattern: RegExp, timeout = 60_000): Promise<void> {
  await expect.poll(screen, { timeout, interval: 100 }).toMatch(pattern);
}

it('is a conversation', { timeout: 240_000 }, async (ctx) => {
  needCommand(ctx, 'tmux', 'tmux');
  const model = await randomModelFile('llama', { layers: 4 });
  const command = [
    path.join(REPOSITORY, 'minikeep'),
    'run',
    model,
    '--threads=1',
    '--context=4096',
    '--temperature=0',
    ...SANDBOX_FLAGS,
  ];
  const env = Object.entries(place.env).flatMap(([key, value]) => ['-e', `${key}=${value}`]);
  const quoted = command.map((word) => `'${word}'`).join(' ');
  tmux(
    'new-session',
    '-d',
    '-s',
    'chat',
    '-x',
    '100',
    '-y',
    '30',
    ...env,
    `${quoted}; echo "left with $?"; sleep 60`,
  );
  await shows(/2 nodes are ready/);
  await shows(/^>\s*$/m);
  const shell = Number(tmux('list-panes', '-t', 'chat', '-F', '#{pane_pid}'));
  expect(treeOf([shell]).length).toBeGreaterThan(5);

  type('/help', 'Enter');
  await shows(/Ctrl-C stops an answer/);
  type('/nonsense', 'Enter');
  await shows(/There is no \/nonsense/);

  // To this question these random weights have thousands of tokens to say: only Ctrl-C ends it soon.
  type('why', 'Enter');
  await shows(/^> why\s*\n\S/m);
  // What is typed meanwhile does not show in the middle of the answer, and is there at the next prompt.
  type('later');
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(screen()).not.toContain('later');
  type('C-c');
  await shows(/^> later$/m);
  // Typed text is cleared before a Ctrl-C leaves.
  type('C-c');
  await shows(/^> later\^C\s+^>\s*$/m);
  const stopped = screen();
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(screen()).toBe(stopped);

  tmux('set-buffer', 'first line\nsecond line\nthird line');
  tmux('paste-buffer', '-p', '-t', 'chat');
  await shows(/^> first line\n… second line\n… third line\s*$/m);
  type('C-c');
  await shows(/^… third line\^C\s+^>\s*$/m);

  type('/clear', 'Enter');
  await shows(/The conversation is forgotten/);
  // The history, newest first: /clear, then the question.
  type('Up', 'Up');
  await shows(/> why$/m);
  type('C-u', '/exit', 'Enter');
  await shows(/left with 0/);
  tmux('kill-server');
  await place.expectNothingLeft();
});
