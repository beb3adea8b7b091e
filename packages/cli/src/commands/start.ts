/** `minikeep start`: this node in the foreground: its agent, and the coordinator where it is one. */
import path from 'node:path';
import type { GuardedProcess } from '@minikeep/containment';
import type { Announced } from '@minikeep/discovery';
import { EXIT } from '@minikeep/protocol';
import { writeSettings, type NodeSettings } from '@minikeep/state';
import type { CommandContext } from '../command-context.ts';
import { homeFolder, nodeSettings, type HomeFlags } from '../home-folder.ts';
import { UNSAFE_WARNING } from '../local-session.ts';
import { announceHome } from '../announce-home.ts';
import { checkPrograms } from '../check-programs.ts';
import { safeLine } from '../safe-text.ts';
import { forgetStarted, markStarted } from '../started.ts';
import { Daemon, type DaemonOptions } from '../supervised.ts';

export interface StartFlags extends HomeFlags {
  readonly unsafeNoSandbox?: boolean;
  readonly acceptChanged?: boolean;
  readonly background?: boolean;
  readonly discovery?: boolean;
  readonly network?: readonly string[];
}

/** Slices that no deployment needs are kept up to this. */
const STORE_BYTES_MAX = 2 * 2 ** 40;

export async function start(context: CommandContext, flags: StartFlags): Promise<number> {
  const { terminal, interrupts, distFolder } = context;
  const folder = homeFolder(flags);
  const settings = withNetworks(folder, flags.network ?? []);
  const json = flags.json === true;
  if (flags.unsafeNoSandbox === true && !json) terminal.note(UNSAFE_WARNING);
  const say = async (event: object, text: string): Promise<void> =>
    json ? terminal.json(event) : terminal.line(text);
  const accepted = await checkPrograms(
    context,
    { acceptChanged: flags.acceptChanged === true, json },
    interrupts.signal,
  );
  const discovery = flags.discovery !== false && settings.discovery !== false;
  const daemon = (name: GuardedProcess, content: object, guard: DaemonOptions['guard']): Daemon => {
    const options: DaemonOptions = {
      name,
      guard,
      program: path.join(distFolder, `${name}.mjs`),
      config: { file: path.join(folder, `${name}-process.json`), content },
      onListening: (address, pid, again) =>
        void say(
          { type: 'listening', process: name, address, pid, again },
          `${name} ${again ? 'listens again' : 'listens'} on ${address}`,
        ),
      onDied: (why) =>
        void say({ type: 'died', process: name, why }, `${name}: ${why}; starting it again`),
      onRefused: ({ kind, count }) => {
        if (json) void terminal.json({ type: 'violation', process: name, kind, count });
        else
          terminal.note(
            `warning: the ${name} tried to get out and was refused (${kind}${count > 1 ? `, ${count} times` : ''}); it is recorded`,
          );
      },
      onWarning: ({ code, message, next }) => {
        if (json) void terminal.json({ type: 'warning', process: name, code, message, next });
        else terminal.note(safeLine(`warning: ${message}. ${next}`, 1_000));
      },
      onLog: (text) => {
        if (flags.verbose === true && !json)
          for (const line of text.trimEnd().split('\n')) terminal.note(`  ${line}`);
      },
    };
    return new Daemon(options);
  };
  const networks = settings.networks ?? [];
  const daemons: Daemon[] = [];
  let announced: Announced | undefined;
  const stop = async (): Promise<void> => {
    await announced?.close();
    // The coordinator first: it lets go of its deployments while the agents still answer.
    for (const each of daemons) await each.stop();
  };
  const forget = interrupts.atOnce(() => {
    for (const each of daemons) each.kill();
  });
  const interrupted = new Promise<void>((resolve) => {
    if (interrupts.signal.aborted) resolve();
    interrupts.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  if (!json)
    await terminal.line(
      `node ${settings.node} of the cluster ${settings.cluster_name}${settings.serves === undefined ? '' : ', with its coordinator'}; Ctrl-C ends it`,
    );
  try {
    if (settings.serves !== undefined) {
      const { listen, enrolment_listen, api_listen } = settings.serves;
      const coordinator = daemon(
        'coordinator',
        {
          home: folder,
          end_with_stdin: true,
          ...(accepted.length === 0 ? {} : { accepted_changed: accepted }),
        },
        { listen: [listen, enrolment_listen, api_listen], networks, discovery: false },
      );
      daemons.push(coordinator);
      // It holds the home: an agent of a second `start` must not get as far as to be taken for a copy of the first one's.
      await Promise.race([interrupted, coordinator.fatal, coordinator.listening]);
      if (interrupts.signal.aborted) return EXIT.ok;
    }
    daemons.push(
      daemon(
        'agent',
        {
          home: folder,
          store: { folder: path.join(folder, 'store'), bytes_max: STORE_BYTES_MAX },
          program_folder: distFolder,
          unsafe_no_sandbox: flags.unsafeNoSandbox === true,
          discovery,
          end_with_stdin: true,
        },
        // Without a sandbox engines are the agent's own children: no list could tell who of them asks.
        flags.unsafeNoSandbox === true
          ? undefined
          : { listen: [settings.listen], networks, discovery },
      ),
    );
    if (settings.serves !== undefined && discovery)
      announced = announceHome(folder, settings, (why) => {
        if (!json) terminal.note(`not announced on the local network: ${why}`);
      });
    // Once this node's processes hold the home: a second start fails before it gets here.
    void daemons.at(-1)?.listening.then(() => markStarted(folder));
    await Promise.race([interrupted, ...daemons.map((each) => each.fatal)]);
  } finally {
    await stop();
    forgetStarted(folder);
    forget();
  }
  // Ending it is the only way for it to end: no fault.
  return EXIT.ok;
}

/** Networks that are named are kept: the next start knows them, too. */
function withNetworks(folder: string, named: readonly string[]): NodeSettings {
  const settings = nodeSettings(folder);
  const known = settings.networks ?? [];
  const fresh = named.filter((network) => !known.includes(network));
  if (fresh.length === 0) return settings;
  const changed = { ...settings, networks: [...known, ...fresh] };
  writeSettings(folder, changed);
  return changed;
}
