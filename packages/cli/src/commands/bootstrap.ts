/** `minikeep bootstrap`: a whole stack over ssh, with a line for each machine. */
import { bootstrap, type NodeResult, type Step } from '@minikeep/bootstrap';
import { checkBundle, type BundleFacts } from '@minikeep/bundle';
import { parseStack, STACK_BYTES_MAX } from '@minikeep/planner';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { CommandContext, CommonFlags } from '../command-context.ts';
import { Lines } from '../lines.ts';
import { Progress } from '../progress.ts';
import { readSmallInput } from '../small-input.ts';
import type { Terminal } from '../terminal.ts';

export interface BootstrapFlags extends CommonFlags {
  readonly bundle: readonly string[];
  readonly digest: readonly string[];
  readonly sshConfig?: string;
}

export async function bootstrapCommand(
  { terminal, interrupts }: CommandContext,
  file: string,
  flags: BootstrapFlags,
): Promise<number> {
  const { signal } = interrupts;
  const json = flags.json === true;
  const stack = parseStack(
    await readSmallInput(file, terminal.stdin, STACK_BYTES_MAX, signal),
    path.basename(file),
  );
  const bundles = await readBundles(flags, terminal, signal);
  const lines = new Lines(terminal, json);
  // A socket's path has about 100 characters, and macOS's own folder for temporary files takes half of them.
  const socketFolder = mkdtempSync(
    path.join(existsSync('/tmp') ? '/tmp' : tmpdir(), 'minikeep-ssh-'),
  );
  const remove = (): void => rmSync(socketFolder, { recursive: true, force: true });
  const forget = interrupts.atOnce(remove);
  let results: readonly NodeResult[];
  try {
    results = await bootstrap({
      stack,
      bundles,
      socketFolder,
      configFile: flags.sshConfig,
      signal,
      onStep: (node, step, share) => {
        if (json) void sayStep(terminal, node, step, share);
        else
          lines.set(
            node,
            share === undefined ? step : `${step} ${Math.floor(share * 100)} %`,
            step,
          );
      },
    });
  } finally {
    lines.end();
    remove();
    forget();
  }
  const failed = results.filter(({ state }) => state === 'failed');
  if (json)
    await terminal.json({ type: 'done', cluster: stack.cluster, nodes: results.map(documentOf) });
  else
    await say(
      terminal,
      stack.cluster,
      stack.nodes.find(({ role }) => role === 'coordinator')?.name,
      results,
    );
  return failed.length === 0 ? EXIT.ok : EXIT.failed;
}

/** Only steps: who reads JSON does not want each percent. */
async function sayStep(
  terminal: Terminal,
  node: string,
  step: Step,
  share?: number,
): Promise<void> {
  if (share === undefined || share === 0 || share === 1)
    await terminal.json({ type: 'step', node, step });
}

async function readBundles(
  flags: BootstrapFlags,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<BundleFacts[]> {
  if (flags.bundle.length !== flags.digest.length)
    throw new MinikeepError(
      'usage.digest',
      'each --bundle needs its --digest: a digest inside the archive would prove nothing',
      {
        next: 'Give what `minikeep bundle` printed: --bundle FILE --digest SHA256',
        exitCode: EXIT.usage,
      },
    );
  const progress = new Progress(terminal, flags.json === true);
  try {
    const found: BundleFacts[] = [];
    for (const [i, file] of flags.bundle.entries()) {
      progress.show(`checking ${path.basename(file)}`);
      found.push(await checkBundle(path.resolve(file), flags.digest[i] ?? '', signal));
    }
    return found;
  } finally {
    progress.clear();
  }
}

const documentOf = (one: NodeResult) => ({
  name: one.name,
  state: one.state,
  seconds: Math.round(one.seconds * 10) / 10,
  did: one.did,
  by_hand: one.byHand,
  error:
    one.error === undefined
      ? null
      : { code: one.error.code, message: one.error.message, next: one.error.next },
});

async function say(
  terminal: Terminal,
  cluster: string,
  coordinator: string | undefined,
  results: readonly NodeResult[],
): Promise<void> {
  const failed = results.filter(({ error }) => error !== undefined);
  for (const { name, error } of failed) {
    await terminal.paragraph(`${error?.code}: ${error?.message}`, `✗ ${name}  `);
    await terminal.line(`    next: ${error?.next}`);
  }
  const byHand = results.flatMap((one) => one.byHand.map((what) => [one.name, what] as const));
  if (byHand.length > 0) {
    await terminal.line();
    await terminal.line('Left to do by hand:');
    for (const [name, what] of byHand) await terminal.paragraph(what, `  ${name}: `);
  }
  await terminal.line();
  if (failed.length > 0) {
    await terminal.line(
      `${results.length - failed.length} of ${results.length} machines of ${cluster} are up. Run it again when the rest is mended: it goes on where it stopped.`,
    );
    return;
  }
  const changed = results.some(({ did }) => did.length > 0);
  await terminal.line(
    `${cluster} is up: ${results.length} of ${results.length} machines${changed ? '' : '; nothing had to be done'}. On its coordinator:`,
  );
  const command = results.find(({ name }) => name === coordinator)?.command ?? 'minikeep';
  await terminal.line(`  ${command} nodes`);
  await terminal.line(`  ${command} model import FILE, then: ${command} up NAME`);
}
