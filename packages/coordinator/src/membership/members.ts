/**
 * The members of a real cluster: who may join, who is there, who is shut out. Everything that is answered is in the
 * database before.
 */
import { timingSafeEqual } from 'node:crypto';
import { EXIT, MinikeepError, isName } from '@minikeep/protocol';
import {
  keyDigestOfRequest,
  type CertificateAuthority,
  type Certified,
} from '@minikeep/protocol/authority';
import {
  type Revocations,
  encodeToken,
  formatAddress,
  keyPin,
  newToken,
  parseAddress,
  secretDigest,
} from '@minikeep/protocol/rpc';
import type { AnnounceRequest, JoinRequest, JoinResponse } from '@minikeep/protocol/v1';
import {
  addCertificate,
  addNode,
  addToken,
  judgeToken,
  knowsCertificate,
  nameFor,
  noteCertificate,
  readNodes,
  removeNode,
  revokedSerials,
  setAddresses,
  type NodeRow,
  type NodeSettings,
  type State,
} from '@minikeep/state';
import type { NodeFacts } from '../cluster.ts';
import { CertifiedAddresses, certifiable, type Announcer } from './certifiable.ts';
import { badName, cloned, outdated, refusedToken, removed } from './refusals.ts';

/** A node that is silent for this long may be another machine with the same home. */
const INSTANCE_SILENT_MS = 45_000;
const ANNOUNCE_MS_MAX = 30_000;
const HOSTS_MAX = 16;
const EXPIRES_SECONDS_MAX = 7 * 86_400;
const SECRET_BYTES = 32;
/** Machines that wish for the same name in the same moment. */
const RIVALS_MAX = 8;
const REFUSALS_A_MINUTE = 10;
const TOKEN_ID = /^[0-9a-f]{16}$/;

/** What a node said when it last announced itself. */
interface Heard {
  readonly instance: string;
  readonly atMs: number;
  readonly clockAheadSeconds: number;
}

export interface MembersOptions {
  readonly settings: NodeSettings;
  readonly state: State;
  readonly authority: CertificateAuthority;
  readonly revocations: Revocations;
  readonly now: () => number;
  /** Where the coordinator is reached: hosts without ports, and the two ports. Known once it listens. */
  where(): {
    readonly hosts: readonly string[];
    readonly port: number;
    readonly enrolmentPort: number;
  };
  /** A node joined or said where it is. */
  onNode(name: string, addresses: readonly string[]): void;
  onRemoved(name: string): void;
  /** A node says that this coordinator is not the newest of its cluster. */
  onOutdated(error: MinikeepError): void;
}

export class Members {
  readonly #options: MembersOptions;
  readonly #heard = new Map<string, Heard>();
  readonly #certified = new CertifiedAddresses();
  /** Why a node is not taken for there although it calls. */
  readonly #refused = new Map<string, MinikeepError>();
  #refusals = { window: 0, logged: 0, unlogged: 0 };

