/** A canary whose monitor says nothing, as a process of its own, so that a filter can be around it. Arguments: items. */
import { checklistFor } from '../../src/canary/checklist.ts';
import { runCanary, type SandboxPlatform, sandboxPlatform } from '../../src/index.ts';

const real = sandboxPlatform();
const mute: SandboxPlatform = {
  support: () => real.support(),
  launch: async (spec) => {
    const sandbox = await real.launch(spec);
    sandbox.onViolation = () => undefined;
    return sandbox;
  },
};
const items = checklistFor('linux').filter((item) => process.argv.includes(item.id));
const { state, attempts } = await runCanary(mute, { items });
process.stdout.write(JSON.stringify({ state, attempts }));
