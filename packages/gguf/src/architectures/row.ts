/**
 * How one architecture is described: everything that cutting it by layers needs, as data.
 * What the fields mean for llama.cpp v0.4.0, and how each was checked, is in the design folder (ARCHITECTURES.md);
 * a row is trusted only as far as the conformance suite has compared whole and split at its published layer counts.
 */
import type { InputMode } from '../slice/facts.ts';
import type { ModelShape } from './shape.ts';

/** Layers of which only some look back over a window, in a repeating pattern given by one number. */
export interface WindowPattern {
  /** Layer i slides when i mod P < P - 1. This P holds when the file gives no number. */
  readonly defaultPeriod: number;
  /**
   * A slice in which no layer slides: 'window_zero' when `attention.sliding_window = 0` switches windows off,
   * 'refuse' when the loader aborts.
   */
  readonly noneSlides: 'window_zero' | 'refuse';
}

/** llama.cpp picks another attention scale for one exact layer count, and has no key for it. */
export interface CountedAttentionScale {
  readonly layers: number;
}

export interface ArchitectureRow {
  /** `general.architecture`. */
  readonly name: string;
  /** Model families, for messages. */
  readonly models: string;
  /** Layer counts of published models (MTP blocks not counted): what the conformance suite has to cover. */
  readonly publishedLayers: readonly number[];
  readonly input: {
    readonly mode: InputMode;
    /** Node that feeds layer 0. */
    readonly node: string;
    readonly positionsPerRow: number;
  };
  /** Factor on the rows of the token embedding, done before stage 0 because the graph does not do it on our rows. */
  readonly rowScale: 'none' | 'sqrt_embedding_length';
  /** 'fallback': without `output.weight` the token embedding is the head. 'required': the loader insists on it. */
  readonly head: 'fallback' | 'required';
  readonly window?: WindowPattern;
  /** The code counts layers by itself (every fourth without rope, say): a slice must start at a multiple. */
  readonly startMultiple?: number;
  readonly attentionScale?: CountedAttentionScale;
  /** Keys (without prefix) that belong to the first slice only. */
  readonly firstOnlyKeys?: readonly string[];
  /** Keys (without prefix) written into every slice, over what the file says. */
  readonly extraKeys?: (shape: ModelShape) => readonly ExtraKey[];
  /** Why layers first <= i < end can't be a slice of this model, or undefined. */
  readonly refuse?: (shape: ModelShape, first: number, end: number) => string | undefined;
}

export interface ExtraKey {
  readonly name: string;
  readonly type: 'uint32';
  readonly value: number;
}