  constructor(options: MembersOptions) {
    this.#options = options;
    options.revocations.apply(this.#revoked());
  }

  get settings(): NodeSettings {
    return this.#options.settings;
  }

  nodes(): NodeRow[] {
    return this.#options.state.read(readNodes);
  }

  /** A node called, and was refused for that; undefined: it was not. */
  refusedAs(name: string, why: MinikeepError | undefined): void {
    if (why === undefined) this.#refused.delete(name);
    else this.#refused.set(name, why);
  }

  facts(name: string): NodeFacts | undefined {
    const row = this.nodes().find((node) => node.name === name);
    if (row === undefined) return undefined;
    return {
      clockAheadSeconds: this.#heard.get(name)?.clockAheadSeconds ?? 0,
      certificateEndsAtMs: row.certificateEndsAtMs,
      refused: this.#refused.get(name),
    };
  }

  /** A new token; only its digest is kept. */
  invite(expiresSeconds: number): { token: string; expiresAtMs: number; addresses: string[] } {
    const { authority, state, now } = this.#options;
    if (!(expiresSeconds >= 1 && expiresSeconds <= EXPIRES_SECONDS_MAX))
      throw new MinikeepError(
        'token.expiry_invalid',
        'a token is good for one second to seven days',
        {
          next: 'Give a time like 30m, 12h or 2d: minikeep invite --expires 30m',
          exitCode: EXIT.usage,
        },
      );
    const { hosts, port, enrolmentPort } = this.#options.where();
    const token = newToken({
      pin: keyPin(authority.certificatePem),
      port: enrolmentPort,
      mainPort: port,
      hosts,
    });
    const expiresAtMs = now() + expiresSeconds * 1000;
    const row = { id: token.id, secretDigest: secretDigest(token.secret), expiresAtMs };
    state.write((transaction) => addToken(transaction, row, now()));
    const addresses = hosts.map((host) => formatAddress(host, port));
    return { token: encodeToken(token), expiresAtMs, addresses };
  }

  /** Throws `token.refused`, `node.name_taken`, `node.name_invalid`, `identity.request_invalid`. */
  async join(request: JoinRequest): Promise<JoinResponse> {
    if (!isName(request.name)) throw badName(request.name);
    const keyDigest = await keyDigestOfRequest(request.certificateRequestPem);
    for (let left = RIVALS_MAX; ; left--) {
      // Judged before a certificate is made, and again when it is written: two at once may have one token, or one name.
      const name = this.#admit(request, keyDigest);
      try {
        return await this.#takeIn(name, request, keyDigest);
      } catch (thrown) {
        const taken = thrown instanceof MinikeepError && thrown.code === 'node.name_taken';
        if (!taken || request.nameIsFixed || left === 0) throw thrown;
      }
    }
  }

  async #takeIn(name: string, request: JoinRequest, keyDigest: Uint8Array): Promise<JoinResponse> {
    const { state, authority, settings, now } = this.#options;
    const certified = await this.#certify(name, request.certificateRequestPem);
    state.write((transaction) => {
      const verdict = judgeToken(
        transaction.database,
        request.tokenId,
        secretDigest(request.tokenSecret),
        keyDigest,
        now(),
      );
      if (verdict.refused !== undefined) throw refusedToken();
      if (nameFor(transaction.database, name, true, keyDigest) !== name) throw refusedToken();
      addNode(transaction, { name, keyDigest, nowMs: now() }, certified, request.tokenId);
    });
    this.#options.onNode(name, this.#addressesOf(name));
    const { hosts, port } = this.#options.where();
    return {
      clusterId: authority.cluster,
      clusterName: settings.cluster_name,
      node: name,
      certificatePem: certified.certificatePem,
      coordinator: settings.coordinator,
      coordinatorAddresses: hosts.map((host) => formatAddress(host, port)),
      nowSeconds: now() / 1000,
    };
  }

