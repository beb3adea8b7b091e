/**
 * What `invite` prints: a secret that lets one machine join, and what the machine needs to know before it says a word:
 * the digest of the authority's public key, so that nobody else can answer in its place.
 *
 * Text: `mk1.` and Base64url of the fields below, with a checksum at the end: a letter lost in copying is found on the
 * machine where it was lost.
 */
import { createHash, randomBytes } from 'node:crypto';
import { EXIT, MinikeepError } from './errors.ts';
import { isHost } from './host.ts';

const PREFIX = 'mk1.';
const ID_BYTES = 8;
const SECRET_BYTES = 32;
const PIN_BYTES = 32;
const CHECK_BYTES = 4;
const PORT_BYTES = 2;
const FIXED_BYTES = ID_BYTES + SECRET_BYTES + PIN_BYTES + 2 * PORT_BYTES + CHECK_BYTES;
const HOSTS_MAX = 8;
/** Anything longer is no token: files are read no further. */
export const TOKEN_LENGTH_MAX = 2_000;

export interface InviteToken {
  /** Names the token in the coordinator's state; 8 bytes, lower-case hex. */
  readonly id: string;
  /** 32 bytes. */
  readonly secret: Uint8Array;
  /** SHA-256 of the authority's public key (SPKI, DER). */
  readonly pin: Uint8Array;
  /** Where strangers join. */
  readonly port: number;
  /** Where the coordinator's other services listen: what people know as its address. */
  readonly mainPort: number;
  /** Addresses of the coordinator's machine, the likeliest first. */
  readonly hosts: readonly string[];
}

/** A new token; `secretDigest` is what may be stored. */
export function newToken(
  where: Pick<InviteToken, 'pin' | 'port' | 'mainPort' | 'hosts'>,
): InviteToken {
  return {
    ...where,
    id: randomBytes(ID_BYTES).toString('hex'),
    secret: randomBytes(SECRET_BYTES),
    hosts: where.hosts.slice(0, HOSTS_MAX),
  };
}

/** SHA-256 of a token's secret, 32 bytes. The secret has 256 random bits: no salt and no slow hash is needed. */
export function secretDigest(secret: Uint8Array): Uint8Array {
  return createHash('sha256').update('minikeep invite 1\n').update(secret).digest();
}

export function encodeToken(token: InviteToken): string {
  const ports = Buffer.alloc(2 * PORT_BYTES);
  ports.writeUInt16BE(token.port, 0);
  ports.writeUInt16BE(token.mainPort, PORT_BYTES);
  const body = Buffer.concat([
    Buffer.from(token.id, 'hex'),
    token.secret,
    token.pin,
    ports,
    Buffer.from(token.hosts.join(' ')),
  ]);
  return PREFIX + Buffer.concat([body, check(body)]).toString('base64url');
}

/** Reads a token as a person copied it. Throws `token.mistyped`. */
export function decodeToken(text: string): InviteToken {
  const trimmed = text.trim();
  if (!trimmed.startsWith(PREFIX) || trimmed.length > TOKEN_LENGTH_MAX) throw mistyped();
  const encoded = trimmed.slice(PREFIX.length);
  if (!/^[A-Za-z0-9_-]*$/.test(encoded)) throw mistyped();
  const bytes = Buffer.from(encoded, 'base64url');
  if (bytes.length < FIXED_BYTES || bytes.toString('base64url') !== encoded) throw mistyped();
  const body = bytes.subarray(0, -CHECK_BYTES);
  if (!check(body).equals(bytes.subarray(-CHECK_BYTES))) throw mistyped();
  let at = 0;
  const take = (length: number): Buffer => body.subarray(at, (at += length));
  const id = take(ID_BYTES).toString('hex');
  const secret = Uint8Array.from(take(SECRET_BYTES));
  const pin = Uint8Array.from(take(PIN_BYTES));
  const port = take(PORT_BYTES).readUInt16BE();
  const mainPort = take(PORT_BYTES).readUInt16BE();
  const hosts = body
    .subarray(at)
    .toString('utf8')
    .split(' ')
    .filter((host) => host !== '');
  if (hosts.length > HOSTS_MAX || hosts.some((host) => !isHost(host)) || port === 0)
    throw mistyped();
  return { id, secret, pin, port, mainPort, hosts };
}

function check(body: Uint8Array): Buffer {
  return createHash('sha256')
    .update('minikeep token 1\n')
    .update(body)
    .digest()
    .subarray(0, CHECK_BYTES);
}

function mistyped(): MinikeepError {
  return new MinikeepError(
    'token.mistyped',
    'this is no token of minikeep, or a part of it is missing or changed',
    {
      next: 'Copy the whole line that `minikeep invite` printed, from "mk1." to its end.',
      exitCode: EXIT.usage,
    },
  );
}
