/** Slices damaged on purpose, for negative controls: a check that can't fail proves nothing. */
import { readFile, writeFile } from 'node:fs/promises';
import {
  layOut,
  MemorySource,
  parseHeader,
  type KeyEntry,
  type TensorEntry,
  type TensorInfo,
} from '@minikeep/gguf';

export interface Damage {
  /** Keys to replace or add. */
  readonly keys?: readonly KeyEntry[];
  readonly removeKeys?: readonly string[];
  /** Tensors to leave out. */
  readonly removeTensor?: (tensor: TensorInfo) => boolean;
}

/** Rewrites a slice (small: it is held in memory) with the damage done. */
export async function tamper(file: string, damage: Damage): Promise<void> {
  const bytes = new Uint8Array(await readFile(file));
  const header = await parseHeader(new MemorySource(bytes));
  const replaced = new Map(damage.keys?.map((entry) => [entry.key, entry]));
  const keys: KeyEntry[] = [];
  for (const [key, { type, range }] of header.metadata) {
    if (damage.removeKeys?.includes(key) === true || replaced.has(key)) continue;
    keys.push({ key, type, value: bytes.subarray(range.offset, range.offset + range.bytes) });
  }
  const tensors = header.tensors
    .filter((tensor) => damage.removeTensor?.(tensor) !== true)
    .map((tensor): TensorEntry => ({
      ...tensor,
      data: {
        from: 'memory',
        data: bytes.subarray(tensor.offset, tensor.offset + tensor.bytes),
      },
    }));
  const layout = layOut([...keys, ...replaced.values()], tensors);
  const pieces = layout.segments.map((s) =>
    s.from === 'memory' ? s.data : new Uint8Array(s.bytes),
  );
  await writeFile(file, Buffer.concat(pieces));
}
