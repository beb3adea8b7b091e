/** `minikeep node drain` and `node resume`: take a node out of service without losing an answer, and back. */
import { EXIT } from '@minikeep/protocol';
import type { CommandContext } from '../command-context.ts';
import { showProgress } from '../deploy-progress.ts';
import type { HomeFlags } from '../home-folder.ts';
import { withOperator } from '../operator-connection.ts';
import { Progress } from '../progress.ts';

export interface DrainFlags extends HomeFlags {
  /** Seconds that running answers may go on. */
  readonly timeout: number;
}

export async function drain(
  { terminal, interrupts }: CommandContext,
  node: string,
  flags: DrainFlags,
): Promise<number> {
  const json = flags.json === true;
  const progress = new Progress(terminal, json);
  return withOperator(flags, async ({ operator }) => {
    const moved: string[] = [];
    try {
      const request = { node, timeoutSeconds: flags.timeout };
      for await (const { event } of operator.drainNode(request, { signal: interrupts.signal })) {
        if (event?.$case === 'progress' && event.value.progress !== undefined)
          showProgress(progress, event.value.progress);
        if (event?.$case === 'accepted' && event.value.deployments.length > 0)
          progress.show(
            `running answers end, then ${event.value.deployments.join(', ')} leaves ${node}`,
          );
        if (event?.$case === 'moved') moved.push(event.value.name);
      }
    } finally {
      progress.clear();
    }
    if (json) await terminal.json({ node, state: 'drained', moved });
    else
      await terminal.line(
        `Node ${node} is out of service${moved.length === 0 ? '' : `; ${moved.join(', ')} runs without it`}. Back: minikeep node resume ${node}`,
      );
    return EXIT.ok;
  });
}

export async function resume(
  { terminal }: CommandContext,
  node: string,
  flags: HomeFlags,
): Promise<number> {
  return withOperator(flags, async ({ operator }) => {
    await operator.resumeNode({ node });
    if (flags.json === true) await terminal.json({ node, state: 'in_service' });
    else
      await terminal.line(`Node ${node} is in service again: the next \`minikeep up\` may use it.`);
    return EXIT.ok;
  });
}
