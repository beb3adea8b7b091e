/** A published model as its own configuration describes it: enough to know every tensor, without having the file. */

export interface Experts {
  readonly count: number;
  readonly used: number;
  readonly feedForward: number;
  /** Experts that every token passes, besides. */
  readonly shared: number;
  /** First layers, which have a plain feed-forward. */
  readonly leadingDense: number;
}

/** Multi-head latent attention: one compressed row of keys and values for all heads. */
export interface LatentAttention {
  readonly queryRank: number;
  readonly kvRank: number;
  readonly rope: number;
  readonly content: number;
  readonly value: number;
}

export interface Shape {
  /** As people type it, before the "@". */
  readonly name: string;
  /** `general.architecture`. */
  readonly architecture: string;
  /** Without MTP blocks. */
  readonly layers: number;
  readonly mtpBlocks?: number;
  readonly embedding: number;
  readonly heads: number;
  readonly headsKv: number;
  readonly headSize: number;
  /** Of plain layers. */
  readonly feedForward: number;
  readonly vocabulary: number;
  readonly context: number;
  /** The embedding matrix is the output matrix. */
  readonly tied?: boolean;
  /** Length of `rope_freqs.weight`, if there is one. */
  readonly ropeFrequencies?: number;
  readonly window?: number;
  readonly experts?: Experts;
  readonly latent?: LatentAttention;
  /** Published as this and nothing else. */
  readonly only?: 'MXFP4';
  /** Parameters that its makers name, in units of 10^9. */
  readonly billions: number;
  /** Where the numbers are from. */
  readonly source: string;
}

/** One tensor of a shape. 'plain' stays F32, as llama.cpp's converter writes it. */
export interface ShapeTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly kind: 'matrix' | 'plain';
  /** The layer that it belongs to; -1: none. */
  readonly layer: number;
}
