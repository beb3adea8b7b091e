/** A reader that stops reading is cut off, and its answer ended; one that is only slow gets everything. */
import { once } from 'node:events';
import type { Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { createAdaptorServer, type HttpBindings } from '@hono/node-server';
import { FinishReason, type GenerateDone, type GenerateResponse } from '@minikeep/protocol/v1';
import { Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import { afterEach, expect, it } from 'vitest';
import { streamCompletion } from '../src/api/chat.ts';
import { patientWrites } from '../src/api/patient-write.ts';

// Far beyond any pause of a busy machine: a timer that fires late looks like a reader that stopped.
const LIMIT_MS = 4_000;
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close().closeAllConnections();
});

/** Streams this many tokens of 64 KiB; resolves `over` with how many were taken when the answer is over. */
async function serve(tokens: number): Promise<{ port: number; over: Promise<number> }> {
  let taken = 0;
  let tell: (count: number) => void;
  const over = new Promise<number>((resolve) => (tell = resolve));
  async function* answer(): AsyncGenerator<GenerateResponse> {
    const text = 'x'.repeat(65_536);
    for (; taken < tokens; taken++) yield { event: { $case: 'token', value: { id: 1, text } } };
    yield { event: { $case: 'done', value: { ...DONE, completionTokens: taken } } };
  }
  const app = new Hono<{ Bindings: HttpBindings }>();
  app.get('/', (context) => {
    const { outgoing } = context.env;
    const writes = patientWrites(LIMIT_MS, () => outgoing.destroy());
    const asked = { model: 'm', stream: true, includeUsage: false, generate: GENERATE };
    return streamSSE(context, async (stream) => {
      await streamCompletion(stream, asked, answer(), writes)
        .catch(() => {})
        .finally(() => tell(taken));
    });
  });
  const server = createAdaptorServer({ fetch: app.fetch }) as Server;
  servers.push(server);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return { port: (server.address() as AddressInfo).port, over };
}

const GENERATE = { prompt: undefined, sampling: undefined, maxTokens: 0, outputGuard: 0 as const };
const DONE: GenerateDone = {
  finishReason: FinishReason.FINISH_REASON_STOP,
  tokenIds: [],
  promptTokens: 1,
  completionTokens: 0,
  promptTokensPerSecond: 0,
  decodeTokensPerSecond: 0,
  stages: [],
  sealed: 0,
  violations: 0,
  firstTokenSeconds: 0,
  totalSeconds: 0,
  queueSeconds: 0,
  outputGuard: 0 as const,
  outputFound: 0,
};
const ASK = 'GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n';

it('one that stopped: its connection and its answer end', async () => {
  const { port, over } = await serve(100_000);
  const socket = connect(port, '127.0.0.1', () => socket.write(ASK));
  socket.on('error', () => {});
  const taken = await over;
  // Only what fits into the system's buffers was ever made.
  expect(taken).toBeLessThan(2_000);
  socket.resume();
  await once(socket, 'close');
});

it('one that pauses again and again gets everything', async () => {
  const { port, over } = await serve(200);
  const socket = connect(port, '127.0.0.1', () => socket.write(ASK));
  let tail = '';
  for await (const data of socket.setEncoding('utf8')) {
    tail = (tail + String(data)).slice(-200);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  expect(await over).toBe(200);
  expect(tail).toContain('[DONE]');
});
