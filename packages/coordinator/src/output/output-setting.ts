/**
 * What the cluster does with ways out in answers: one policy for all who ask, kept where the cluster has a home. A
 * policy for one key takes its place where a request is known by its key.
 */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { OutputPolicy as Message } from '@minikeep/protocol/v1';
import { OUTPUT_POLICIES, type OutputPolicy } from '@minikeep/output-guard';

/** Also while nothing is sealed: a guard that went with the seal would be off when it is needed. */
export const OUTPUT_POLICY_DEFAULT: OutputPolicy = 'defang';

const MESSAGES: Readonly<Record<OutputPolicy, Message>> = {
  report: Message.OUTPUT_POLICY_REPORT,
  defang: Message.OUTPUT_POLICY_DEFANG,
  block: Message.OUTPUT_POLICY_BLOCK,
};

export const outputPolicyMessage = (policy: OutputPolicy): Message => MESSAGES[policy];

/** undefined: the request says nothing. Throws `output_guard.policy`. */
export function outputPolicyOf(message: Message): OutputPolicy | undefined {
  if (message === Message.OUTPUT_POLICY_UNSPECIFIED) return undefined;
  const policy = OUTPUT_POLICIES.find((one) => MESSAGES[one] === message);
  if (policy !== undefined) return policy;
  throw new MinikeepError('output_guard.policy', 'there is no such policy of the output guard', {
    next: `Choose one of: ${OUTPUT_POLICIES.join(', ')}.`,
    exitCode: EXIT.usage,
  });
}

export class OutputSetting {
  #policy: OutputPolicy = OUTPUT_POLICY_DEFAULT;
  #keep: (policy: OutputPolicy) => void = () => {};
  #found = 0;

  get policy(): OutputPolicy {
    return this.#policy;
  }

  /** Ways out found since this process runs. */
  get found(): number {
    return this.#found;
  }

  count(finds: number): void {
    this.#found += finds;
  }

  /** What was kept, and how it is kept from now on. */
  keptBy(policy: OutputPolicy | undefined, keep: (policy: OutputPolicy) => void): void {
    this.#policy = policy ?? OUTPUT_POLICY_DEFAULT;
    this.#keep = keep;
  }

  /** Throws what keeping it throws; then it is as before. */
  set(policy: OutputPolicy): void {
    this.#keep(policy);
    this.#policy = policy;
  }
}
