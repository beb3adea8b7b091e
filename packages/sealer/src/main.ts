/**
 * The root helper's process: `sealer.mjs CONFIG.json`. It holds this machine's firewall as the cluster's authority orders;
 * it opens no connection, reads no model and no prompt, and does nothing else. The firewall outlives it.
 */
import { EXIT, MinikeepError, makeLogger, runProcess } from '@minikeep/protocol';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { readSealerConfig } from './config.ts';
import { CHECK_MS, SealKeeper } from './keeper.ts';
import { keptFile } from './kept.ts';
import { nftFirewall } from './nft-firewall.ts';
import { serveSealer } from './socket.ts';

const log = makeLogger('sealer');

await runProcess({
  log,
  async start() {
    if (process.geteuid?.() !== 0)
      throw new MinikeepError('seal.not_root', 'only root can set a firewall', {
        next: 'Install the root helper: sudo minikeep service install --seal node.',
        exitCode: EXIT.denied,
      });
    const config = readSealerConfig(process.argv[2] ?? '');
    mkdirSync(path.dirname(config.state), { recursive: true, mode: 0o700 });
    const keeper = new SealKeeper({
      ...config,
      firewall: nftFirewall(),
      store: keptFile(config.state),
      clock: {
        now: Date.now,
        after(milliseconds, what) {
          const timer = setTimeout(what, milliseconds);
          return () => clearTimeout(timer);
        },
      },
      onNote: (note) => log('warn', note, {}),
    });
    await keeper.start();
    const socket = await serveSealer(keeper, config.socket, config.uid);
    const timer = setInterval(() => void keeper.check(), CHECK_MS);
    return {
      running: {
        address: config.socket,
        async stop() {
          clearInterval(timer);
          keeper.close();
          await socket.close();
        },
      },
      endWithStdin: false,
      temporaryFolder: undefined,
    };
  },
});
