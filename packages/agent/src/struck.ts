/** An engine that was stopped because of what it tried: as it travels, and as an error. */
import type { Struck } from '@minikeep/containment';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { Struck as StruckMessage } from '@minikeep/protocol/v1';

const LINES_MAX = 256;
const LINE_LENGTH_MAX = 320;
const WORD_LENGTH_MAX = 64;

export function struckMessage(struck: Struck | undefined): StruckMessage | undefined {
  if (struck === undefined) return undefined;
  const { kind, operation, mapped, open } = struck;
  const lines = (all: readonly string[]): string[] =>
    all.slice(0, LINES_MAX).map((text) => text.slice(0, LINE_LENGTH_MAX));
  return {
    kind,
    operation: operation.slice(0, WORD_LENGTH_MAX),
    mapped: lines(mapped),
    open: lines(open),
  };
}

/** What is asked for after it. `details` say it to a coordinator that was not there. */
export function quarantined(
  { node, deployment }: { readonly node: string; readonly deployment: string },
  { kind, operation }: Struck,
): MinikeepError {
  return new MinikeepError(
    'deployment.quarantined',
    `an engine of ${deployment} on node ${node} tried to get out and was stopped (${kind}: ${operation})`,
    {
      next: `See what it tried: minikeep violations. To run it again all the same: minikeep seal lift ${deployment}, then minikeep up ${deployment}`,
      exitCode: EXIT.denied,
      details: { node, deployment, kind, operation },
    },
  );
}
