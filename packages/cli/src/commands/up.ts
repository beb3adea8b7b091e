/** `minikeep up` and `down`: a model that is wanted, from now on, whatever is restarted; and no longer. */
import { formatBytes, formatDuration } from '@minikeep/planner';
import { EXIT } from '@minikeep/protocol';
import { ExactMode, type DeploymentStatus } from '@minikeep/protocol/v1';
import type { CommandContext } from '../command-context.ts';
import { untilUp } from '../deploy-progress.ts';
import type { HomeFlags } from '../home-folder.ts';
import { withOperator } from '../operator-connection.ts';
import { Progress } from '../progress.ts';
import { safeLine } from '../safe-text.ts';
import { deploymentDocument } from './status.ts';

export interface UpFlags extends HomeFlags {
  readonly nodes?: string[];
  readonly cuts?: number[];
  readonly context?: number;
  readonly parallel: number;
  readonly threads?: number;
  readonly mode: 'exact' | 'fast';
  /** False: the canary is not run first. */
  readonly canary: boolean;
}

export async function up(
  { terminal, interrupts }: CommandContext,
  name: string,
  flags: UpFlags,
): Promise<number> {
  const json = flags.json === true;
  const progress = new Progress(terminal, json);
  return withOperator(flags, async ({ operator, settings }) => {
    const request = {
      name,
      model: name,
      keep: true,
      runCanary: flags.canary,
      nodes: flags.nodes ?? [],
      cuts: flags.cuts ?? [],
      context: {
        nCtx: flags.context ?? 0,
        nSeqMax: flags.parallel,
        // 0: each machine decides.
        threads: flags.threads ?? 0,
        mode: flags.mode === 'fast' ? ExactMode.EXACT_MODE_FAST : ExactMode.EXACT_MODE_EXACT,
        gpu: process.platform === 'darwin',
      },
    };
    let sending: number | null = null;
    const { status, plan, seconds } = await untilUp(
      operator.deploy(request, { signal: interrupts.signal }),
      progress,
      {
        plan({ leftOut }) {
          if (json) return;
          for (const { node, why } of leftOut)
            terminal.note(safeLine(`${node} is left out: ${why?.message ?? 'it is away'}`, 400));
        },
        forecast(seconds, bytes) {
          sending = seconds;
          if (!json)
            terminal.note(
              `Sending ${formatBytes(bytes)} to the nodes will take about ${formatDuration(seconds)}.`,
            );
        },
      },
    );
    const leftOut = (plan?.leftOut ?? []).map(({ node, why }) => ({ node, code: why?.code ?? '' }));
    if (json)
      await terminal.json({
        ...deploymentDocument(status),
        left_out: leftOut,
        predicted_sending_seconds: sending,
        seconds,
      });
    else {
      await terminal.line(`${name} is up on ${stages(status)} (${seconds.toFixed(1)} s).`);
      await terminal.paragraph(
        `It stays wanted: restarted machines load it again by themselves, until: minikeep down ${name}`,
      );
      if (leftOut.length > 0)
        await terminal.paragraph(
          `Without ${leftOut.map(({ node }) => node).join(', ')}: to use all again when they are back: minikeep down ${name}, then minikeep up ${name}`,
        );
      const { api } = await operator.status({}).then((found) => ({ api: found.apiUrl }));
      if (api !== '')
        await terminal.line(
          `Ask it:  ${api}/v1/chat/completions   (model "${name}", cluster ${settings.cluster_name})`,
        );
    }
    return EXIT.ok;
  });
}

export async function down(
  { terminal }: CommandContext,
  name: string,
  flags: HomeFlags,
): Promise<number> {
  return withOperator(flags, async ({ operator }) => {
    await operator.undeploy({ name });
    if (flags.json === true) await terminal.json({ name, state: 'down' });
    else await terminal.line(`${name} is down; its layers stay on the nodes for the next time.`);
    return EXIT.ok;
  });
}

/** "mini-1 (layers 0–11), mini-2 (layers 12–23)". */
function stages(status: DeploymentStatus): string {
  return status.stages
    .map(({ node, layers }) => `${node} (layers ${layers?.start ?? 0}–${(layers?.end ?? 1) - 1})`)
    .join(', ');
}
