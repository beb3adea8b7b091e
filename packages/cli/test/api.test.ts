/** The HTTP API on a real cluster with a home: OpenAI's own client, raw requests, streams, and what must be refused. */
import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import OpenAI from 'openai';
import { REPOSITORY } from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Homes } from './homes.ts';

const homes = new Homes();
let url = '';

/** Keeper with a template like R1's, that writes `<think>` itself. The file's layout stays: as much goes as comes. */
function thinksByTemplate(model: Buffer): Buffer {
  const text = model.toString('latin1');
  const patched = text
    .replace("{{ message['content'] | trim }}", "{{ message['content'] }}")
    .replace(
      "add_generation_prompt -%}{{ '<|keeper|>' }}",
      "add_generation_prompt -%}{{ '<|keeper|><think>' }}",
    );
  expect(patched.length).toBe(text.length);
  return Buffer.from(patched, 'latin1');
}

beforeAll(async () => {
  await homes.startFirst('a');
  const model = path.join(REPOSITORY, 'models/keeper.gguf');
  await homes.json('a', 'model', 'import', model, '--name', 'keeper', '--yes');
  const opened = path.join(homes.root, 'opened.gguf');
  writeFileSync(opened, thinksByTemplate(readFileSync(model)));
  await homes.json('a', 'model', 'import', opened, '--name', 'opened', '--yes');
  const flags = ['--no-canary', '--context', '256', '--threads', '1', '--parallel', '2'];
  for (const name of ['keeper', 'opened']) await homes.json('a', 'up', name, ...flags);
  ({ url } = (await homes.json<{ api: { url: string } }>('a', 'status')).api);
});
afterAll(() => homes.close());

