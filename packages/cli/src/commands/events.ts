/** `minikeep events`: the cluster's log, each entry chained to the one before it. */
import { EXIT } from '@minikeep/protocol';
import type { CommandContext } from '../command-context.ts';
import type { HomeFlags } from '../home-folder.ts';
import { withOperator } from '../operator-connection.ts';
import { safeLine } from '../safe-text.ts';

export interface EventsFlags extends HomeFlags {
  readonly follow?: boolean;
  readonly from?: number;
  readonly count: number;
}

export async function events(
  { terminal, interrupts }: CommandContext,
  flags: EventsFlags,
): Promise<number> {
  return withOperator(flags, async ({ operator }) => {
    const signal = AbortSignal.any([interrupts.signal, terminal.outputClosed]);
    const request = { from: flags.from ?? 0, count: flags.count, follow: flags.follow === true };
    for await (const event of operator.events(request, { signal })) {
      const at = new Date(event.atSeconds * 1000);
      const data = JSON.parse(event.dataJson) as Record<string, unknown>;
      if (flags.json === true)
        await terminal.json({
          number: event.number,
          at: at.toISOString(),
          kind: event.kind,
          data,
          digest: event.digest,
        });
      else {
        const fields = Object.entries(data).map(
          ([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
        );
        const when = at.toISOString().slice(0, 19).replace('T', ' ');
        await terminal.line(
          safeLine(
            `${String(event.number).padStart(5)}  ${when}  ${event.kind.padEnd(20)}  ${fields.join(' ')}`,
            1_000,
          ),
        );
      }
    }
    return EXIT.ok;
  });
}
