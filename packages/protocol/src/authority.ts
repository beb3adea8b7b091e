/**
 * A cluster's certificate authority (ECDSA P-256). `run` makes one that lives for one run; a real cluster keeps its own.
 * Kept apart from the rest of the package: only what issues certificates has to load the ASN.1 library.
 */
import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { identityUri, type Identity } from './identity.ts';

x509.cryptoProvider.set(webcrypto);

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY_MS = 24 * 3600 * 1000;
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

/**
 * How far a throw-away certificate reaches into the past and the future. Its keys are gone when the run ends, so what
 * matters is that a clock that jumps (a machine without a battery starts years ago, then learns the time) ends nothing.
 */
export const THROW_AWAY_VALIDITY_DAYS = 36_525;

export interface Validity {
  readonly notBefore: Date;
  readonly notAfter: Date;
}

export interface IssuedCertificate {
  readonly identity: Identity;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

export class CertificateAuthority {
  readonly cluster: string;
  readonly certificatePem: string;
  readonly #certificate: x509.X509Certificate;
  readonly #key: CryptoKey;
  readonly #validity: Validity;

  private constructor(
    cluster: string,
    certificate: x509.X509Certificate,
    key: CryptoKey,
    validity: Validity,
  ) {
    this.cluster = cluster;
    this.certificatePem = `${certificate.toString('pem')}\n`;
    this.#certificate = certificate;
    this.#key = key;
    this.#validity = validity;
  }

  /** A new authority with a new key that never leaves this process. */
  static async throwAway(cluster: string, nowMs: number): Promise<CertificateAuthority> {
    const reach = THROW_AWAY_VALIDITY_DAYS * DAY_MS;
    const validity: Validity = {
      notBefore: new Date(Math.max(0, nowMs - reach)),
      notAfter: new Date(nowMs + reach),
    };
    const keys = await generateKeys(false);
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: serialNumber(),
      name: `CN=minikeep ${cluster}`,
      ...validity,
      keys,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(
          x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
          true,
        ),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    return new CertificateAuthority(cluster, certificate, keys.privateKey, validity);
  }

  /** Makes a key and a certificate for one process. Throws `identity.name_invalid`. */
  async issue(role: Identity['role'], name: string): Promise<IssuedCertificate> {
    const identity: Identity = { cluster: this.cluster, role, name };
    const uri = identityUri(identity);
    const keys = await generateKeys(true);
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: `CN=${name}`,
      issuer: this.#certificate.subject,
      ...this.#validity,
      publicKey: keys.publicKey,
      signingKey: this.#key,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        // Agents serve their neighbours and call them: every certificate but an operator's does both.
        new x509.ExtendedKeyUsageExtension(
          role === 'operator' ? [CLIENT_AUTH] : [SERVER_AUTH, CLIENT_AUTH],
        ),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: uri }]),
        await x509.AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey),
      ],
    });
    const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
    return {
      identity,
      certificatePem: `${certificate.toString('pem')}\n`,
      privateKeyPem: `${x509.PemConverter.encode(pkcs8, 'PRIVATE KEY')}\n`,
    };
  }
}

async function generateKeys(extractable: boolean): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, extractable, ['sign', 'verify']);
}

/** 127 random bits: positive, and too many to collide. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0] ?? 0) & 0x7f;
  return bytes.toString('hex');
}
