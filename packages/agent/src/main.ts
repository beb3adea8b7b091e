/** The agent's process: `agent.mjs CONFIG.json`, or `--home CONFIG.json` for a cluster that stays. */
import { guarding } from '@minikeep/containment/guarded';
import { MINIKEEP_VERSION, makeLogger, runProcess } from '@minikeep/protocol';
import { readConfig } from '@minikeep/protocol/config';
import { readCredentials } from '@minikeep/protocol/rpc';
import { startAgent } from './agent.ts';
import { nodeCanary } from './canary.ts';
import { AGENT_CONFIG, HOME_AGENT_CONFIG } from './config.ts';
import { startHomeAgent } from './home-agent.ts';
import { nodeDoctor } from './node-doctor.ts';
import { nodeSpeed } from './node-speed.ts';
import { platformFor, supportOf } from './platform.ts';

const log = makeLogger('agent');
// Before anything is connected, or started.
const guarded = await guarding();

await runProcess({
  log,
  async start() {
    const [, , file = '', homeFile = ''] = process.argv;
    if (file === '--home') {
      const config = await readConfig(HOME_AGENT_CONFIG, homeFile, 'agent');
      return {
        running: await startHomeAgent(config, MINIKEEP_VERSION, guarded, log),
        endWithStdin: config.end_with_stdin,
        temporaryFolder: undefined,
      };
    }
    const config = await readConfig(AGENT_CONFIG, file, 'agent');
    const platform = platformFor(config.unsafe_no_sandbox);
    const running = await startAgent(config, {
      credentials: await readCredentials(config.credentials),
      platform,
      canary: nodeCanary(platform, config),
      doctor: nodeDoctor(platform, config, undefined),
      speed: nodeSpeed(platform, config, undefined),
      sandbox: supportOf(platform),
      guarding: guarded,
      version: MINIKEEP_VERSION,
      log,
    });
    return {
      running,
      endWithStdin: config.end_with_stdin,
      temporaryFolder: config.temporary_folder,
    };
  },
});
