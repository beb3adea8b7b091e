/** The coordinator's process: `coordinator.mjs CONFIG.json`, or `--home CONFIG.json` for a cluster that stays. */
import { guarding } from '@minikeep/containment/guarded';
import { MINIKEEP_VERSION, makeLogger, runProcess } from '@minikeep/protocol';
import { readConfig } from '@minikeep/protocol/config';
import { COORDINATOR_CONFIG, HOME_COORDINATOR_CONFIG } from './config.ts';
import { startCoordinator } from './coordinator.ts';
import { startHomeCoordinator } from './home-coordinator.ts';

const log = makeLogger('coordinator');
// Before anything is connected, or started.
const guarded = await guarding();

await runProcess({
  log,
  async start() {
    const [, , file = '', homeFile = ''] = process.argv;
    if (file === '--home') {
      const config = await readConfig(HOME_COORDINATOR_CONFIG, homeFile, 'coordinator');
      return {
        running: await startHomeCoordinator(config, MINIKEEP_VERSION, guarded, log),
        endWithStdin: config.end_with_stdin,
        temporaryFolder: undefined,
      };
    }
    const config = await readConfig(COORDINATOR_CONFIG, file, 'coordinator');
    const running = await startCoordinator(config, MINIKEEP_VERSION, guarded, log);
    return {
      running,
      endWithStdin: config.end_with_stdin,
      temporaryFolder: config.temporary_folder,
    };
  },
});
