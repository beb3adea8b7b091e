/** A model that is up and can be asked: what one answer and a chat have in common. */
import type { GenerateDone, StageStatus } from '@minikeep/protocol/v1';
import type { CommandContext } from '../command-context.ts';
import type { HomeFlags } from '../home-folder.ts';
import type { OutputPolicyName } from '../output-policy-names.ts';
import { outputPolicyName } from '../output-policy.ts';
import { safeLine } from '../safe-text.ts';
import type { Session } from '../session.ts';
import type { SamplingFlags } from './generate.ts';

export interface RunFlags extends HomeFlags {
  readonly local?: number;
  readonly cuts?: number[];
  readonly raw?: boolean;
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly repeatPenalty?: number;
  readonly seed?: number;
  readonly stop: string[];
  readonly context?: number;
  readonly system?: string;
  readonly threads?: number;
  readonly mode: 'exact' | 'fast';
  readonly unsafeNoSandbox?: boolean;
  readonly acceptChanged?: boolean;
  readonly outputGuard?: OutputPolicyName;
}

/** A model that is up, and how to ask it. */
export interface Ready {
  readonly context: CommandContext;
  readonly session: Session;
  readonly deployed: { readonly name: string; readonly stages: readonly StageStatus[] };
  readonly flags: RunFlags;
  readonly sampling: SamplingFlags;
}

const VIOLATIONS_SHOWN_MAX = 5;

/** An engine tried to get out: the person must hear of it, whatever the answer was. */
export async function warnOfViolations(
  { context, session, deployed }: Pick<Ready, 'context' | 'session' | 'deployed'>,
  signal: AbortSignal,
): Promise<void> {
  let count = 0;
  for await (const { violation } of session.operator.violations({ follow: false }, { signal })) {
    if (violation === undefined || violation.purpose === 'canary') continue;
    if (violation.kind === 'output') continue;
    if (violation.deployment !== deployed.name) continue;
    count += 1;
    if (count <= VIOLATIONS_SHOWN_MAX)
      context.terminal.note(
        `warning: the engine on ${violation.node} tried ${violation.operation} ${safeLine(violation.target)} and was refused`,
      );
  }
  if (count > VIOLATIONS_SHOWN_MAX)
    context.terminal.note(`warning: and ${count - VIOLATIONS_SHOWN_MAX} attempts more`);
}

/** What the output guard found in an answer. */
export function warnOfFinds(
  { terminal }: CommandContext,
  { outputFound, outputGuard }: GenerateDone,
): void {
  if (outputFound === 0) return;
  const what = outputFound === 1 ? 'a way out was' : `${outputFound} ways out were`;
  terminal.note(
    `warning: ${what} found in the answer (image, link, hidden characters …); output guard: ${outputPolicyName(outputGuard)}`,
  );
}
