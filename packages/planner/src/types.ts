/**
 * What the planner knows and answers. Plain data in SI units; nothing here touches a file, a clock or a network.
 * Heterogeneous nodes and measured links have their place already: a field that is absent means "like the others".
 */

/** What one layer keeps for each sequence while it runs. */
export type CacheFacts =
  | {
      readonly kind: 'attention';
      /** Values kept for each position (keys and values together); for MLA the compressed ones. */
      readonly valuesPerPosition: number;
      /** Positions that the layer looks back on; undefined: all. */
      readonly window?: number;
    }
  | { readonly kind: 'recurrent'; readonly bytesPerSequence: number };

export interface LayerFacts {
  /** All weights of the layer, as they lie in the file. */
  readonly weightBytes: number;
  /** Weights read for one token: fewer than all in a mixture of experts. */
  readonly activeBytes: number;
  readonly cache: CacheFacts;
}

/** A model as the planner sees it. Made from a file by `modelFacts`, or from the published numbers of a known shape. */
export interface ModelFacts {
  readonly name: string;
  readonly architecture: string;
  readonly layers: readonly LayerFacts[];
  /** Token embeddings: on the first node. */
  readonly embeddingBytes: number;
  /** Output matrix and final norm: on the last node (tied embeddings are there a second time). */
  readonly headBytes: number;
  /** Small tensors that every slice carries. */
  readonly sharedBytes: number;
  readonly embeddingLength: number;
  readonly vocabSize: number;
  readonly feedForwardLength: number;
  readonly headCount: number;
  /** The context the model was trained for, in tokens; 0 when the file does not say. */
  readonly contextLength: number;
  /** Where the model may be cut in two (0 < cut < layers), in order. For messages: ranges decide. */
  readonly allowedCuts: readonly number[];
  /** Why layers first <= i < end can't be a stage, or undefined if they can. Pure. */
  readonly rangeRefusal: (first: number, end: number) => string | undefined;
}

export interface NodeFacts {
  readonly name: string;
  /** What an engine may use on this node: the GPU's wired limit on a Mac, else free memory less a reserve. */
  readonly budgetBytes: number;
  /** Bytes a second that the engine reads weights with; undefined: unknown, all nodes count as equal. */
  readonly memoryBytesPerSecond?: number;
  /** From this node to the next one in the list. */
  readonly link?: { readonly latencySeconds: number; readonly bytesPerSecond: number };
}

export interface PlanOptions {
  /** Tokens of context for each sequence. */
  readonly contextTokens: number;
  /** Sequences at once. */
  readonly parallel: number;
  /** Rows of one step at most. */
  readonly batchRows: number;
  readonly mode: 'exact' | 'fast';
  /** Exactly these boundaries, one stage for each node; undefined: the planner chooses. */
  readonly cuts?: readonly number[];
  /** Every node gets a stage (default), or a node may stay empty when that makes the slowest stage faster. */
  readonly useEveryNode?: boolean;
  /** All nodes are processes of one machine and share this much memory. */
  readonly sharedBudgetBytes?: number;
}

/** What one stage needs, in bytes. */
export interface StageMemory {
  readonly weights: number;
  readonly cache: number;
  readonly compute: number;
  /** The engine's own process and, on the first node, the text engine's. */
  readonly process: number;
  readonly total: number;
}

export interface StagePlacement {
  readonly node: string;
  /** Layers first <= i < end. */
  readonly layers: readonly [number, number];
  readonly memory: StageMemory;
  readonly budgetBytes: number;
  /** Time of one decoded token in this stage; in units of the average layer when no node's speed is known. */
  readonly cost: number;
}

export interface Placement {
  readonly model: string;
  readonly stages: readonly StagePlacement[];
  /** First layers of the second, third … stage. */
  readonly cuts: readonly number[];
  readonly slowestCost: number;
  /** One token through all stages and hops. */
  readonly totalCost: number;
  /** True when `cost` is in seconds, because every node's speed is known. */
  readonly costInSeconds: boolean;
  readonly options: PlanOptions;
}
