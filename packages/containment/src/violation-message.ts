/**
 * A violation as it leaves the process that heard of it, whoever that is: redacted. What is left out stays there for a
 * while, for people who ask for it.
 */
import type { Revealed, Violation as ViolationMessage } from '@minikeep/protocol/v1';
import type { Violation } from './sandbox.ts';
import { plainOperation, redact } from './warden/redact.ts';

/** Targets that are remembered in whole. */
const REVEALED_MAX = 2_000;

export interface Place {
  readonly node: string;
  /** Empty: of the trusted process itself. */
  readonly deployment: string;
  readonly epoch: number;
}

export class Redactor {
  readonly #revealed: Revealed[] = [];
  #key: Uint8Array;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  useKey(key: Uint8Array): void {
    this.#key = key;
  }

  message(violation: Violation, { node, deployment, epoch }: Place): ViolationMessage {
    const { instance, sequence, kind, operation, target, count, stopped } = violation;
    const safe = redact(kind, target, this.#key);
    if (safe.target !== target) {
      this.#revealed.push({ instance, sequence, target });
      if (this.#revealed.length > REVEALED_MAX) this.#revealed.shift();
    }
    return {
      node,
      deployment,
      epoch,
      instance,
      sequence,
      purpose: violation.purpose,
      atSeconds: violation.at_seconds,
      kind,
      operation: plainOperation(operation),
      target: safe.target,
      targetLength: safe.length,
      targetDigest: safe.digest,
      thread: violation.thread ?? 0,
      payloadBytes: violation.payload_bytes ?? 0,
      refusedBy: violation.refused_by,
      seenBy: [...violation.seen_by],
      count,
      stopped,
      number: 0,
    };
  }

  /** What was left out of the latest ones. */
  revealed(): Revealed[] {
    return [...this.#revealed];
  }
}
