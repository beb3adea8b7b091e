/** What a machine that joins relies on: tokens, the look at who answers, requests, and certificates that are shut out. */
import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:tls';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import {
  CertificateAuthority,
  certificateRequest,
  keyDigestOfRequest,
  newPrivateKey,
} from '../src/authority-index.ts';
import { MinikeepError } from '../src/errors.ts';
import {
  Revocations,
  decodeToken,
  encodeToken,
  formatAddress,
  keyPin,
  lookAtAuthority,
  newToken,
  parseAddress,
} from '../src/rpc-index.ts';

const CLUSTER = 'lab-1';
const never = new AbortController().signal;

async function codeOf(work: Promise<unknown>): Promise<string> {
  const thrown: unknown = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  return thrown instanceof MinikeepError ? thrown.code : `no error of ours: ${String(thrown)}`;
}

const token = (hosts: string[] = ['192.168.1.20', 'fd00::20']) =>
  newToken({ pin: randomBytes(32), port: 7421, mainPort: 7420, hosts });

describe('a token', () => {
  it('is read as it was written, with spaces around it', () => {
    const made = token();
    expect(decodeToken(`  ${encodeToken(made)}\n`)).toEqual({
      ...made,
      secret: Uint8Array.from(made.secret),
      pin: Uint8Array.from(made.pin),
    });
  });

  it('with one letter changed, lost or added is mistyped, never another token', () => {
    const text = encodeToken(token());
    fc.assert(
      fc.property(
        fc.nat(text.length - 1),
        fc.constantFrom('A', 'x', '0', '-', ' ', ''),
        fc.boolean(),
        (at, letter, insert) => {
          const changed = text.slice(0, at) + letter + text.slice(insert ? at : at + 1);
          if (changed.trim() === text) return;
          expect(() => decodeToken(changed)).toThrow(
            expect.objectContaining({ code: 'token.mistyped' }),
          );
        },
      ),
    );
  });
});

describe('an address', () => {
  it('is a host with or without a port', () => {
    expect(parseAddress('mini-1.local')).toEqual({ host: 'mini-1.local', port: undefined });
    expect(parseAddress('10.0.0.1:7420')).toEqual({ host: '10.0.0.1', port: 7420 });
    expect(parseAddress('[fd00::1]:7420')).toEqual({ host: 'fd00::1', port: 7420 });
    expect(parseAddress('::1')).toEqual({ host: '::1', port: undefined });
    expect(formatAddress('fd00::1', 1)).toBe('[fd00::1]:1');
  });

  it('is refused with a reason when it is none', () => {
    for (const text of ['', ':7420', 'a b', 'host:99999', '[10.0.0.1]:1', 'http://x', '-x', 'x;y'])
      expect(() => parseAddress(text), text).toThrow(
        expect.objectContaining({ code: 'address.invalid' }),
      );
  });
});