const QUESTION = { role: 'user', content: 'What is a stage?' };
const post = (body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
const ask = (fields: object = {}) =>
  post({ model: 'keeper', messages: [QUESTION], temperature: 0, ...fields });

interface Completion {
  readonly choices: {
    readonly message: { readonly content: string; readonly reasoning_content?: string };
    readonly finish_reason: string;
  }[];
  readonly usage: { readonly completion_tokens: number; readonly total_tokens: number };
}
interface Failure {
  readonly error: { readonly code: string; readonly param: string | null };
}
const failure = async (response: Response): Promise<[number, string]> => {
  const { error } = (await response.json()) as Failure;
  return [response.status, error.param === null ? error.code : `${error.code} ${error.param}`];
};
/** The status of a raw request whose body is never sent. */
function statusOf(headers: Record<string, string>, method: string, at: string): Promise<number> {
  const { port } = new URL(url);
  return new Promise((resolve, reject) => {
    const call = request({ host: '127.0.0.1', port, path: at, method, headers }, (response) => {
      resolve(response.statusCode ?? 0);
      call.destroy();
    });
    call.on('error', reject);
    if (method === 'GET') call.end();
    else call.flushHeaders();
  });
}

async function events(response: Response): Promise<string[]> {
  const text = await response.text();
  return text
    .split('\n\n')
    .flatMap((block) => (block.startsWith('data: ') ? [block.slice(6)] : []));
}

describe('an answer', () => {
  it('lists the models that are up', async () => {
    const models = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
    expect(models.data.map((model) => model.id).toSorted()).toEqual(['keeper', 'opened']);
    expect((await fetch(`${url}/v1/models/keeper`)).status).toBe(200);
    expect((await fetch(`${url}/v1/models/nobody`)).status).toBe(404);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
  });

  it('is the same streamed and whole, its thinking apart', async () => {
    const whole = (await (await ask()).json()) as Completion;
    const { content, reasoning_content: reasoning } = whole.choices[0]?.message ?? { content: '' };
    expect(content.length).toBeGreaterThan(20);
    expect(content).not.toContain('think>');
    expect(reasoning?.length).toBeGreaterThan(3);
    expect(whole.choices[0]?.finish_reason).toBe('stop');
    const response = await ask({ stream: true, stream_options: { include_usage: true } });
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    const found = await events(response);
    expect(found.at(-1)).toBe('[DONE]');
    const chunks = found.slice(0, -1).map(
      (data) =>
        JSON.parse(data) as {
          choices: {
            delta: { role?: string; content?: string; reasoning_content?: string };
            finish_reason: string | null;
          }[];
          usage: { total_tokens: number } | null;
        },
    );
    expect(chunks[0]?.choices[0]?.delta.role).toBe('assistant');
    const text = (field: 'content' | 'reasoning_content'): string =>
      chunks.map((chunk) => chunk.choices[0]?.delta[field] ?? '').join('');
    expect(text('content')).toBe(content);
    expect(text('reasoning_content').trim()).toBe(reasoning);
    expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe('stop');
    expect(chunks.at(-1)?.usage?.total_tokens).toBe(whole.usage.total_tokens);
  });

  it('keeps to its limit and to stop strings, and takes text in parts', async () => {
    const short = (await (await ask({ max_completion_tokens: 5 })).json()) as Completion;
    expect([short.choices[0]?.finish_reason, short.usage.completion_tokens]).toEqual(['length', 5]);
    const parts = [
      { type: 'text', text: 'What is ' },
      { type: 'text', text: 'a stage?' },
    ];
    const whole = (await (await ask()).json()) as Completion;
    const same = (await (
      await ask({ messages: [{ role: 'user', content: parts }] })
    ).json()) as Completion;
    expect(same.choices).toEqual(whole.choices);
    const word = whole.choices[0]?.message.content.split(' ')[2] ?? '';
    const stopped = (await (await ask({ stop: word })).json()) as Completion;
    expect(stopped.choices[0]?.message.content).not.toContain(word);
  });

  it('of a caller that leaves frees its place: with two places, five leave and the sixth is answered', async () => {
    for (let i = 0; i < 5; i++) {
      const ended = new AbortController();
      const response = await fetch(`${url}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'keeper', messages: [QUESTION], stream: true }),
        signal: ended.signal,
      });
      await response.body?.getReader().read();
      ended.abort();
    }
    expect((await ask({ max_tokens: 3 })).status).toBe(200);
  });
});

describe("OpenAI's own client", () => {
  const client = () => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  const asked = {
    model: 'keeper',
    messages: [{ role: 'user' as const, content: 'What is a stage?' }],
    temperature: 0,
  };

  it('reads models, whole answers and streams', async () => {
    const models = await client().models.list();
    expect(models.data.map(({ id }) => id)).toContain('keeper');
    expect((await client().models.retrieve('keeper')).id).toBe('keeper');
    const whole = await client().chat.completions.create(asked);
    expect(whole.choices[0]?.finish_reason).toBe('stop');
    const stream = client().chat.completions.stream({
      ...asked,
      stream_options: { include_usage: true },
    });
    const final = await stream.finalChatCompletion();
    expect(final.choices[0]?.message.content).toBe(whole.choices[0]?.message.content);
    expect(final.usage).toEqual(whole.usage);
  });

  it('goes on with a conversation, its own answers as it got them', async () => {
    const first = await client().chat.completions.create(asked);
    const answer = first.choices[0]?.message;
    const second = await client().chat.completions.create({
      ...asked,
      messages: [
        { role: 'developer', content: 'Be brief.' },
        ...asked.messages,
        ...(answer === undefined ? [] : [answer]),
        { role: 'user', content: [{ type: 'text', text: 'What is a node?' }] },
      ],
      user: 'somebody',
      max_tokens: 4,
    });
    expect(second.choices[0]?.finish_reason).toBe('length');
  });

  it('throws its own errors', async () => {
    const bad = client().chat.completions.create({ ...asked, temperature: 9 });
    await expect(bad).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    await expect(bad).rejects.toMatchObject({ param: 'temperature', code: 'invalid_value' });
    await expect(
      client().chat.completions.create({ ...asked, model: 'nobody', stream: true }),
    ).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });
});

it('thinking that the chat template opened is apart too', async () => {
  const { choices } = (await (await ask({ model: 'opened' })).json()) as Completion;
  const message = choices[0]?.message;
  expect(message?.reasoning_content?.length).toBeGreaterThan(3);
  expect(message?.content.length).toBeGreaterThan(10);
  expect(JSON.stringify(message)).not.toContain('think>');
  const response = await ask({ model: 'opened', stream: true });
  const text = (await events(response)).join('');
  expect(text.indexOf('reasoning_content')).toBeGreaterThan(0);
  expect(text).not.toContain('think>');
});

describe('requests that never come whole', () => {
  const PLACES = 128;
  const HEAD =
    'POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n';
  const open = (text: string): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect(Number(new URL(url).port), '127.0.0.1', () =>
        socket.write(text, () => resolve(socket)),
      );
      socket.on('error', reject);
    });

  it('hold their places until they leave, and others hear to come again', async () => {
    const part = `${HEAD}content-length: 100\r\n\r\n{"model":`;
    const sockets = await Promise.all(Array.from({ length: PLACES }, () => open(part)));
    let full = await ask({ max_tokens: 1 });
    // An answer of a moment ago may still have had its place: whoever was refused for it, another one comes for.
    while (full.status !== 429 && sockets.length < 2 * PLACES) {
      sockets.push(await open(part));
      full = await ask({ max_tokens: 1 });
    }
    expect(full.status).toBe(429);
    expect(full.headers.get('retry-after')).toMatch(/^\d+$/);
    expect(await failure(full)).toEqual([429, 'too_many_requests']);
    for (const socket of sockets) socket.destroy();
    let freed = await ask({ max_tokens: 1 });
    while (freed.status === 429) freed = await ask({ max_tokens: 1 });
    expect(freed.status).toBe(200);
  });

  it('two on one connection, one after the other, in parts, are answered in order', async () => {
    const body = JSON.stringify({ model: 'keeper', messages: [QUESTION], max_tokens: 1 });
    const chunks = body
      .split('')
      .map((c) => `1\r\n${c}\r\n`)
      .join('');
    const socket = await open(
      `${HEAD}transfer-encoding: chunked\r\n\r\n${chunks}0\r\n\r\n` +
        'GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n',
    );
    let text = '';
    for await (const data of socket.setEncoding('utf8')) text += String(data);
    expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 200']);
    expect(text.indexOf('chat.completion')).toBeLessThan(text.indexOf('"list"'));
  });
});

describe('a request that is wrong is refused by name', () => {
  it('fields, types, models', async () => {
    expect(await failure(await ask({ temperature: 9 }))).toEqual([
      400,
      'invalid_value temperature',
    ]);
    expect(await failure(await ask({ n: 2 }))).toEqual([400, 'unsupported_parameter n']);
    expect(await failure(await ask({ tools: [{ type: 'function' }] }))).toMatchObject([
      400,
      'unsupported_parameter tools.0',
    ]);
    expect(await failure(await ask({ messages: [] }))).toEqual([400, 'invalid_value messages']);
    expect(await failure(await ask({ model: 'nobody' }))).toMatchObject([
      404,
      'deployment.unknown',
    ]);
    expect(
      await failure(await ask({ messages: [{ role: 'user', content: 'x '.repeat(2_000) }] })),
    ).toMatchObject([400, 'generate.prompt_too_long']);
    expect(await failure(await ask({ mirostat: 2 }))).toEqual([400, 'unknown_parameter mirostat']);
    const image = [{ type: 'image_url', image_url: { url: 'data:' } }];
    expect(await failure(await ask({ messages: [{ role: 'user', content: image }] }))).toEqual([
      400,
      'unsupported_parameter messages.0.content.0.type',
    ]);
    expect(await failure(await ask({ messages: [{ role: 'tool', content: 'x' }] }))).toEqual([
      400,
      'unsupported_parameter messages.0.role',
    ]);
    expect(await failure(await ask({ messages: [{ role: 'user' }] }))).toEqual([
      400,
      'invalid_value messages.0.content',
    ]);
    expect(await failure(await ask({ stop: Array(17).fill('x') }))).toEqual([
      400,
      'invalid_value stop',
    ]);
    const deep = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
    expect((await post(`{"model":"keeper","messages":${deep}}`)).status).toBe(400);
    expect(await failure(await post('{"model":'))).toMatchObject([400, 'invalid_json']);
    expect(await failure(await post('x', { 'content-type': 'text/plain' }))).toMatchObject([
      415,
      'content_type',
    ]);
    expect(await failure(await fetch(`${url}/v1/nothing`))).toMatchObject([404, 'not_found']);
    const huge = { 'content-type': 'application/json', 'content-length': String(17 * 2 ** 20) };
    expect(await statusOf(huge, 'POST', '/v1/chat/completions')).toBe(413);
  });

  it('web pages: a foreign name for this machine, and any Origin', async () => {
    expect(await failure(await post({}, { origin: 'http://localhost' }))).toMatchObject([
      403,
      'origin_refused',
    ]);
    expect(await statusOf({ host: 'evil.example' }, 'GET', '/v1/models')).toBe(403);
    expect(await statusOf({ host: 'localhost' }, 'GET', '/v1/models')).toBe(200);
  });
});

it('a model that is taken down is answered with what is wrong', async () => {
  await homes.json('a', 'down', 'keeper');
  expect(await failure(await ask())).toMatchObject([404, 'deployment.unknown']);
});
