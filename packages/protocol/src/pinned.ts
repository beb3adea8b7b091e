/**
 * Looks at who answers before anything is said: the chain must end in the authority whose key the token names. A man in
 * the middle with a certificate of his own is found here, and has learnt nothing but that somebody connected.
 */
import { X509Certificate, createHash, timingSafeEqual } from 'node:crypto';
import { connect, type DetailedPeerCertificate } from 'node:tls';
import { SET_CLOCK, utc } from './clock.ts';
import { EXIT, MinikeepError } from './errors.ts';
import { formatAddress } from './addresses.ts';
import { identityOfSubjectAltName, type Identity } from './identity.ts';
import { CONNECT_TIMEOUT_MS } from './limits.ts';

const CHAIN_MAX = 4;

/** SHA-256 of a certificate's public key (SPKI, DER): the same for every certificate of one authority. */
export function keyPin(certificatePem: string | Uint8Array): Uint8Array {
  const { publicKey } = new X509Certificate(certificatePem);
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest();
}

export interface PinnedServer {
  /** The authority's certificate, PEM. */
  readonly authorityPem: string;
  /** Who answered. */
  readonly identity: Identity;
  /** At which address: the host may have been a name. */
  readonly host: string;
}

/**
 * Connects, checks the chain against `pin`, hangs up. Sends nothing.
 * Throws `join.unreachable`, `join.other_authority`, `join.not_coordinator`, `clock.skew`.
 */
export async function lookAtAuthority(
  host: string,
  port: number,
  pin: Uint8Array,
  signal: AbortSignal,
): Promise<PinnedServer> {
  const where = formatAddress(host, port);
  const { chain, host: at } = await peerChain(host, port, signal);
  const [leaf] = chain;
  const authority = chain.find((certificate) => timingSafeEqual(keyPin(certificate.raw), pin));
  if (leaf === undefined || authority === undefined || authority === leaf)
    throw new MinikeepError(
      'join.other_authority',
      `who answers at ${where} is not of the cluster that the token is for`,
      {
        next: 'Check the address; another cluster or a stranger listens there. Nothing was sent to it.',
        exitCode: EXIT.denied,
      },
    );
  if (!leaf.checkIssued(authority) || !leaf.verify(authority.publicKey) || !authority.ca)
    throw new MinikeepError('join.other_authority', `the certificate of ${where} is forged`, {
      next: 'Find out who listens there before you go on. Nothing was sent to it.',
      exitCode: EXIT.denied,
    });
  checkTimes(leaf, where);
  const identity = identityOfSubjectAltName(leaf.subjectAltName);
  if (identity?.role !== 'coordinator')
    throw new MinikeepError(
      'join.not_coordinator',
      `${where} is of this cluster, but not its coordinator`,
      {
        next: 'Give the address of the node on which `minikeep init` was run.',
        exitCode: EXIT.usage,
      },
    );
  return { authorityPem: authority.toString(), identity, host: at };
}

interface Peer {
  readonly chain: X509Certificate[];
  /** Its address. */
  readonly host: string;
}

function peerChain(host: string, port: number, signal: AbortSignal): Promise<Peer> {
  const where = formatAddress(host, port);
  const unreachable = (why: string, cause?: unknown): MinikeepError =>
    new MinikeepError('join.unreachable', `nobody answers at ${where}: ${why}`, {
      next: 'Check that `minikeep start` runs on the first node, the address, and that both are on one network.',
      exitCode: EXIT.unreachable,
      cause,
    });
  return new Promise((resolve, reject) => {
    // The chain is checked by hand, against the pin, in place of the system's authorities.
    const socket = connect({
      host,
      port,
      servername: 'minikeep',
      minVersion: 'TLSv1.3',
      rejectUnauthorized: false,
    });
    const settle = (done: () => void): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      socket.destroy();
      done();
    };
    const abort = (): void => settle(() => reject(signal.reason as Error));
    const timer = setTimeout(
      () => settle(() => reject(unreachable(`no answer within ${CONNECT_TIMEOUT_MS / 1000} s`))),
      CONNECT_TIMEOUT_MS,
    );
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    socket.once('secureConnect', () => {
      const chain = certificates(socket.getPeerCertificate(true));
      const at = socket.remoteAddress ?? host;
      settle(() => resolve({ chain, host: at }));
    });
    socket.once('error', (error) => settle(() => reject(unreachable(error.message, error))));
    socket.once('close', () => settle(() => reject(unreachable('it hung up'))));
  });
}

function certificates(peer: DetailedPeerCertificate): X509Certificate[] {
  const found: X509Certificate[] = [];
  for (
    let at: DetailedPeerCertificate | undefined = peer;
    at?.raw !== undefined && found.length < CHAIN_MAX;
  ) {
    found.push(new X509Certificate(at.raw));
    const issuer: DetailedPeerCertificate | undefined = at.issuerCertificate;
    at = issuer === at ? undefined : issuer;
  }
  return found;
}

function checkTimes(leaf: X509Certificate, where: string): void {
  const now = Date.now();
  const [from, to] = [leaf.validFromDate.getTime(), leaf.validToDate.getTime()];
  if (now >= from && now <= to) return;
  throw new MinikeepError(
    'clock.skew',
    `the certificate of ${where} is valid from ${utc(from)} to ${utc(to)}, and this machine's clock says ${utc(now)}`,
    {
      next: `Compare \`date\` on both machines, set the clock that is wrong (${SET_CLOCK}), then join again with the same token.`,
      exitCode: EXIT.denied,
    },
  );
}
