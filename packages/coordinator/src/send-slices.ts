/**
 * Brings a deployment's slices to its nodes: asks every node what it holds, tells each from where it gets the rest, and
 * lets it fetch that and nothing else. All nodes at once; a node's own slices one after the other.
 */
import { setTimeout as setTimer } from 'node:timers/promises';
import { sliceDigest, summarise, type SlicePlan } from '@minikeep/gguf';
import type { ModelSource } from '@minikeep/models';
import { formatBytes } from '@minikeep/planner';
import {
  CALL_TIMEOUT_MS,
  KEEPALIVE_IDLE_MS,
  KEEPALIVE_TIMEOUT_MS,
  MinikeepError,
  RECONNECT_MS,
  identityUri,
} from '@minikeep/protocol';
import { ConnectionFault, deadline } from '@minikeep/protocol/rpc';
import type { PrepareSliceRequest } from '@minikeep/protocol/v1';
import type { Coming } from './forecast.ts';
import type { NodeLink, OwnPlace } from './node-link.ts';
import { originPieces, type OriginPiece, type PieceOrigin } from './piece-origin.ts';
import { planTransfers, type Grant, type TransferPlan } from './transfer-plan.ts';

/** Pieces in one question to a node; a model of 61 layers in ten slices has about a hundred. */
const PIECES_ASKED_MAX = 16_384;
const NOTHING = { fromHere: 0, fromNodes: 0 };
/** Between two attempts to reach a node whose connection broke. */
const RETRY_MS = 500;
/** Until a silent connection is known to be broken. */
const NOTICED_MS = KEEPALIVE_IDLE_MS + KEEPALIVE_TIMEOUT_MS;
const LAYER = /^layer (\d+)/;

export interface SliceForNode {
  readonly node: NodeLink;
  readonly plan: SlicePlan;
}

export interface PlacedSlice extends SliceForNode {
  /** Names its bytes (`sliceDigest`), lower-case hex. */
  readonly sha256: string;
  /** What went over the network; 0: the node had all of it. */
  readonly receivedBytes: number;
}

export interface SendOptions {
  readonly deployment: string;
  readonly source: ModelSource;
  readonly origin: PieceOrigin;
  /** Every node of the cluster: those that have no part in the deployment may hold layers of it. */
  readonly nodes: readonly NodeLink[];
  /** Where nodes reach this coordinator, and its certificate's name. */
  readonly own: OwnPlace;
  readonly signal: AbortSignal;
  onProgress(doneBytes: number, totalBytes: number): void;
}

interface Work extends SliceForNode {
  readonly pieces: readonly OriginPiece[];
}

/** Returns the slices in the order given, each with its digest. Throws `store.*`, `gguf.*`, `node.*`. */
export async function sendSlices(
  slices: readonly SliceForNode[],
  options: SendOptions,
): Promise<PlacedSlice[]> {
  const { deployment, origin, signal } = options;
  const { work, plan } = await survey(slices, options);
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  origin.offer(
    deployment,
    work.flatMap(({ pieces }) => pieces),
  );
  try {
    await allow(plan.grants, options, either);
    const progress = new Sum(work, options);
    const placed: PlacedSlice[] = [];
    const perNode = new Map<NodeLink, number[]>();
    for (const [i, { node }] of work.entries())
      perNode.set(node, [...(perNode.get(node) ?? []), i]);
    await Promise.all(
      [...perNode.values()].map(async (mine) => {
        for (const i of mine)
          placed[i] = await prepare(i, work, plan, { ...options, signal: either }, progress);
      }),
    );
    return placed;
  } catch (error) {
    // The others must not go on once one has failed.
    failed.abort(error);
    throw error;
  } finally {
    origin.withdraw(deployment);
    await forbid(plan.grants, options);
  }
}

/**
 * Whether all of it can be had and kept, on every node, before a byte is sent; returns what will be sent. Throws `store.layers_missing`,
 * `store.disk_full`, `node.*`.
 */
export async function checkTransfers(
  slices: readonly SliceForNode[],
  options: Pick<SendOptions, 'source' | 'nodes' | 'signal'>,
): Promise<Coming[]> {
  const { work, plan } = await survey(slices, options);
  return work.map(({ node }, i) => ({ node, ...(plan.fetched[i] ?? NOTHING) }));
}

