/**
 * From one version to a newer one, node by node: each is stopped, its small state copied, switched over, started (its
 * database migrates itself then) and waited for. When one fails, it and all before it go back to what they were.
 */
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import type { Cluster } from './cluster.ts';
import { startNode, stopNode } from './node-life.ts';
import { quote } from './ssh.ts';
import type { Target } from './target.ts';

export interface Upgrading {
  readonly target: Target;
  /** Folders below versions/. */
  readonly from: string;
  readonly to: string;
  readonly version: string;
  onStep(step: 'upgrading' | 'going back' | 'up'): void;
  upgraded(): void;
  failed(error: MinikeepError): void;
}

/** In the home; what a version before could not read any more is put back from it. */
const KEPT = 'before-upgrade';

export async function upgrade(
  cluster: Cluster,
  nodes: readonly Upgrading[],
  signal: AbortSignal,
): Promise<void> {
  const begun: Upgrading[] = [];
  for (const node of nodes) {
    try {
      // Between two nodes is the place to stop: never within one.
      signal.throwIfAborted();
      node.onStep('upgrading');
      await keepState(node.target);
      // From here on there is something to go back from.
      begun.push(node);
      await node.target.switchTo(node.to);
      await startNode(node.target);
      await cluster.untilUp(node.target.name, node.version);
      node.upgraded();
      node.onStep('up');
    } catch (thrown) {
      signal.throwIfAborted();
      await goBack(cluster, begun, node, toMinikeepError(thrown));
      for (const other of nodes) if (!begun.includes(other)) other.failed(notUpgraded(other, node));
      return;
    }
  }
}

/** Stops the node: a database is copied whole only when nobody writes it. */
async function keepState(target: Target): Promise<void> {
  const { home } = target.looked;
  await stopNode(target);
  const { code, stderr } = await target.run(
    `cd ${quote(home)} && rm -rf ${KEPT} && mkdir -m 700 ${KEPT} && for file in state.db state.db-wal node.json; do [ ! -f $file ] || cp -p $file ${KEPT}/ || exit 1; done; chown -R "$(ls -nd . | awk '{print $3":"$4}')" ${KEPT}`,
  );
  if (code === 0) return;
  await startNode(target);
  throw new MinikeepError(
    'bootstrap.not_kept',
    `the state of ${target.name} could not be copied: ${stderr.trim().slice(-300)}`,
    { next: 'Free space on that machine, then run bootstrap again.' },
  );
}

async function goBack(
  cluster: Cluster,
  begun: readonly Upgrading[],
  failed: Upgrading,
  why: MinikeepError,
): Promise<void> {
  // The coordinator, which came first, first: the newer one may not know a node of before when it is back.
  for (const node of begun) {
    node.onStep('going back');
    try {
      await stopNode(node.target);
      await node.target.switchTo(node.from);
      await startAsBefore(node.target);
      const version = node.from.replace(/-(linux-x64|darwin-arm64)-[0-9a-f]{12}$/, '');
      await cluster.untilUp(node.target.name, version);
      node.failed(
        node === failed
          ? new MinikeepError(
              'bootstrap.went_back',
              `${node.target.name} could not be upgraded and runs its version of before again: ${why.message}`,
              { next: why.next },
            )
          : notUpgraded(node, failed),
      );
    } catch (thrown) {
      const error = toMinikeepError(thrown);
      node.failed(
        new MinikeepError(
          'bootstrap.not_back',
          `${node.target.name} could not go back to ${node.from}: ${error.message} (it was to be upgraded, and ${failed.target.name} failed: ${why.message})`,
          {
            next: `On that machine: ln -sfn versions/${node.from} ${node.target.looked.prefix}/current, and start it; its state of before is in ${node.target.looked.home}/${KEPT}`,
          },
        ),
      );
    }
  }
}

/** What was acknowledged meanwhile is kept, unless the version before can't read a database that was migrated. */
async function startAsBefore(target: Target): Promise<void> {
  const { home } = target.looked;
  const asked = await target.run(
    `${quote(target.program)} model list --home ${quote(home)} --json`,
  );
  if (/state\.newer_version/.test(asked.stderr)) {
    const { code, stderr } = await target.run(
      `cd ${quote(home)} && [ -f ${KEPT}/state.db ] && mv state.db newer-state.db && rm -f state.db-wal state.db-shm && cp -p ${KEPT}/state.db . && { [ ! -f ${KEPT}/state.db-wal ] || cp -p ${KEPT}/state.db-wal .; }`,
    );
    if (code !== 0)
      throw new MinikeepError(
        'bootstrap.not_put_back',
        `the state of before could not be put back: ${stderr.trim().slice(-300)}`,
        { next: `It is in ${home}/${KEPT}.` },
      );
  }
  await startNode(target);
}

const notUpgraded = (node: Upgrading, failed: Upgrading): MinikeepError =>
  new MinikeepError(
    'bootstrap.not_upgraded',
    `${node.target.name} runs its version of before, because ${failed.target.name} could not be upgraded`,
    { next: `Mend ${failed.target.name}, then run bootstrap again.` },
  );
