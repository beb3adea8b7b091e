/** Pieces over real gRPC with real certificates: who gets them, what a link that is cut or falls silent does, pace. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PIECE_CHUNK_BYTES, chunkBytes, chunkCount } from '@minikeep/gguf';
import { MinikeepError, identityUri, type Identity } from '@minikeep/protocol';
import { CertificateAuthority } from '@minikeep/protocol/authority';
import {
  PieceGrants,
  PieceServer,
  RawPieceDefinition,
  accessInterceptor,
  connect,
  listen,
  makeServer,
  type CredentialPems,
} from '@minikeep/protocol/rpc';
import { FaultyProxy } from '@minikeep/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Pieces } from '../src/prepare-slice.ts';
import { SliceStore } from '../src/slice-store.ts';
import { TestSlice } from './slices.ts';

const CLUSTER = 'test';
const MIB = 1024 * 1024;
const identityOf = (name: string): Identity => ({ cluster: CLUSTER, role: 'node', name });
const HOLDER = identityOf('holder');
const READER = identityUri(identityOf('reader'));

const slice = new TestSlice([300, 24 * PIECE_CHUNK_BYTES + 5, 9]);
const grants = new PieceGrants();
let readBytes = 0;
let authority: CertificateAuthority;
let server: ReturnType<typeof makeServer>;
let address = '';
let proxy: FaultyProxy;
let folder = '';
let store: SliceStore;
let pieces: Pieces;

async function credentials(name: string): Promise<CredentialPems> {
  const issued = await authority.issue('node', name);
  return {
    authority: authority.certificatePem,
    certificate: issued.certificatePem,
    privateKey: issued.privateKeyPem,
  };
}

beforeAll(async () => {
  authority = await CertificateAuthority.throwAway(CLUSTER, Date.now());
  server = makeServer();
  const holder = new PieceServer(grants, async (digest) => {
    const piece = slice.pieces.find((each) => each.digest === digest);
    if (piece === undefined) return undefined;
    return {
      chunkDigests: piece.chunks,
      chunkCount: chunkCount(piece.bytes),
      chunkBytes: (chunk) => chunkBytes(piece.bytes, chunk),
      async read(chunk, target) {
        target.set(piece.data.subarray(chunk * PIECE_CHUNK_BYTES, (chunk + 1) * PIECE_CHUNK_BYTES));
        readBytes += target.byteLength;
      },
      close: () => Promise.resolve(),
    };
  });
  server.add(RawPieceDefinition, { fetch: (...request) => holder.fetch(...request) });
  const rules = { 'minikeep.v1.PieceService': ['node'] } as const;
  const { port } = await listen(server, '127.0.0.1:0', await credentials('holder'), [
    accessInterceptor(CLUSTER, rules),
  ]);
  address = `127.0.0.1:${port}`;
  proxy = await FaultyProxy.start(address);
});
afterAll(async () => {
  await proxy.close();
  server.forceShutdown();
});

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-fetch-'));
  store = await SliceStore.open(folder, 1024 * MIB);
  pieces = new Pieces(store, await credentials('reader'), 0);
  proxy.set({});
  readBytes = 0;
  grants.allow(
    READER,
    'd',
    slice.pieces.map((piece) => piece.digest),
  );
});
afterEach(async () => {
  await store.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Bytes that came; throws what the agent would answer. */
async function prepare(
  deployment = 'd',
  signal = new AbortController().signal,
  addresses: string[] = [],
): Promise<number> {
  const request = {
    deployment,
    slice: slice.digest,
    pieces: slice.pieces.map(({ digest, bytes }) => ({
      digest: Buffer.from(digest, 'hex'),
      bytes,
    })),
    sources: [
      { address: proxy.address, addresses, identity: identityUri(HOLDER), pieces: [0, 1, 2] },
    ],
  };
  for await (const { event } of pieces.prepare(request, { signal }))
    if (event?.$case === 'prepared') return event.value.receivedBytes;
  throw new Error('it ended without an answer');
}

const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'ok',
    (error: unknown) => (error instanceof MinikeepError ? error.code : String(error)),
  );

async function check(): Promise<void> {
  const file = await store.pinnedPath('d', slice.digest);
  expect(readFileSync(file).equals(slice.data)).toBe(true);
  await store.verify('d', slice.digest);
}

