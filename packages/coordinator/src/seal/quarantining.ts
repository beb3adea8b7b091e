/** Carries a quarantine out: marked first, then taken down; with `kill-cluster` everything that is up. */
import type { MinikeepError } from '@minikeep/protocol';
import type { Struck } from '@minikeep/protocol/v1';
import type { Policies } from './policies.ts';

export interface QuarantiningOptions {
  readonly policies: Policies;
  /** Of every deployment that is up, or wanted. */
  readonly names: () => readonly string[];
  readonly takeDown: (name: string) => Promise<void>;
  /** For the log: it is done as far as it can be. */
  readonly onFault: (what: string, thrown: unknown) => void;
}

export class Quarantining {
  readonly #options: QuarantiningOptions;

  constructor(options: QuarantiningOptions) {
    this.#options = options;
  }

  /** An engine of the deployment tried to get out on that node, and was stopped. */
  strike(node: string, deployment: string, struck: Struck): void {
    const { policies, names, takeDown, onFault } = this.#options;
    const others = policies.violations === 'kill-cluster' ? names() : [];
    for (const name of new Set([deployment, ...others])) {
      try {
        policies.quarantine(name, node, struck, Date.now());
      } catch (thrown) {
        onFault('a quarantine could not be kept', thrown);
      }
      // What is wanted no longer, nobody starts again.
      void takeDown(name).catch((thrown: unknown) =>
        onFault('a deployment in quarantine could not be taken down', thrown),
      );
    }
  }

  /** A node remembers what a coordinator that was started since can't know: it refuses to load. */
  refused(deployment: string, { code, details }: MinikeepError): void {
    const { node, kind, operation } = details;
    if (code !== 'deployment.quarantined' || typeof node !== 'string') return;
    this.strike(node, deployment, {
      kind: typeof kind === 'string' ? kind : 'unknown',
      operation: typeof operation === 'string' ? operation : 'unknown',
      mapped: [],
      open: [],
    });
  }
}
