/** What the planner knows and answers. Plain data in SI units; nothing here touches a file, a clock or a network. */

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
  /** How many numbers those are: each is multiplied and added once for a token. */
  readonly activeValues: number;
  readonly cache: CacheFacts;
}

/** The largest tensors of one layer's graph, in numbers for each row of a batch. For compute buffers. */
export interface GraphFacts {
  /** Queries, keys and values while attention is computed; without the scores. */
  readonly attentionValues: number;
  /** What the feed-forward, or the experts that a token uses, hold at once. */
  readonly feedForwardValues: number;
  /** Heads whose scores against every position are held at once without flash attention. */
  readonly headCount: number;
  /** Positions that sliding layers look back on; undefined: no layer slides. */
  readonly window?: number;
  /** Some layers look back on everything. */
  readonly hasFullLayers: boolean;
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
  /** Numbers of the output matrix. */
  readonly headValues: number;
  /** Small tensors that every slice carries. */
  readonly sharedBytes: number;
  readonly embeddingLength: number;
  readonly vocabSize: number;
  readonly graph: GraphFacts;
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
  /** Additions and multiplications a second that the engine does; undefined: never what a token waits for. */
  readonly operationsPerSecond?: number;
  /** Where the two come from: looked up by the machine's name, or measured on it. */
  readonly speedSource?: 'measured' | 'looked_up' | 'stated';
  /** Whether a split model computes there what the whole does, as its model check found: shown beside its stage. */
  readonly modelCheck?: string;
  /** A Mac whose GPU may wire more than it does now. */
  readonly wiredLimit?: WiredLimit;
}

/** `iogpu.wired_limit_mb` of a Mac: what the GPU may hold. */
export interface WiredLimit {
  readonly memoryBytes: number;
  /** The largest limit that leaves the system what it needs. */
  readonly highestBytes: number;
}

export interface LinkFacts {
  /** Half of the time there and back. */
  readonly latencySeconds: number;
  readonly bytesPerSecond: number;
}

export interface NetworkFacts {
  /** Between every two nodes that `pairs` does not name; undefined: hops there cost nothing. */
  readonly fallback?: LinkFacts;
  /** The same in both directions. */
  readonly pairs?: readonly {
    readonly between: readonly [string, string];
    readonly link: LinkFacts;
  }[];
  /** Tokens come from it and go back to it; undefined: those two ways are not counted. */
  readonly coordinator?: string;
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
  /** The stages follow the nodes' order (default), or any order of them is tried. */
  readonly anyOrder?: boolean;
  readonly network?: NetworkFacts;
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
  /** What the token waits for there. */
  readonly waitsFor: 'memory' | 'compute';
}

export interface Placement {
  readonly model: string;
  readonly stages: readonly StagePlacement[];
  /** First layers of the second, third … stage. */
  readonly cuts: readonly number[];
  readonly slowestCost: number;
  /** One token through all stages and hops. */
  readonly totalCost: number;
  /** The part of it that is spent between nodes. */
  readonly hopCost: number;
  /** Nodes that stay empty. */
  readonly unused: readonly string[];
  /** True when `cost` is in seconds, because every node's speed is known. */
  readonly costInSeconds: boolean;
  readonly options: PlanOptions;
}
