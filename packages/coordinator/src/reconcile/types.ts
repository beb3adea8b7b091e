/**
 * What goes into reconciling and what comes out. It compares what is wanted (kept on disk) with what is (the nodes say),
 * and is pure: it owns no clock, no connection and no disk. Times are milliseconds since the coordinator started.
 */
import type { MinikeepError } from '@minikeep/protocol';
import type { ContextSettings, HostedPart } from '@minikeep/protocol/v1';

export interface PlacedStage {
  readonly node: string;
  readonly layers: readonly [number, number];
  readonly sliceBytes: number;
  /** Empty until the slice was brought there. */
  readonly sliceSha256: string;
  /** Empty for all stages but the first of several. */
  readonly embeddingSha256: string;
}

/** Where a deployment runs, and all that is needed to know its engines again. */
export interface Placement {
  readonly modelPath: string;
  readonly modelSha256: string;
  readonly architecture: string;
  readonly context: ContextSettings;
  readonly stages: readonly PlacedStage[];
  /** It has a text engine, on the first node. */
  readonly text: boolean;
  /** Empty until its file was brought there. */
  readonly textSha256: string;
}

/** What is asked for; what is, the nodes say. */
export interface WantedDeployment {
  readonly name: string;
  readonly model: string;
  /** The last one begun; never goes back. */
  readonly epoch: number;
  readonly wanted: 'up' | 'down';
  readonly placement: Placement;
}

/** What runs of a deployment in its epoch. */
export interface FoundParts {
  /** Of the stages, in order; undefined where its node has nothing of this epoch. */
  readonly parts: readonly (HostedPart | undefined)[];
  /** Stages whose engine is gone, in order; not all of them. */
  readonly missing: readonly number[];
}

export interface NodeView {
  readonly up: boolean;
  /** It was there, or an attempt to reach it has failed, since the coordinator started. */
  readonly tried: boolean;
  /** Why it is not up. */
  readonly error: MinikeepError | undefined;
  readonly draining: boolean;
  /** What it holds; undefined while that is not known. */
  readonly parts: readonly HostedPart[] | undefined;
  /** Number of the question that it was asked last: older answers don't count. */
  readonly asked: number;
}

export type Phase =
  /** Nothing is under way. Wanted, it waits: for a node, for its report, or for the next attempt. */
  | { readonly type: 'idle' }
  /** Slices are sent, engines loaded and connected. */
  | { readonly type: 'starting'; readonly epoch: number }
  /** Engines that run are connected; the stages in `loading` (0 is the first) are brought back before. */
  | { readonly type: 'attaching'; readonly epoch: number; readonly loading: readonly number[] }
  | { readonly type: 'ready'; readonly epoch: number; readonly sinceMs: number }
  /** It leaves a node: what runs may end, what comes waits. */
  | { readonly type: 'draining'; readonly epoch: number; readonly untilMs: number }
  /** Its engines are being ended. */
  | { readonly type: 'ending'; readonly epoch: number };

/**
 * What of a deployment that broke has to be loaded again: nothing, for only the `way` to its engines broke; the `stage`
 * that is gone, which its node says; or `all`, for the engines can't be trusted with what they hold.
 */
export type Fault = 'way' | 'stage' | 'all';

export interface DeploymentView {
  readonly row: WantedDeployment;
  readonly phase: Phase;
  /** The row's epoch was not begun yet. */
  readonly unused: boolean;
  /** Engines that run may not be attached: they are of another placement, or not to be trusted. */
  readonly reload: boolean;
  /** Requests wait instead of failing: it is about to be back. */
  readonly hold: boolean;
  /** Attempts that failed one after the other. */
  readonly tries: number;
  readonly retryAtMs: number;
  /** Why the last one failed. */
  readonly error: MinikeepError | undefined;
}

export interface ReconcileState {
  readonly nodes: ReadonlyMap<string, NodeView>;
  readonly deployments: ReadonlyMap<string, DeploymentView>;
  readonly questions: number;
}

export type ReconcileEvent =
  | { readonly type: 'node_added'; readonly node: string; readonly draining: boolean }
  | { readonly type: 'node_removed'; readonly node: string }
  | { readonly type: 'node_up'; readonly node: string }
  | { readonly type: 'node_down'; readonly node: string; readonly error: MinikeepError }
  | {
      readonly type: 'node_report';
      readonly node: string;
      readonly question: number;
      readonly parts: readonly HostedPart[];
    }
  /** `ask` comes back in `accept` or `refuse`. */
  | {
      readonly type: 'up_asked';
      readonly ask: number;
      readonly name: string;
      readonly model: string;
      readonly placement: Placement;
    }
  | { readonly type: 'down_asked'; readonly ask: number; readonly name: string }
  | {
      readonly type: 'drain_asked';
      readonly ask: number;
      readonly node: string;
      readonly timeoutMs: number;
      /** Where the deployments of that node can go; one that is missing has no room. */
      readonly moves: ReadonlyMap<string, Placement>;
    }
  /** It is about to be shut out for good. */
  | {
      readonly type: 'remove_asked';
      readonly ask: number;
      readonly node: string;
      /** As for `drain_asked`. */
      readonly moves: ReadonlyMap<string, Placement>;
      /** Also when something has no room elsewhere: that waits then. */
      readonly force: boolean;
    }
  | { readonly type: 'resume_asked'; readonly ask: number; readonly node: string }
  /** The slices lie on their nodes. */
  | {
      readonly type: 'placed';
      readonly name: string;
      readonly epoch: number;
      readonly placement: Placement;
    }
  | { readonly type: 'ready'; readonly name: string; readonly epoch: number }
  | {
      readonly type: 'failed';
      readonly name: string;
      readonly epoch: number;
      readonly error: MinikeepError;
      readonly fault: Fault;
    }
  | { readonly type: 'ended'; readonly name: string; readonly epoch: number }
  /** A draining deployment has no answer under way any more. */
  | { readonly type: 'quiet'; readonly name: string; readonly epoch: number }
  | { readonly type: 'timer' };

export type ReconcileEffect =
  /** On the disk before any other effect of the same step happens. */
  | { readonly type: 'save'; readonly row: WantedDeployment }
  | { readonly type: 'save_draining'; readonly node: string; readonly draining: boolean }
  | { readonly type: 'accept'; readonly ask: number }
  | { readonly type: 'refuse'; readonly ask: number; readonly error: MinikeepError }
  /** What does the node hold? Answered by `node_report` with the same number. */
  | { readonly type: 'ask_node'; readonly node: string; readonly question: number }
  | { readonly type: 'start'; readonly row: WantedDeployment }
  | {
      readonly type: 'attach';
      readonly row: WantedDeployment;
      readonly found: FoundParts;
    }
  /** Answered by `ended`, when its engines are. */
  | { readonly type: 'end'; readonly name: string; readonly epoch: number }
  /** Answered by `quiet`. */
  | { readonly type: 'finish'; readonly name: string; readonly epoch: number }
  /** Engines that nobody wants, up to that epoch. */
  | {
      readonly type: 'unload';
      readonly node: string;
      readonly deployment: string;
      readonly epoch: number;
    }
  | { readonly type: 'wake'; readonly atMs: number };