async function survey(
  slices: readonly SliceForNode[],
  options: Pick<SendOptions, 'source' | 'nodes' | 'signal'>,
): Promise<{ work: Work[]; plan: TransferPlan }> {
  const { source, signal } = options;
  const work: Work[] = [];
  for (const slice of slices)
    work.push({ ...slice, pieces: await originPieces(source, slice.plan, signal) });
  const { holdings, full } = await holdingsOf(work, options);
  const plan = planTransfers(
    work.map(({ node, pieces }) => ({ node: node.name, pieces })),
    holdings,
  );
  if (plan.missing.length > 0) throw layersMissing(source, work, plan);
  if (full.length > 0) throw noRoomOnDisk(full);
  return { work, plan };
}

/** Adds the slices' progress up. */
class Sum {
  readonly #done: number[];
  readonly #total: number;
  readonly #options: SendOptions;

  constructor(work: readonly Work[], options: SendOptions) {
    this.#done = work.map(() => 0);
    this.#total = work.reduce((sum, { plan }) => sum + plan.bytes, 0);
    this.#options = options;
    options.onProgress(0, this.#total);
  }

  at(slice: number, doneBytes: number): void {
    this.#done[slice] = Math.max(this.#done[slice] ?? 0, doneBytes);
    this.#options.onProgress(
      this.#done.reduce((sum, done) => sum + done, 0),
      this.#total,
    );
  }
}

/** A node whose connection breaks is asked again, over another of its links if it has one: it goes on with what it has. */
async function prepare(
  index: number,
  work: readonly Work[],
  plan: TransferPlan,
  options: SendOptions,
  progress: Sum,
): Promise<PlacedSlice> {
  let heardMs = performance.now();
  for (;;) {
    try {
      return await attempt(index, work, plan, options, (doneBytes) => {
        heardMs = performance.now();
        progress.at(index, doneBytes);
      });
    } catch (error) {
      options.signal.throwIfAborted();
      if (!(error instanceof ConnectionFault)) throw error;
      if (performance.now() - heardMs >= RECONNECT_MS + NOTICED_MS) throw error;
    }
    await setTimer(RETRY_MS, undefined, { signal: options.signal }).catch(() => {});
    options.signal.throwIfAborted();
  }
}

async function attempt(
  index: number,
  work: readonly Work[],
  plan: TransferPlan,
  { deployment, nodes, own, signal }: SendOptions,
  onProgress: (doneBytes: number) => void,
): Promise<PlacedSlice> {
  const mine = work[index];
  if (mine === undefined) throw new Error('a slice beyond the last');
  const { node, pieces } = mine;
  const sha256 = sliceDigest(pieces);
  const request: PrepareSliceRequest = {
    deployment,
    slice: sha256,
    pieces: pieces.map(({ digest, bytes }) => ({ digest: Buffer.from(digest, 'hex'), bytes })),
    sources: (plan.sources[index] ?? []).map((source) => {
      const peer = nodes.find((each) => each.name === source.node);
      const addresses = [...(peer?.waysFromElsewhere ?? own.addressesFor(node))];
      return {
        address: addresses[0] ?? '',
        addresses,
        identity: peer === undefined ? own.uri : identityUri(peer.identity),
        pieces: [...source.pieces],
      };
    }),
  };
  // No deadline for the whole: a slice may take hours. The connection's keepalive ends a transfer to nobody.
  for await (const { event } of node.agent.prepareSlice(request, { signal })) {
    if (event?.$case === 'progress') onProgress(event.value.doneBytes);
    if (event?.$case !== 'prepared') continue;
    onProgress(mine.plan.bytes);
    return { node, plan: mine.plan, sha256, receivedBytes: event.value.receivedBytes };
  }
  throw new MinikeepError(
    'store.slice_rejected',
    `node ${node.name} stopped putting a slice together without a word`,
    { next: 'Look at that node, then deploy again.' },
  );
}

