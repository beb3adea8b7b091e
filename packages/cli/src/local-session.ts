/** A throw-away cluster for the time of one command, gone whatever ends that command. */
import { toMinikeepError } from '@minikeep/protocol';
import { checkPrograms } from './check-programs.ts';
import type { CommandContext } from './command-context.ts';
import type { LocalCluster } from './local-cluster.ts';

/** Said wherever engines run without walls; JSON says it in its own fields. */
export const UNSAFE_WARNING =
  'warning: --unsafe-no-sandbox: engines may read, write and connect as you may; nothing is sealed';

export interface LocalSessionOptions {
  readonly nodes: number;
  readonly unsafeNoSandbox: boolean;
  /** Also with programs that are not what they should be. */
  readonly acceptChanged?: boolean;
  /** Print what the processes logged when the command fails. */
  readonly verbose: boolean;
  /** Only JSON on stderr. */
  readonly json: boolean;
  readonly signal: AbortSignal;
}

export async function withLocalSession<T>(
  context: CommandContext,
  options: LocalSessionOptions,
  use: (cluster: LocalCluster) => Promise<T>,
): Promise<T> {
  const { terminal, interrupts, distFolder } = context;
  if (options.unsafeNoSandbox && !options.json) terminal.note(UNSAFE_WARNING);
  const { json, acceptChanged = false } = options;
  await checkPrograms(context, { acceptChanged, json }, options.signal);
  let forget = (): void => {};
  let cluster: LocalCluster | undefined;
  try {
    // Loaded only here: certificates and gRPC are most of the program, and most mistakes are found before them.
    const { startLocalCluster } = await import('./local-cluster.ts');
    options.signal.throwIfAborted();
    cluster = await startLocalCluster({
      nodes: options.nodes,
      unsafeNoSandbox: options.unsafeNoSandbox,
      distFolder,
      signal: options.signal,
      onStarting: (abandon) => (forget = interrupts.atOnce(abandon)),
    });
    return await use(cluster);
  } catch (thrown) {
    if (options.verbose && !options.json && !options.signal.aborted && cluster !== undefined)
      for (const line of cluster.log().split('\n')) if (line !== '') terminal.note(`  ${line}`);
    throw toMinikeepError(thrown);
  } finally {
    await cluster?.stop();
    forget();
  }
}
