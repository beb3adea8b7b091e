/** `minikeep invite`: a single-use token, and what to type on the machine that joins. */
import { EXIT } from '@minikeep/protocol';
import type { CommandContext } from '../command-context.ts';
import type { HomeFlags } from '../home-folder.ts';
import { withOperator } from '../operator-connection.ts';

export interface InviteFlags extends HomeFlags {
  /** Seconds. */
  readonly expires: number;
}

export async function invite({ terminal }: CommandContext, flags: InviteFlags): Promise<number> {
  return withOperator(flags, async ({ operator }) => {
    const made = await operator.invite({ expiresSeconds: flags.expires });
    const expires = new Date(made.expiresAtSeconds * 1000);
    if (flags.json === true) {
      await terminal.json({
        token: made.token,
        expires: expires.toISOString(),
        addresses: made.addresses,
      });
      return EXIT.ok;
    }
    const address = made.addresses[0] ?? '';
    await terminal.line('On the machine that joins:');
    await terminal.line('');
    await terminal.line(`  minikeep join ${address} --token-file -`);
    await terminal.line('');
    await terminal.line('and give it this line, then Ctrl-D:');
    await terminal.line('');
    await terminal.line(made.token);
    await terminal.line('');
    await terminal.paragraph(
      `The token lets one machine in, once, until ${expires.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })}. Whoever has it can join: don't send it by mail. Without ${address}, the machine looks for the cluster on its network.`,
    );
    return EXIT.ok;
  });
}