describe('the look at who answers', () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });

  /** A TLS server that keeps what it is sent. */
  async function serve(chain: string, key: string): Promise<{ port: number; heard: Buffer[] }> {
    const heard: Buffer[] = [];
    const server = createServer({ cert: chain, key, minVersion: 'TLSv1.3' }, (socket) => {
      socket.on('error', () => {}).on('data', (data: Buffer) => heard.push(data));
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return { port: (server.address() as AddressInfo).port, heard };
  }

  const authorityOf = async () =>
    (await CertificateAuthority.create(CLUSTER, Date.now())).authority;
  const look = (port: number, pin: Uint8Array) => lookAtAuthority('127.0.0.1', port, pin, never);

  it("knows the cluster's coordinator", async () => {
    const authority = await authorityOf();
    const own = await authority.issue('coordinator', 'coordinator');
    const { port, heard } = await serve(
      own.certificatePem + authority.certificatePem,
      own.privateKeyPem,
    );
    const found = await look(port, keyPin(authority.certificatePem));
    expect(found.identity).toEqual({ cluster: CLUSTER, role: 'coordinator', name: 'coordinator' });
    expect(heard).toEqual([]);
  });

  it('finds a man in the middle with an authority of his own, and sends him nothing', async () => {
    const [authority, his] = [await authorityOf(), await authorityOf()];
    const own = await his.issue('coordinator', 'coordinator');
    const { port, heard } = await serve(own.certificatePem + his.certificatePem, own.privateKeyPem);
    expect(await codeOf(look(port, keyPin(authority.certificatePem)))).toBe('join.other_authority');
    expect(heard).toEqual([]);
  });

  it("finds one who shows the real authority's certificate behind a leaf that it never signed", async () => {
    const [authority, his] = [await authorityOf(), await authorityOf()];
    const own = await his.issue('coordinator', 'coordinator');
    const { port } = await serve(own.certificatePem + authority.certificatePem, own.privateKeyPem);
    // Node follows issuers by name, which are alike here: whether the real one is in the chain or not, it is refused.
    expect(await codeOf(look(port, keyPin(authority.certificatePem)))).toBe('join.other_authority');
  });

  it('tells a node from the coordinator, and nobody from somebody', async () => {
    const authority = await authorityOf();
    const own = await authority.issue('node', 'n1');
    const { port } = await serve(own.certificatePem + authority.certificatePem, own.privateKeyPem);
    expect(await codeOf(look(port, keyPin(authority.certificatePem)))).toBe('join.not_coordinator');
    expect(await codeOf(look(1, keyPin(authority.certificatePem)))).toBe('join.unreachable');
  });

  it('names the clocks when a certificate is not valid yet or no more', async () => {
    const authority = await authorityOf();
    const past = { notBefore: new Date(0), notAfter: new Date(Date.now() - 1000) };
    const own = await authority.issue('coordinator', 'coordinator', past);
    const { port } = await serve(own.certificatePem + authority.certificatePem, own.privateKeyPem);
    expect(await codeOf(look(port, keyPin(authority.certificatePem)))).toBe('clock.skew');
  });
});

describe('a request for a certificate', () => {
  it('proves the key: the same one has the same digest, a changed request is refused', async () => {
    const key = await newPrivateKey();
    const [one, two] = [await certificateRequest(key), await certificateRequest(key)];
    expect(await keyDigestOfRequest(one)).toEqual(await keyDigestOfRequest(two));
    expect(await keyDigestOfRequest(await certificateRequest(await newPrivateKey()))).not.toEqual(
      await keyDigestOfRequest(one),
    );
    const der = Buffer.from(one.replace(/-----[^-]+-----/g, ''), 'base64');
    der.writeUInt8(der.readUInt8(der.length - 1) ^ 1, der.length - 1);
    const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    expect(await codeOf(keyDigestOfRequest(pem))).toBe('identity.request_invalid');
    expect(await codeOf(keyDigestOfRequest('rubbish'))).toBe('identity.request_invalid');
    expect(await codeOf(keyDigestOfRequest('x'.repeat(100_000)))).toBe('identity.request_invalid');
  });

  it("is answered by the authority that was kept in a home's files", async () => {
    const { authority, privateKeyPem } = await CertificateAuthority.create(CLUSTER, Date.now());
    const again = await CertificateAuthority.load(CLUSTER, authority.certificatePem, privateKeyPem);
    const certified = await again.certify(
      'node',
      'n1',
      await certificateRequest(await newPrivateKey()),
      Date.now(),
      60_000,
    );
    expect(certified.notAfterMs - Date.now()).toBeLessThanOrEqual(60_000);
    expect(certified.serial).toMatch(/^[4-7][0-9a-f]{31}$/);
    expect(await codeOf(CertificateAuthority.load(CLUSTER, authority.certificatePem, 'x'))).toBe(
      'identity.files_invalid',
    );
  });
});

describe('a list of who is shut out', () => {
  it('counts only when it is newer, and ends the calls that run', () => {
    const revocations = new Revocations();
    const ended: string[] = [];
    const over = revocations.begin('00AB', () => ended.push('ab'));
    revocations.begin('cd', () => ended.push('cd'));
    expect(revocations.apply({ epoch: 2, serials: ['ab'] })).toBe(1);
    expect(ended).toEqual(['ab']);
    over();
    expect(revocations.has('AB')).toBe(true);
    expect(revocations.apply({ epoch: 2, serials: [] })).toBeUndefined();
    expect(revocations.apply({ epoch: 1, serials: [] })).toBeUndefined();
    expect(revocations.has('ab')).toBe(true);
    expect(revocations.apply({ epoch: 3, serials: ['ab', 'cd'] })).toBe(1);
  });
});
