/** The policy of the output guard in the settings of the coordinator's home; each change is an entry of the event log. */
import { readSettings, writeSettings, type Home, type State } from '@minikeep/state';
import type { Cluster } from '../cluster.ts';

export function keepOutputPolicy(cluster: Cluster, home: Home, state: State): void {
  const kept = readSettings(home.folder)?.serves?.output_guard;
  cluster.output.keptBy(kept, (policy) => {
    const settings = readSettings(home.folder);
    if (settings?.serves === undefined) throw new Error('a coordinator without settings');
    // The log first: a guard that is off and of which nobody knows is the worse of the two halves.
    state.write(({ event }) =>
      event('output_guard.changed', { from: cluster.output.policy, to: policy }),
    );
    writeSettings(home.folder, {
      ...settings,
      serves: { ...settings.serves, output_guard: policy },
    });
  });
}
