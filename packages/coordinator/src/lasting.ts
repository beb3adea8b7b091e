/** What a cluster with a home has and a throw-away one has not: members and a database. */
import { CALL_TIMEOUT_MS, type Logger } from '@minikeep/protocol';
import { deadline } from '@minikeep/protocol/rpc';
import type { RemoveNodeResponse } from '@minikeep/protocol/v1';
import type { State } from '@minikeep/state';
import type { Cluster } from './cluster.ts';
import { leaveNode } from './reconcile/requests.ts';
import type { Members } from './membership/members.ts';

/** A node must be shut out everywhere within a second; one that does not answer in this time learns it when it is back. */
const TELL_TIMEOUT_MS = Math.min(900, CALL_TIMEOUT_MS);

export class Lasting {
  readonly members: Members;
  readonly state: State;
  readonly #cluster: Cluster;
  readonly #log: Logger;

  constructor(members: Members, state: State, cluster: Cluster, log: Logger) {
    this.members = members;
    this.state = state;
    this.#cluster = cluster;
    this.#log = log;
  }

  /** What the node holds goes elsewhere; it is shut out here, then on every agent at once. Throws `remove.no_room`. */
  async removeNode(name: string, force: boolean, signal: AbortSignal): Promise<RemoveNodeResponse> {
    this.members.checkRemovable(name);
    const left = this.#cluster.nodes.some((node) => node.name === name)
      ? await leaveNode(this.#cluster, name, force, signal)
      : { moved: [], stuck: [] };
    const revoked = this.members.remove(name);
    const told: string[] = [];
    const notTold: string[] = [];
    await Promise.all(
      this.#cluster.nodes.map(async (node) => {
        try {
          await node.agent.revoke({ revoked }, { signal: deadline(TELL_TIMEOUT_MS) });
          told.push(node.name);
        } catch (error) {
          this.#log('warn', 'a node does not know yet who was removed', {
            node: node.name,
            error: String(error),
          });
          notTold.push(node.name);
        }
      }),
    );
    return { told: told.toSorted(), notTold: notTold.toSorted(), ...left };
  }
}
