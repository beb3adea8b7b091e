/**
 * Where the event log ends, signed by the cluster's authority: whoever keeps it, finds out later whether the log was
 * changed, cut or rolled back. Verifies with openssl and these few lines, without minikeep (docs/verify-log.py).
 */
import { sign, verify, X509Certificate } from 'node:crypto';
import type { LogHead } from './generated/v1.ts';

/** What is signed. */
export const headText = ({
  cluster,
  era,
  number,
  digest,
  atMs,
}: Omit<LogHead, 'signature'>): string =>
  `minikeep log head 1\n${cluster}\n${era}\n${number}\n${Buffer.from(digest).toString('hex')}\n${atMs}\n`;

/** `key`: the authority's, PEM. */
export function signHead(head: Omit<LogHead, 'signature'>, key: string): LogHead {
  return { ...head, signature: sign('sha256', Buffer.from(headText(head)), key) };
}

/** `authority`: its certificate, PEM. */
export function isSigned(head: LogHead, authority: string): boolean {
  const { publicKey } = new X509Certificate(authority);
  try {
    return verify('sha256', Buffer.from(headText(head)), publicKey, head.signature);
  } catch {
    return false;
  }
}

/** The authority's public key as openssl reads it. */
export const publicKeyPem = (authority: string): string =>
  new X509Certificate(authority).publicKey.export({ type: 'spki', format: 'pem' });
