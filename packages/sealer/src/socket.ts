/**
 * How the agent talks with the root helper: one request and one answer a connection, JSON lines, over a socket that only
 * the agent's user can open. The verbs are `status` and `order`; there are no others.
 */
import { MinikeepError } from '@minikeep/protocol';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import path from 'node:path';
import { z } from 'zod';
import type { SealKeeper, SealerStatus } from './keeper.ts';
import { orderSchema, type SealOrder } from './order.ts';

const LINE_BYTES_MAX = 2 ** 19;
const CONNECTIONS_MAX = 8;
const ASK_MS = 5_000;
/** nft may take its ten seconds, twice. */
const ANSWER_MS = 30_000;

const requestSchema = z.discriminatedUnion('verb', [
  z.strictObject({ verb: z.literal('status') }),
  z.strictObject({ verb: z.literal('order'), order: orderSchema }),
]);
type SealerRequest = z.infer<typeof requestSchema>;

const answerSchema = z.union([
  z.strictObject({
    status: z.strictObject({
      stage: z.enum(['open', 'pending', 'confirmed']),
      order: z.string(),
      sinceMs: z.number(),
      standing: z.boolean(),
      restored: z.number(),
      restoredAtMs: z.number(),
      dropped: z.record(z.string(), z.number()),
      nonce: z.string(),
      trouble: z.string(),
    }),
  }),
  z.strictObject({
    error: z.strictObject({ code: z.string(), message: z.string(), next: z.string() }),
  }),
]);
type SealerAnswer = z.infer<typeof answerSchema>;

export interface SealerSocket {
  close(): Promise<void>;
}

/** `uid`: whose agent may ask. The socket's folder is made, root's. */
export async function serveSealer(
  keeper: SealKeeper,
  file: string,
  uid: number,
): Promise<SealerSocket> {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o755 });
  rmSync(file, { force: true });
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket)).on('error', () => socket.destroy());
    void answerOne(keeper, socket);
  });
  server.maxConnections = CONNECTIONS_MAX;
  // Nobody can open it before it is its user's.
  const before = process.umask(0o177);
  try {
    server.listen(file);
    await once(server, 'listening');
  } finally {
    process.umask(before);
  }
  chownSync(file, uid, 0);
  chmodSync(file, 0o600);
  return {
    async close() {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

async function answerOne(keeper: SealKeeper, socket: Socket): Promise<void> {
  try {
    const request = requestSchema.parse(JSON.parse(await line(socket, ASK_MS)));
    socket.end(`${JSON.stringify(await answer(keeper, request))}\n`);
  } catch {
    // Not our agent's language, or gone.
    socket.destroy();
  }
}

async function answer(keeper: SealKeeper, request: SealerRequest): Promise<SealerAnswer> {
  if (request.verb === 'status') return { status: keeper.status() };
  try {
    return { status: await keeper.order(request.order) };
  } catch (error) {
    const known = error instanceof MinikeepError;
    return {
      error: {
        code: known ? error.code : 'seal.helper_failed',
        message: String(error instanceof Error ? error.message : error),
        next: known ? error.next : 'See the root helper’s log on that node.',
      },
    };
  }
}

/** Throws `seal.no_helper`, `seal.helper_answer`, and what the helper says. */
export async function askSealer(file: string, order?: SealOrder): Promise<SealerStatus> {
  const request: SealerRequest =
    order === undefined ? { verb: 'status' } : { verb: 'order', order };
  const socket = connect(file);
  try {
    await connected(socket, file);
    socket.write(`${JSON.stringify(request)}\n`);
    const parsed = answerSchema.safeParse(json(await line(socket, ANSWER_MS).catch(() => '')));
    if (!parsed.success) throw badAnswer(file);
    if ('status' in parsed.data) return parsed.data.status;
    const { code, message, next } = parsed.data.error;
    throw new MinikeepError(code, message, { next });
  } finally {
    socket.destroy();
  }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function connected(socket: Socket, file: string): Promise<void> {
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(ASK_MS) });
  } catch (cause) {
    throw new MinikeepError('seal.no_helper', `nobody answers at ${file}`, {
      next: 'Install the root helper on that node: sudo minikeep service install --seal node.',
      cause,
    });
  }
}

/** Up to the first line's end; at most LINE_BYTES_MAX. */
function line(socket: Socket, milliseconds: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let bytes = 0;
    const timer = setTimeout(() => done(new Error('no line in time')), milliseconds);
    const done = (result: Error | string): void => {
      clearTimeout(timer);
      socket.off('data', take).off('error', done).off('end', ended);
      if (typeof result === 'string') resolve(result);
      else reject(result);
    };
    const ended = (): void => done(new Error('ended before a line'));
    const take = (piece: Buffer): void => {
      const end = piece.indexOf(0x0a);
      pieces.push(end === -1 ? piece : piece.subarray(0, end));
      bytes += piece.byteLength;
      if (bytes > LINE_BYTES_MAX) done(new Error('too long a line'));
      else if (end !== -1) done(Buffer.concat(pieces).toString('utf8'));
    };
    socket.on('data', take).once('error', done).once('end', ended);
  });
}

const badAnswer = (file: string): MinikeepError =>
  new MinikeepError('seal.helper_answer', `what answers at ${file} is not minikeep’s root helper`, {
    next: 'Restart it on that node: sudo minikeep service install --seal node.',
  });
