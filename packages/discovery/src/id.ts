/** The name under which a cluster is announced: who has its token or its authority can make it, and nothing follows from it. */
import { createHash } from 'node:crypto';

const LENGTH = 32;

/** From the digest of the authority's public key (32 bytes). */
export function discoveryId(pin: Uint8Array): string {
  return createHash('sha256')
    .update('minikeep discovery 1\n')
    .update(pin)
    .digest('hex')
    .slice(0, LENGTH);
}

/** Bonjour's type of service: _minikeep._tcp. */
export const SERVICE_TYPE = 'minikeep';
/** Of the announcement's fields. */
export const ANNOUNCEMENT_VERSION = '1';
