/** The warden of macOS: Seatbelt refuses; this process starts, watches and ends. Its guard ends the engine with it. */
import { realpathSync } from 'node:fs';
import { ENGINE_WIRES, serveWarden } from '../warden/serve.ts';
import type { Commands } from './commands.ts';
import { selfCheck } from './self-check.ts';
import { supervise } from './supervise.ts';

export function serveSeatbelt(commands: Commands): void {
  serveWarden({
    probe: async () =>
      selfCheck(commands, {
        platform: process.platform,
        arch: process.arch,
        node: realpathSync(process.execPath),
      }),
    supervise: (job, report) => supervise(job, { commands, wires: ENGINE_WIRES, report }),
  });
}
