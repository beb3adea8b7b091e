/**
 * Who a certificate belongs to: a URI in the certificate's subject alternative name. The addresses beside it say where
 * its owner was when it was made, for whoever looks at it; nobody is let in or refused by them, for nodes may move.
 */
import { MinikeepError } from './errors.ts';

export const ROLES = ['coordinator', 'node', 'operator'] as const;
export type Role = (typeof ROLES)[number];

export interface Identity {
  /** Random, per cluster. */
  readonly cluster: string;
  readonly role: Role;
  /** The node's id or the operator's name; a node that is also the coordinator has two certificates. */
  readonly name: string;
}

const NAME = /^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$/;
const URI = /^minikeep:\/\/([^/]+)\/([^/]+)\/([^/]+)$/;

/** True for names that may stand in a certificate: lower-case letters, digits, `.`, `_`, `-`; 1 to 63 characters. */
export function isName(name: string): boolean {
  return NAME.test(name);
}

/** `minikeep://CLUSTER/ROLE/NAME`. Throws `identity.name_invalid`. */
export function identityUri(identity: Identity): string {
  for (const part of [identity.cluster, identity.name])
    if (!isName(part))
      throw new MinikeepError(
        'identity.name_invalid',
        `"${part.slice(0, 80)}" can't be a name in a certificate`,
        {
          next: 'Use 1 to 63 lower-case letters, digits, dots, underscores or hyphens; begin and end with a letter or digit.',
        },
      );
  return `minikeep://${identity.cluster}/${identity.role}/${identity.name}`;
}

/** The identity that a URI names, or undefined if it is not one of ours. */
export function parseIdentityUri(uri: string): Identity | undefined {
  const match = URI.exec(uri);
  const [, cluster, role, name] = match ?? [];
  if (cluster === undefined || role === undefined || name === undefined) return undefined;
  const known = ROLES.find((r) => r === role);
  return known !== undefined && isName(cluster) && isName(name)
    ? { cluster, role: known, name }
    : undefined;
}

const URI_ENTRY = 'URI:';
export const ADDRESS_ENTRY = 'IP Address:';

/**
 * The identity in a certificate's subject alternative name as Node prints it (`URI:…, IP Address:…`), or undefined.
 * A certificate of ours has one URI, first, and addresses; one with anything else, or with quoting, was not made by us.
 */
export function identityOfSubjectAltName(subjectAltName: string | undefined): Identity | undefined {
  const [first, ...others] = (subjectAltName ?? '').split(', ');
  if (first?.startsWith(URI_ENTRY) !== true) return undefined;
  if (!others.every((entry) => entry.startsWith(ADDRESS_ENTRY))) return undefined;
  return parseIdentityUri(first.slice(URI_ENTRY.length));
}
