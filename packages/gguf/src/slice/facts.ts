/**
 * What an engine has to know about its slice, carried inside the slice as metadata, so that the engine needs no
 * table of architectures. llama.cpp ignores keys that it does not know.
 */

export const FACT = {
  /** u32: format of these facts and of the slice. */
  version: 'minikeep.slice_version',
  /** string: 'stage', 'embedding' or 'text'. */
  kind: 'minikeep.kind',
  /** u32: first layer of the whole model in this slice. */
  layerFirst: 'minikeep.layer_first',
  /** u32: one past the last layer. */
  layerEnd: 'minikeep.layer_end',
  /** u32: layers of the whole model that take part in a split (MTP blocks left out). */
  layerCount: 'minikeep.layer_count',
  /** u32: n_embd, values in a row. */
  embeddingLength: 'minikeep.embedding_length',
  /** u32: tokens in the whole model's vocabulary (rows of the embedding). */
  vocabSize: 'minikeep.vocab_size',
  /**
   * string: 'embd', the rows go in as `llama_batch.embd`; or 'overwrite', the batch holds token ids 0 and the eval
   * callback writes the rows over the node named by `inputNode`, then returns true.
   */
  inputMode: 'minikeep.input_mode',
  /** string: the node that feeds layer 0 ('embd', 'inp_scaled' …). */
  inputNode: 'minikeep.input_node',
  /** f32: factor for the rows of the token embedding, `fround(row * factor)`; 1 for none. In embedding slices. */
  rowScale: 'minikeep.row_scale',
  /** u32: entries of `llama_batch.pos` a row under 'embd' (1; 4 for some). */
  positionsPerRow: 'minikeep.positions_per_row',
  /**
   * f32, both or none: while the callback is asked about a SCALE node whose first source is named `Qcur-<i>` and
   * whose first parameter equals `attentionScaleFrom`, it writes `attentionScaleTo` over it. Once a layer a graph.
   */
  attentionScaleFrom: 'minikeep.attention_scale_from',
  attentionScaleTo: 'minikeep.attention_scale_to',
  /** bool: the slice has recurrent layers; a decode may hold spans of one sequence only. */
  recurrent: 'minikeep.recurrent',
} as const;

export const SLICE_VERSION = 1;

/** The only tensor of an embedding slice: [n_embd, n_vocab], as in the model. */
export const EMBEDDING_TENSOR = 'token_embd.weight';

export type SliceKind = 'stage' | 'embedding' | 'text';
export type InputMode = 'embd' | 'overwrite';

export interface SliceFacts {
  readonly kind: SliceKind;
  /** Layers first <= i < end of the whole model; [0, 0] for embedding and text. */
  readonly layers: readonly [number, number];
  readonly layerCount: number;
  readonly embeddingLength: number;
  readonly vocabSize: number;
  readonly inputMode: InputMode;
  readonly inputNode: string;
  readonly rowScale: number;
  readonly positionsPerRow: number;
  readonly attentionScale?: { readonly from: number; readonly to: number };
  readonly recurrent: boolean;
}
