/**
 * What the output guard found, as violations: of the answer only the kind, the last two labels of a host and a length.
 * Alike finds of one answer are counted together: the first is told at once, the rest when the answer is over.
 */
import { randomBytes } from 'node:crypto';
import type { Finding, OutputPolicy } from '@minikeep/output-guard';
import { reportedBy, type ViolationLog } from '../violation-log.ts';

/** Kinds and hosts told apart in one answer; what comes beyond is counted under its kind alone. */
const TOLD_APART_MAX = 32;
const INSTANCE_BYTES = 8;

interface Counted {
  readonly finding: Finding;
  count: number;
  length: number;
}

export interface FindsOf {
  readonly deployment: string;
  readonly epoch: number;
  readonly node: string;
  readonly policy: OutputPolicy;
}

export class FindRecorder {
  readonly #log: ViolationLog;
  readonly #of: FindsOf;
  readonly #instance = randomBytes(INSTANCE_BYTES).toString('hex');
  readonly #more = new Map<string, Counted>();
  #sequence = 0;
  #total = 0;

  constructor(log: ViolationLog, of: FindsOf) {
    this.#log = log;
    this.#of = of;
  }

  get total(): number {
    return this.#total;
  }

  add(findings: readonly Finding[]): void {
    for (const found of findings) {
      this.#total += 1;
      const apart = this.#more.size < TOLD_APART_MAX;
      const finding = apart || this.#more.has(keyOf(found)) ? found : { ...found, host: '' };
      const counted = this.#more.get(keyOf(finding));
      if (counted === undefined) {
        this.#more.set(keyOf(finding), { finding, count: 0, length: 0 });
        this.#record(finding, 1, finding.length);
      } else {
        counted.count += 1;
        counted.length += finding.length;
      }
    }
  }

  /** The answer is over. */
  end(): void {
    for (const { finding, count, length } of this.#more.values())
      if (count > 0) this.#record(finding, count, length);
    this.#more.clear();
  }

  #record({ kind, host }: Finding, count: number, length: number): void {
    const { node, deployment, epoch, policy } = this.#of;
    this.#log.add(
      reportedBy(node, {
        node,
        deployment,
        epoch,
        instance: this.#instance,
        sequence: (this.#sequence += 1),
        purpose: 'answer',
        atSeconds: Date.now() / 1000,
        kind: 'output',
        operation: kind,
        target: host,
        targetLength: 0,
        targetDigest: '',
        thread: 0,
        // Characters, all of them together.
        payloadBytes: length,
        number: 0,
        refusedBy: policy === 'report' ? '' : `output guard (${policy})`,
        seenBy: ['output guard'],
        count,
        stopped: policy === 'block',
      }),
    );
  }
}

const keyOf = ({ kind, host }: Finding): string => `${kind} ${host}`;
