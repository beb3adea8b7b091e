/** The agent's process: `agent.mjs CONFIG.json`. */
import { MINIKEEP_VERSION, makeLogger, runProcess } from '@minikeep/protocol';
import { readConfig } from '@minikeep/protocol/config';
import { startAgent } from './agent.ts';
import { nodeCanary } from './canary.ts';
import { AGENT_CONFIG } from './config.ts';
import { platformFor, supportOf } from './platform.ts';

const log = makeLogger('agent');

await runProcess({
  log,
  async start() {
    const config = await readConfig(AGENT_CONFIG, process.argv[2] ?? '', 'agent');
    const platform = platformFor(config.unsafe_no_sandbox);
    const running = await startAgent(config, {
      platform,
      canary: nodeCanary(platform, config),
      sandbox: supportOf(platform),
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
