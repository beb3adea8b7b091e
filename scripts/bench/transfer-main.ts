/**
 * The two ends of the bench's transfer, each a process of its own: `send` serves a model's pieces as a coordinator does
 * and, beside it, the file as it is over mTLS; `receive` fetches one or the other onto its disk. One JSON line each way.
 * Both ways end with the bytes on the disk (fsync).
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { open, readFile, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import { connect as connectTls, createServer, type TLSSocket } from 'node:tls';
import { Pieces } from '../../packages/agent/src/prepare-slice.ts';
import { SliceStore } from '../../packages/agent/src/slice-store.ts';
import { PieceOrigin, originPieces } from '../../packages/coordinator/src/piece-origin.ts';
import { openModel, planSlices, sliceDigest } from '../../packages/gguf/src/index.ts';
import { ModelLibrary } from '../../packages/models/src/index.ts';
import { identityUri, type Identity } from '../../packages/protocol/src/index.ts';
import {
  RawPieceDefinition,
  accessInterceptor,
  listen,
  makeServer,
  type CredentialPems,
} from '../../packages/protocol/src/rpc-index.ts';

const CLUSTER = 'bench';
const DEPLOYMENT = 'bench';
const SENDER: Identity = { cluster: CLUSTER, role: 'coordinator', name: 'sender' };
const READER: Identity = { cluster: CLUSTER, role: 'node', name: 'reader' };
/** What cat does. */
const CAT_BYTES = 128 * 1024;

const say = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async <T>(): Promise<T | undefined> => {
  const { value, done } = await lines.next();
  return done === true ? undefined : (JSON.parse(value) as T);
};

interface Start {
  readonly role: 'send' | 'receive';
  readonly credentials: CredentialPems;
  readonly folder: string;
  /** The model's file, of the sender. */
  readonly file: string;
}

const start = await next<Start>();
if (start === undefined) throw new Error('nothing to do');
const { credentials, folder } = start;
const tls = {
  ca: credentials.authority,
  cert: credentials.certificate,
  key: credentials.privateKey,
  minVersion: 'TLSv1.3',
} as const;
await (start.role === 'send' ? send(start.file) : receive());

async function send(file: string): Promise<void> {
  const origin = new PieceOrigin();
  const server = makeServer();
  server.add(RawPieceDefinition, origin.service);
  const access = accessInterceptor(CLUSTER, { 'minikeep.v1.PieceService': ['node'] });
  const { port } = await listen(server, '127.0.0.1:0', credentials, [access]);
  const model = await openModel(file);
  const [slice] = planSlices(model, []);
  if (slice === undefined) throw new Error('no slice');
  const source = await new ModelLibrary(folder).sourceOf(model);
  const pieces = await originPieces(source, slice, new AbortController().signal);
  origin.offer(DEPLOYMENT, pieces);
  const digests = pieces.map(({ digest }) => digest);
  origin.grants.allow(identityUri(READER), DEPLOYMENT, digests);
  const cat = createServer({ ...tls, requestCert: true }, (socket: TLSSocket) => {
    // The reader leaves when it has all: no fault.
    pipeline(createReadStream(file, { highWaterMark: CAT_BYTES }), socket).catch(() => {});
  });
  await new Promise<void>((resolve) => cat.listen(0, '127.0.0.1', resolve));
  say({
    address: `127.0.0.1:${port}`,
    catPort: (cat.address() as AddressInfo).port,
    bytes: model.sizeBytes,
    pieces: pieces.map(({ digest, bytes }) => ({ digest, bytes })),
  });
  while ((await next()) !== undefined) say({ cpuSeconds: cpuSeconds() });
  process.exit();
}

/** User and system time of this process so far. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

interface Round {
  readonly way: 'pieces' | 'cat';
  readonly address: string;
  readonly catPort: number;
  readonly pieces: readonly { readonly digest: string; readonly bytes: number }[];
}

async function receive(): Promise<void> {
  say({});
  for (let round = await next<Round>(); round !== undefined; round = await next<Round>()) {
    const own = path.join(folder, 'received');
    await rm(own, { recursive: true, force: true });
    const [began, cpuBefore] = [performance.now(), cpuSeconds()];
    await (round.way === 'cat' ? receiveCat(round.catPort, own) : receivePieces(round, own));
    const seconds = (performance.now() - began) / 1000;
    const status = await readFile('/proc/self/status', 'latin1');
    const peakMiB = Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
    say({ seconds, peakMiB, cpuSeconds: cpuSeconds() - cpuBefore });
  }
}

async function receiveCat(port: number, file: string): Promise<void> {
  const socket = connectTls({
    ...tls,
    port,
    host: '127.0.0.1',
    checkServerIdentity: () => undefined,
  });
  await pipeline(socket, createWriteStream(file));
  const handle = await open(file);
  await handle.sync();
  await handle.close();
}

async function receivePieces({ address, pieces }: Round, own: string): Promise<void> {
  const store = await SliceStore.open(own, 0);
  const agent = new Pieces(store, credentials);
  const request = {
    deployment: DEPLOYMENT,
    slice: sliceDigest(pieces),
    pieces: pieces.map(({ digest, bytes }) => ({ digest: Buffer.from(digest, 'hex'), bytes })),
    sources: [
      { address, addresses: [], identity: identityUri(SENDER), pieces: [...pieces.keys()] },
    ],
  };
  const { signal } = new AbortController();
  for await (const { event } of agent.prepare(request, { signal }))
    if (event?.$case === 'sourceFailed') throw new Error(event.value.error?.message);
}
