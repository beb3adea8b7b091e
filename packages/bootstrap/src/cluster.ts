/** What is asked of the cluster by its coordinator's machine: making it, inviting, who is up. */
import { setTimeout as pause } from 'node:timers/promises';
import { MinikeepError } from '@minikeep/protocol';
import { z } from 'zod';
import type { Target } from './target.ts';

const UP_MS_MAX = 120_000;
const UP_POLL_MS = 1_000;
const JOIN_MS_MAX = 60_000;
/** A join tries so many addresses of the coordinator. */
const ADDRESSES_MAX = 6;

const NODES = z.object({
  nodes: z.array(
    z.object({
      name: z.string(),
      state: z.string(),
      version: z.string().default(''),
      error: z.object({ code: z.string(), message: z.string() }).nullable().default(null),
    }),
  ),
});
export type NodeRow = z.infer<typeof NODES>['nodes'][number];

export class Cluster {
  readonly coordinator: Target;
  readonly name: string;
  readonly #signal: AbortSignal;

  constructor(coordinator: Target, name: string, signal: AbortSignal) {
    this.coordinator = coordinator;
    this.name = name;
    this.#signal = signal;
  }

  get #home(): string[] {
    return ['--home', this.coordinator.looked.home];
  }

  /** Nothing when it is there already. Throws `bootstrap.other_cluster`. */
  async make(): Promise<void> {
    const { coordinator } = this;
    const { member } = coordinator.looked;
    if (member !== undefined) {
      const wrong =
        member.serves === undefined
          ? `is a node of the cluster ${member.cluster_name}, not a coordinator`
          : member.cluster_name !== this.name
            ? `is the coordinator of another cluster, ${member.cluster_name}`
            : member.node === coordinator.name
              ? undefined
              : `calls itself ${member.node}`;
      if (wrong === undefined) return;
      throw otherCluster(coordinator, wrong);
    }
    await coordinator.minikeep([
      'init',
      '--name',
      this.name,
      '--node-name',
      coordinator.name,
      ...this.#home,
    ]);
    await coordinator.look();
  }

  async nodes(): Promise<NodeRow[]> {
    return NODES.parse(await this.coordinator.minikeep(['nodes', ...this.#home])).nodes;
  }

  /** Resolves when the node is up, with that version if one is given. Throws `bootstrap.not_up`. */
  async untilUp(name: string, version?: string): Promise<void> {
    const deadline = Date.now() + UP_MS_MAX;
    let last = 'the coordinator does not answer';
    for (;;) {
      try {
        const row = (await this.nodes()).find((one) => one.name === name);
        if (row?.state === 'up' && row.error === null && (version ?? row.version) === row.version)
          return;
        if (row?.state === 'drained' && (version ?? row.version) === row.version) return;
        last =
          row === undefined
            ? 'the cluster does not know it'
            : `it is ${row.state}, version ${row.version || 'unknown'}${row.error === null ? '' : `: ${row.error.message}`}`;
      } catch (thrown) {
        this.#signal.throwIfAborted();
        last = thrown instanceof Error ? thrown.message : String(thrown);
      }
      if (Date.now() > deadline)
        throw new MinikeepError(
          'bootstrap.not_up',
          `${name} did not come up within ${UP_MS_MAX / 1000} s: ${last}`,
          {
            next: 'See its log there (minikeep service status names it), then run bootstrap again.',
          },
        );
      await pause(UP_POLL_MS, undefined, { signal: this.#signal });
    }
  }

  /** Nothing when it belongs to this cluster already. Throws `bootstrap.other_cluster`. */
  async join(target: Target): Promise<boolean> {
    const { member, home } = target.looked;
    const id = this.coordinator.looked.member?.cluster_id;
    if (member !== undefined) {
      if (member.serves !== undefined)
        throw otherCluster(target, `is the coordinator of the cluster ${member.cluster_name}`);
      if (member.cluster_id !== id)
        throw otherCluster(target, `belongs to another cluster, ${member.cluster_name}`);
      if (member.node !== target.name) throw otherCluster(target, `calls itself ${member.node}`);
      if ((await this.nodes()).some(({ name }) => name === target.name)) return false;
      // It was removed meanwhile: it joins again, with what it holds.
    }
    const { token, addresses } = await this.coordinator.minikeep<{
      token: string;
      addresses: string[];
    }>(['invite', ...this.#home]);
    const { node } = this.coordinator.ssh;
    const places = [...new Set([...node.addresses, ...addresses, this.coordinator.ssh.host])];
    let failed: unknown;
    for (const place of places.slice(0, ADDRESSES_MAX)) {
      try {
        // By standard input: nobody sees it among the processes.
        await target.minikeep(
          ['join', place, '--token-file', '-', '--name', target.name, '--home', home],
          { input: `${token}\n`, timeoutMs: JOIN_MS_MAX },
        );
        await target.look();
        return true;
      } catch (thrown) {
        this.#signal.throwIfAborted();
        failed ??= thrown;
        // Only a place where nobody answers says that another one might do.
        if (!(thrown instanceof MinikeepError) || !/unreachable|timeout|refused/.test(thrown.code))
          throw thrown;
      }
    }
    throw failed;
  }
}

const otherCluster = (target: Target, what: string): MinikeepError =>
  new MinikeepError('bootstrap.other_cluster', `${target.name} ${what}`, {
    next: `If nothing there is needed any more: ${target.ssh.typed}, end its node, and move ${target.looked.home} away; else correct the stack file.`,
  });
