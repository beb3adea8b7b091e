/**
 * Brings a deployment's slices to its nodes: cut on the way, in chunks with digests, only where they are not held yet.
 */
import { createHash } from 'node:crypto';
import { sliceStream, type Model, type SlicePlan } from '@minikeep/gguf';
import { CALL_TIMEOUT_MS, MinikeepError } from '@minikeep/protocol';
import { deadline } from '@minikeep/protocol/rpc';
import type { PutSliceRequest } from '@minikeep/protocol/v1';
import type { DigestIndex } from '@minikeep/models';
import type { NodeLink } from './node-link.ts';

/** Several are buffered on the way: small ones keep every process small. The agent takes up to 4 MiB. */
const CHUNK_BYTES_MAX = 256 * 1024;
/**
 * After so many bytes the buffers that were sent are given back: a chunk passes through some five of them (protobuf,
 * HTTP/2, TLS), and V8 by itself lets 64 MiB of them pile up.
 */
const COLLECT_AFTER_BYTES = 8 * 1024 * 1024;
/** Slices under way at once. They are read from one disk, and each one more costs the coordinator some 10 MiB. */
const TRANSFERS_MAX = 1;

export interface SliceForNode {
  readonly node: NodeLink;
  readonly plan: SlicePlan;
}

export interface PlacedSlice extends SliceForNode {
  readonly sha256: string;
  /** It was there already. */
  readonly held: boolean;
}

export interface SendOptions {
  readonly deployment: string;
  readonly model: Model;
  readonly modelSha256: string;
  readonly index: DigestIndex;
  readonly signal: AbortSignal;
  onProgress(doneBytes: number, totalBytes: number): void;
}

/** Returns the slices in the order given, each with its digest. Throws `store.*`, `gguf.*`, `node.*`. */
export async function sendSlices(
  slices: readonly SliceForNode[],
  options: SendOptions,
): Promise<PlacedSlice[]> {
  const total = slices.reduce((sum, slice) => sum + slice.plan.bytes, 0);
  let done = 0;
  const moved = (bytes: number): void => {
    done += bytes;
    options.onProgress(done, total);
  };
  moved(0);
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const placed: PlacedSlice[] = [];
  const waiting = [...slices.entries()];
  const worker = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [i, slice] = next;
      placed[i] = await place(slice, { ...options, signal }, moved);
    }
  };
  try {
    await Promise.all(Array.from({ length: TRANSFERS_MAX }, worker));
  } catch (error) {
    // The others must not go on once one has failed.
    failed.abort(error);
    throw error;
  }
  return placed;
}

async function place(
  slice: SliceForNode,
  options: SendOptions,
  moved: (bytes: number) => void,
): Promise<PlacedSlice> {
  const { node, plan } = slice;
  const { deployment, index, signal } = options;
  const subject = `slice ${plan.key} of ${options.modelSha256}`;
  const known = await index.find(subject);
  if (known !== undefined) {
    const found = await node.agent.findSlices(
      { deployment, slices: [{ key: plan.key, sha256: known, bytes: plan.bytes }] },
      { signal: deadline(CALL_TIMEOUT_MS, signal) },
    );
    if (found.slices[0]?.held === true) {
      moved(plan.bytes);
      return { ...slice, sha256: known, held: true };
    }
  }
  const sha256 = await put(slice, options, moved);
  await index.remember(subject, sha256);
  return { ...slice, sha256, held: false };
}

async function put(
  { node, plan }: SliceForNode,
  options: SendOptions,
  moved: (bytes: number) => void,
): Promise<string> {
  const { deployment, model, signal } = options;
  const whole = createHash('sha256');
  let sha256 = '';
  let uncollected = 0;
  async function* parts(): AsyncGenerator<PutSliceRequest> {
    yield {
      part: {
        $case: 'start',
        value: { deployment, key: plan.key, bytes: plan.bytes, offset: 0 },
      },
    };
    for await (const piece of sliceStream(model, plan, signal))
      for (let at = 0; at < piece.byteLength; at += CHUNK_BYTES_MAX) {
        const data = piece.subarray(at, at + CHUNK_BYTES_MAX);
        whole.update(data);
        const digest = createHash('sha256').update(data).digest();
        yield { part: { $case: 'chunk', value: { data, sha256: digest } } };
        moved(data.byteLength);
        uncollected += data.byteLength;
        if (uncollected < COLLECT_AFTER_BYTES) continue;
        uncollected = 0;
        // Only there in a process started with --expose-gc (TRUSTED_NODE_FLAGS).
        globalThis.gc?.({ type: 'minor' });
      }
    sha256 = whole.digest('hex');
    yield { part: { $case: 'end', value: { sha256 } } };
  }
  // No deadline for the whole: a slice may take hours. The connection's keepalive ends a transfer to nobody.
  const stored = await node.agent.putSlice(parts(), { signal });
  if (stored.sha256 === sha256) return sha256;
  throw new MinikeepError(
    'store.slice_rejected',
    `node ${node.name} stored something else than was sent`,
    {
      next: 'Try again; if it happens again, that node is faulty.',
    },
  );
}
