/** Refused attempts of this node on their way to the coordinator: redacted, before anything of them leaves the process. */
import { randomBytes } from 'node:crypto';
import type { Violation } from '@minikeep/containment';
import { Redactor } from '@minikeep/containment/violation-message';
import type { Revealed } from '@minikeep/protocol/v1';
import type { EventHub } from './event-hub.ts';

const KEY_BYTES = 32;

export class Violations {
  readonly #node: string;
  readonly #hub: EventHub;
  /** Until a coordinator has said the cluster's key: one of our own. */
  readonly #redactor = new Redactor(randomBytes(KEY_BYTES));

  constructor(node: string, hub: EventHub) {
    this.#node = node;
    this.#hub = hub;
  }

  /** An empty one is none: the coordinator of a throw-away cluster has no use for digests. */
  useKey(key: Uint8Array): void {
    if (key.length === KEY_BYTES) this.#redactor.useKey(key);
  }

  /** `epoch` 0 and no deployment: of this process itself. */
  emit(violation: Violation, deployment: string, epoch: number): void {
    const value = this.#redactor.message(violation, { node: this.#node, deployment, epoch });
    this.#hub.emit({ $case: 'violation', value });
  }

  revealed(): Revealed[] {
    return this.#redactor.revealed();
  }
}
