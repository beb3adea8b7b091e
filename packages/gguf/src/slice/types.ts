/** A slice before it is written: every byte of it is known, either here or by its place in the model's files. */
import type { SliceKind } from './facts.ts';

export type Segment =
  | { readonly from: 'memory'; readonly data: Uint8Array }
  | {
      readonly from: 'file';
      readonly file: number;
      readonly offset: number;
      readonly bytes: number;
    }
  | { readonly from: 'zeros'; readonly bytes: number };

/**
 * A run of a slice's bytes with a digest of its own, so that nodes can hold, send and check layers one by one.
 * What a piece with a `shared` name holds depends on the model alone, not on where it is cut: the same name in two
 * slices of one model means the same bytes.
 */
export interface PiecePlan {
  /** 'header' (which also holds small tensors that every cut makes anew), 'layer 12', a tensor's name, 'zeros 96'. */
  readonly name: string;
  readonly shared: boolean;
  /** At most `PIECE_BYTES_MAX`. */
  readonly bytes: number;
  readonly segments: readonly Segment[];
}

export interface SlicePlan {
  readonly kind: SliceKind;
  /** Stages count from 0; the embedding belongs to stage 0, the text slice to none (-1). */
  readonly stage: number;
  /** Layers first <= i < end; [0, 0] for embedding and text. */
  readonly layers: readonly [number, number];
  readonly first: boolean;
  readonly last: boolean;
  /** Exact size of the file that `sliceStream` makes. */
  readonly bytes: number;
  /** Bytes of weights in it (placement needs them; the rest is header and padding). */
  readonly tensorBytes: number;
  /**
   * Name that does not depend on the content: slicer version, kind, range. Together with the model's SHA-256 it
   * names the slice's bytes.
   */
  readonly key: string;
  readonly segments: readonly Segment[];
  /** The same bytes, in the same order. */
  readonly pieces: readonly PiecePlan[];
}