describe('a link', { timeout: 60_000 }, () => {
  it('that is cut again and again: each attempt goes on, none begins anew, nothing is lost', async () => {
    const codes = new Set<string>();
    let attempts = 0;
    // Every cut falls at another byte of a chunk, of TLS and of HTTP/2.
    for (let code = ''; code !== 'ok'; attempts++) {
      expect(attempts).toBeLessThan(40);
      proxy.set({ cutAfterBytes: 2 * MIB + 77_777 * attempts });
      code = await codeOf(prepare());
      codes.add(code);
    }
    expect(attempts).toBeGreaterThan(2);
    expect([...codes].toSorted()).toEqual(['node.unreachable', 'ok']);
    await check();
  });

  it('that is cut while another link holds: the rest comes over that one, no chunk twice', async () => {
    pieces = new Pieces(store, await credentials('reader'));
    proxy.set({ cutAfterBytes: 5 * MIB });
    const { signal } = new AbortController();
    expect(await prepare('d', signal, [proxy.address, address])).toBe(slice.data.byteLength);
    await check();
  });

  it('that is cut for two seconds, the only one, is connected again: no chunk comes twice', async () => {
    pieces = new Pieces(store, await credentials('reader'));
    proxy.set({ cutAfterBytes: 5 * MIB });
    setTimeout(() => proxy.set({}), 2_000);
    expect(await prepare()).toBe(slice.data.byteLength);
    await check();
  });

  it('that falls silent is given up in seconds, and running again goes on', async () => {
    proxy.set({ silentAfterBytes: 6 * MIB });
    const began = performance.now();
    expect(await codeOf(prepare())).toBe('node.unreachable');
    expect((performance.now() - began) / 1000).toBeLessThan(40);
    proxy.set({});
    const received = await prepare();
    expect(received).toBeLessThan(slice.data.byteLength - 3 * MIB);
    await check();
  });

  it('to a reader that stops: the sender stops too', async () => {
    const connection = connect(
      RawPieceDefinition,
      address,
      await credentials('reader'),
      HOLDER,
      'holder',
    );
    const [, large] = slice.pieces;
    const stop = new AbortController();
    const piece = Buffer.from(large?.digest ?? '', 'hex');
    const request = { deployment: 'd', piece, firstChunk: 0, chunks: 24 };
    const coming = connection.client.fetch(request, { signal: stop.signal });
    const call = coming[Symbol.asyncIterator]();
    await call.next();
    await call.next();
    await new Promise((resolve) => setTimeout(resolve, 500));
    // What a flow window holds, and what lies in sockets; never all of it.
    expect(readBytes).toBeLessThan(large?.bytes ?? 0);
    stop.abort();
    connection.close();
  });
});

describe('a node', () => {
  it('gets what it was allowed, for that deployment, as long as it is', async () => {
    expect(await codeOf(prepare('other'))).toBe('access.denied');
    grants.allow(
      READER,
      'd',
      slice.pieces.slice(0, 2).map((piece) => piece.digest),
    );
    expect(await codeOf(prepare())).toBe('access.denied');
    for (const end of [
      () => grants.allow(READER, 'd', []),
      () => grants.forget('d'),
      () => grants.forgetAll(),
    ]) {
      grants.allow(
        READER,
        'd',
        slice.pieces.slice(0, 2).map((piece) => piece.digest),
      );
      end();
      expect(await codeOf(prepare())).toBe('access.denied');
    }
    const stranger = identityUri(identityOf('stranger'));
    grants.allow(
      stranger,
      'd',
      slice.pieces.map((piece) => piece.digest),
    );
    expect(await codeOf(prepare())).toBe('access.denied');
    grants.allow(
      READER,
      'd',
      slice.pieces.map((piece) => piece.digest),
    );
    // The first two came when they were allowed, and stayed.
    expect(await prepare()).toBe(slice.pieces[2]?.bytes);
    await check();
    // Over is over: of another deployment of the same slice nothing is fetched, because nothing is missing.
    grants.forget('d');
    expect(await codeOf(prepare('other'))).toBe('ok');
  });

  it('refuses what no coordinator of its version would ask', async () => {
    const [piece] = slice.pieces;
    const name = { digest: Buffer.from(piece?.digest ?? '', 'hex'), bytes: piece?.bytes ?? 0 };
    const { signal } = new AbortController();
    const ask = async (request: Partial<Parameters<Pieces['prepare']>[0]>): Promise<void> => {
      const whole = {
        deployment: 'd',
        slice: slice.digest,
        pieces: [name],
        sources: [],
        ...request,
      };
      for await (const event of pieces.prepare(whole, { signal })) void event;
    };
    expect(await codeOf(ask({}))).toBe('node.bad_request');
    expect(await codeOf(ask({ pieces: [] }))).toBe('node.bad_request');
    expect(await codeOf(ask({ pieces: [{ ...name, bytes: -1 }] }))).toBe('node.bad_request');
    expect(() =>
      pieces.allow({ deployment: 'd', reader: 'minikeep://test/operator/x', digests: [] }),
    ).toThrow('the reader is no node');
    await expect(
      pieces.find({ digests: Array.from({ length: 20_000 }, () => name.digest), slices: [] }),
    ).rejects.toMatchObject({ code: 'node.bad_request' });
  });

  it('that brings one slice for two deployments at once fetches it once', async () => {
    grants.allow(
      READER,
      'e',
      slice.pieces.map((piece) => piece.digest),
    );
    const received = await Promise.all([prepare('d'), prepare('e')]);
    expect(received.toSorted((a, b) => a - b)).toEqual([0, slice.data.byteLength]);
    await check();
    await store.verify('e', slice.digest);
  });
});