/** What each node that answers holds of the wanted pieces, and whose disk can't take its slices. Only those of the deployment have to answer. */
async function holdingsOf(
  work: readonly Work[],
  { nodes, signal }: Pick<SendOptions, 'nodes' | 'signal'>,
): Promise<{ holdings: Map<string, ReadonlySet<string>>; full: FullDisk[] }> {
  const wanted = [...new Set(work.flatMap(({ pieces }) => pieces.map((piece) => piece.digest)))];
  const digests = wanted.slice(0, PIECES_ASKED_MAX).map((digest) => Buffer.from(digest, 'hex'));
  const needed = new Set(work.map(({ node }) => node));
  const asked = [...new Set([...needed, ...nodes.filter((node) => node.up)])];
  const full: FullDisk[] = [];
  const answers = await Promise.allSettled(
    asked.map(async (node) => {
      const mine = work.filter((each) => each.node === node);
      const slices = mine.map(({ pieces, plan: { bytes } }) => ({
        slice: sliceDigest(pieces),
        bytes,
      }));
      const { held, neededBytes, roomBytes, folder } = await node.agent.findPieces(
        { digests, slices },
        { signal: deadline(CALL_TIMEOUT_MS, signal) },
      );
      if (neededBytes > roomBytes)
        full.push({ node: node.name, neededBytes, roomBytes, folder: folder.slice(0, 400) });
      return [
        node.name,
        new Set(held.map((digest) => Buffer.from(digest).toString('hex'))),
      ] as const;
    }),
  );
  const holdings = new Map<string, ReadonlySet<string>>();
  for (const [i, answer] of answers.entries())
    if (answer.status === 'fulfilled') holdings.set(...answer.value);
    else if (asked[i] !== undefined && needed.has(asked[i])) throw answer.reason;
  return { holdings, full };
}

/** Tells every source who may fetch what; a node that can't be told is asked in vain, and the next source goes on. */
async function allow(
  grants: readonly Grant[],
  options: SendOptions,
  signal: AbortSignal,
): Promise<void> {
  await Promise.allSettled(grants.map((grant) => tell(grant, grant.digests, options, signal)));
}

async function forbid(grants: readonly Grant[], options: SendOptions): Promise<void> {
  await Promise.allSettled(
    grants.flatMap((grant) => (grant.from === undefined ? [] : [tell(grant, [], options)])),
  );
}

async function tell(
  { from, reader }: Grant,
  digests: readonly string[],
  { deployment, nodes, origin }: SendOptions,
  signal?: AbortSignal,
): Promise<void> {
  const identity = nodes.find((node) => node.name === reader)?.identity;
  if (identity === undefined) throw new Error(`${reader} is no node`);
  if (from === undefined) {
    origin.grants.allow(identityUri(identity), deployment, digests);
    return;
  }
  await nodes
    .find((node) => node.name === from)
    ?.agent.allowPieces(
      {
        deployment,
        reader: identityUri(identity),
        digests: digests.map((digest) => Buffer.from(digest, 'hex')),
      },
      { signal: deadline(CALL_TIMEOUT_MS, signal) },
    );
}

interface FullDisk {
  readonly node: string;
  readonly neededBytes: number;
  readonly roomBytes: number;
  readonly folder: string;
}

/** Every node whose disk is too full, at once: they are mended together. */
function noRoomOnDisk(full: readonly FullDisk[]): MinikeepError {
  const each = full.map(
    ({ node, neededBytes, roomBytes, folder }) =>
      `node ${node} has to write ${formatBytes(neededBytes)} to ${folder}, where there is room for ${formatBytes(roomBytes)}`,
  );
  const nodes = full.map(({ node }) => node).toSorted();
  return new MinikeepError('store.disk_full', `${each.toSorted().join('; ')}; nothing was sent`, {
    next: `Free space on ${nodes.join(', ')} (slices that no deployment uses are counted as free already), or leave ${nodes.length === 1 ? 'it' : 'them'} out: minikeep up NAME --nodes …`,
    details: { nodes: nodes.join(',') },
  });
}

/** Names what nobody has: layers by their numbers, and the file on the disk that is away. */
function layersMissing(
  { missing }: ModelSource,
  work: readonly Work[],
  plan: TransferPlan,
): MinikeepError {
  const names = plan.missing.map(({ slice, piece }) => work[slice]?.pieces[piece]?.name ?? '');
  const layers = names.flatMap((name) => LAYER.exec(name)?.[1] ?? []).map(Number);
  const others = names.filter((name) => !LAYER.test(name));
  const parts = [...(layers.length > 0 ? [`layers ${summarise(layers)}`] : []), ...new Set(others)];
  return new MinikeepError(
    'store.layers_missing',
    `no node that can be reached holds ${parts.slice(0, 8).join(', ')} of the model, and ${missing}`,
    {
      next: 'Connect the disk with that file, or start the nodes that ran the model before; then run again.',
      details: { missing_pieces: names.length },
    },
  );
}
