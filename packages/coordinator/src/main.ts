/** The coordinator's process: `coordinator.mjs CONFIG.json`. */
import { MINIKEEP_VERSION, makeLogger, runProcess } from '@minikeep/protocol';
import { readConfig } from '@minikeep/protocol/config';
import { COORDINATOR_CONFIG } from './config.ts';
import { startCoordinator } from './coordinator.ts';

const log = makeLogger('coordinator');

await runProcess({
  log,
  async start() {
    const config = await readConfig(COORDINATOR_CONFIG, process.argv[2] ?? '', 'coordinator');
    const running = await startCoordinator(config, MINIKEEP_VERSION, log);
    return {
      running,
      endWithStdin: config.end_with_stdin,
      temporaryFolder: config.temporary_folder,
    };
  },
});
