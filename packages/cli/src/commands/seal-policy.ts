/** `minikeep seal policy` and `seal lift`: what becomes of an engine that tries to get out. */
import { EXIT } from '@minikeep/protocol';
import { SealStatusServiceDefinition } from '@minikeep/protocol/v1';
import type { CommandContext } from '../command-context.ts';
import { homeHint, type HomeFlags } from '../home-folder.ts';
import { withOperator } from '../operator-connection.ts';

export interface PolicyFlags extends HomeFlags {
  readonly violations?: string;
  readonly whenBlind?: string;
}

const MEANINGS: Readonly<Record<string, string>> = {
  report: 'each attempt is refused and recorded, and the engine goes on',
  quarantine:
    'an engine that aims outside, at programs, at files to write or at its monitors is stopped at once, and its deployment is not started again',
  'kill-cluster': 'as quarantine, and every other deployment is stopped with it',
};

export async function sealPolicy(
  { terminal }: CommandContext,
  flags: PolicyFlags,
): Promise<number> {
  return withOperator(flags, async ({ service }) => {
    const { violations, whenBlind } = await service(SealStatusServiceDefinition).setPolicy({
      violations: flags.violations ?? '',
      whenBlind: flags.whenBlind ?? '',
    });
    if (flags.json === true) await terminal.json({ violations, when_blind: whenBlind });
    else {
      await terminal.paragraph(`Violations: ${violations}. ${MEANINGS[violations] ?? ''}.`);
      await terminal.paragraph(
        whenBlind === 'serve'
          ? 'Blind: serve. While attempts might go unseen it answers all the same, and says so everywhere.'
          : 'Blind: refuse. While attempts might go unseen nothing is served.',
      );
    }
    return EXIT.ok;
  });
}

export async function sealLift(
  { terminal }: CommandContext,
  name: string,
  flags: HomeFlags,
): Promise<number> {
  return withOperator(flags, async ({ service }) => {
    await service(SealStatusServiceDefinition).liftQuarantine({ deployment: name });
    if (flags.json === true) await terminal.json({ deployment: name, quarantined: false });
    else await terminal.line(`${name} may be started again: minikeep up ${name}${homeHint(flags)}`);
    return EXIT.ok;
  });
}