  #admit(request: JoinRequest, keyDigest: Uint8Array): string {
    const { state, now } = this.#options;
    const wellFormed =
      TOKEN_ID.test(request.tokenId) && request.tokenSecret.length === SECRET_BYTES;
    const digest = secretDigest(request.tokenSecret);
    const verdict = wellFormed
      ? state.read((database) => judgeToken(database, request.tokenId, digest, keyDigest, now()))
      : { refused: 'unknown' as const };
    if (verdict.refused !== undefined) {
      // The operator learns why; the one who tried does not.
      this.logRefusal({
        why: verdict.refused,
        token: wellFormed ? request.tokenId : '',
        name: request.name,
      });
      throw refusedToken();
    }
    const fixed = verdict.usedBy === undefined ? request.nameIsFixed : false;
    return state.read((database) =>
      nameFor(database, verdict.usedBy ?? request.name, fixed, keyDigest),
    );
  }

  /** Strangers may try as often as they like, but not fill the log: so many a minute, the rest as a number. */
  logRefusal(data: Readonly<Record<string, string>>): void {
    const { state, now } = this.#options;
    const window = Math.floor(now() / 60_000);
    if (window !== this.#refusals.window) this.#refusals = { ...this.#refusals, window, logged: 0 };
    if (this.#refusals.logged >= REFUSALS_A_MINUTE) {
      this.#refusals.unlogged += 1;
      return;
    }
    const { unlogged } = this.#refusals;
    this.#refusals.logged += 1;
    this.#refusals.unlogged = 0;
    state.write(({ event }) =>
      event('join.refused', unlogged === 0 ? data : { ...data, not_logged_before: unlogged }),
    );
  }

  /** Keeps where the node is. Throws `node.removed`, `node.cloned`, `coordinator.outdated`. */
  announce(
    name: string,
    request: AnnounceRequest,
    { host: source, serial, named = [] }: Announcer,
  ): { renew: boolean; announceSeconds: number } {
    const { state, now } = this.#options;
    const row = this.nodes().find((node) => node.name === name);
    if (row === undefined) throw removed(name);
    this.#checkOwnAge(name, request.revocationEpoch);
    this.#noteCertificate(name, serial);
    if (this.otherInstance(name, request.instance) !== undefined) {
      state.write(({ event }) => event('node.cloned', { node: name, from: source.slice(0, 100) }));
      throw cloned(name);
    }
    this.#heard.set(name, {
      instance: request.instance,
      atMs: now(),
      clockAheadSeconds: request.nowSeconds - now() / 1000,
    });
    const hosts = [...new Set([source, ...request.hosts.slice(0, HOSTS_MAX)])];
    const addresses = hosts.flatMap((host) => addressOf(host, request.port));
    if (addresses.join() !== row.addresses.join())
      state.write((transaction) => setAddresses(transaction, name, addresses));
    this.#options.onNode(name, addresses);
    const lifetimeMs = this.#lifetimeMs();
    return {
      renew:
        row.certificateEndsAtMs - now() < lifetimeMs / 3 ||
        this.#certified.lacks(name, named, addresses),
      announceSeconds: this.#announceMs() / 1000,
    };
  }

  /** Another agent of that name that was heard of a moment ago: of a copied home, or killed since then. */
  otherInstance(name: string, instance: string): string | undefined {
    const heard = this.#heard.get(name);
    if (heard === undefined || heard.instance === instance) return undefined;
    return this.#options.now() - heard.atMs < this.#silentMs() ? heard.instance : undefined;
  }

  /** A node that knows a later list of revoked certificates has heard it from a coordinator that took this one's place. */
  #checkOwnAge(node: string, epoch: number): void {
    if (epoch <= this.#revoked().epoch) return;
    const error = outdated(node);
    this.#options.onOutdated(error);
    throw error;
  }

  /** A database from a backup lacks certificates that were renewed after it: they have to be known to be shut out. */
  #noteCertificate(node: string, serial: string): void {
    const { state, now } = this.#options;
    if (state.read((database) => knowsCertificate(database, serial))) return;
    const notAfterMs = now() + this.#lifetimeMs();
    state.write((transaction) => noteCertificate(transaction, node, { serial, notAfterMs }));
  }

  /** An agent that ends says so: another may take its place at once. */
  leaves(name: string, instance: string): void {
    if (this.#heard.get(name)?.instance === instance) this.#heard.delete(name);
  }

  /** Throws `node.removed`, `identity.request_invalid`, `node.other_key`. */
  async renew(name: string, requestPem: string): Promise<string> {
    const { state } = this.#options;
    const keyDigest = await keyDigestOfRequest(requestPem);
    const addresses = certifiable(this.#addressesOf(name));
    const certified = await this.#certify(name, requestPem, addresses);
    state.write(({ database, event }) => {
      const row = readNodes(database).find((node) => node.name === name);
      if (row === undefined) throw removed(name);
      if (!timingSafeEqual(row.keyDigest, keyDigest))
        throw new MinikeepError(
          'node.other_key',
          `node ${name} asked with another key than it joined with`,
          {
            next: 'Join it again with a new token: minikeep invite',
            exitCode: EXIT.denied,
          },
        );
      addCertificate(database, name, certified);
      event('node.renewed', { node: name, certificate: certified.serial });
    });
    this.#certified.set(name, addresses);
    return certified.certificatePem;
  }

  /** Shuts the node out here and returns the list for the agents. Throws `node.unknown`, `node.is_coordinator`. */
  remove(name: string): { epoch: number; serials: string[] } {
    const { state, revocations, now } = this.#options;
    this.checkRemovable(name);
    state.write((transaction) => removeNode(transaction, name, now()));
    this.#heard.delete(name);
    this.#certified.forget(name);
    this.#refused.delete(name);
    const list = this.#revoked();
    revocations.apply(list);
    this.#options.onRemoved(name);
    return list;
  }

  /** Throws `node.is_coordinator`. */
  checkRemovable(name: string): void {
    const { settings } = this.#options;
    if (name === settings.node)
      throw new MinikeepError('node.is_coordinator', `node ${name} is where the coordinator runs`, {
        next: 'Remove the other nodes, or move the cluster first: minikeep backup, then init --restore elsewhere.',
        exitCode: EXIT.usage,
      });
  }

  revoked(): { epoch: number; serials: string[] } {
    return this.#revoked();
  }

  #revoked(): { epoch: number; serials: string[] } {
    const { state, now } = this.#options;
    return state.read((database) => revokedSerials(database, now()));
  }

  #addressesOf(name: string): readonly string[] {
    return this.nodes().find((node) => node.name === name)?.addresses ?? [];
  }

  #certify(
    name: string,
    requestPem: string,
    addresses: readonly string[] = [],
  ): Promise<Certified> {
    return this.#options.authority.certify(
      'node',
      name,
      requestPem,
      this.#options.now(),
      this.#lifetimeMs(),
      addresses,
    );
  }

  #lifetimeMs(): number {
    return (this.#options.settings.serves?.certificate_seconds ?? 0) * 1000;
  }

  /** Often enough that a certificate is renewed well before it ends. */
  #announceMs(): number {
    return Math.min(ANNOUNCE_MS_MAX, this.#lifetimeMs() / 10);
  }

  #silentMs(): number {
    return Math.min(INSTANCE_SILENT_MS, this.#announceMs() * 1.5);
  }
}

function addressOf(host: string, port: number): string[] {
  try {
    const address = formatAddress(host, port);
    parseAddress(address);
    return [address];
  } catch {
    // A node may not make the coordinator call what is no address.
    return [];
  }
}
