/**
 * A cluster's certificate authority (ECDSA P-256). `run` makes one that lives for one run; a real cluster keeps its own.
 * Kept apart from the rest of the package: only what issues certificates has to load the ASN.1 library.
 */
import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { MinikeepError } from './errors.ts';
import { identityUri, type Identity } from './identity.ts';
import { publicKeyOfRequest } from './certificate-request.ts';

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

/** A real cluster's authority: as long as anybody keeps the machines. */
const AUTHORITY_YEARS = 20;
/** Certificates begin this long before their making: a node's clock may be behind. */
const BEFORE_MS = DAY_MS;

export interface IssuedCertificate {
  readonly identity: Identity;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** A certificate for somebody else's key. */
export interface Certified {
  readonly identity: Identity;
  readonly certificatePem: string;
  /** Lower-case hex. */
  readonly serial: string;
  readonly notAfterMs: number;
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
    return CertificateAuthority.#make(cluster, validity, await generateKeys(false));
  }

  /** A cluster's own authority, and its key for the home's key file. */
  static async create(
    cluster: string,
    nowMs: number,
  ): Promise<{ authority: CertificateAuthority; privateKeyPem: string }> {
    const keys = await generateKeys(true);
    const validity: Validity = {
      notBefore: new Date(nowMs - BEFORE_MS),
      notAfter: new Date(nowMs + AUTHORITY_YEARS * 365 * DAY_MS),
    };
    return {
      authority: await CertificateAuthority.#make(cluster, validity, keys),
      privateKeyPem: await exportKey(keys.privateKey),
    };
  }

  /** From the home's files. Throws `identity.files_invalid`. */
  static async load(
    cluster: string,
    certificatePem: string,
    privateKeyPem: string,
  ): Promise<CertificateAuthority> {
    try {
      const certificate = new x509.X509Certificate(certificatePem);
      const key = await webcrypto.subtle.importKey(
        'pkcs8',
        x509.PemConverter.decodeFirst(privateKeyPem),
        ALGORITHM,
        false,
        ['sign'],
      );
      const { notBefore, notAfter } = certificate;
      return new CertificateAuthority(cluster, certificate, key, { notBefore, notAfter });
    } catch (cause) {
      throw new MinikeepError('identity.files_invalid', "the cluster's authority can't be read", {
        next: 'Bring the home back from a backup: minikeep init --restore FILE',
        cause,
      });
    }
  }

  static async #make(
    cluster: string,
    validity: Validity,
    keys: webcrypto.CryptoKeyPair,
  ): Promise<CertificateAuthority> {
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

  /**
   * Makes a key and a certificate for one process; `validity` as the authority's own unless given.
   * Throws `identity.name_invalid`.
   */
  async issue(
    role: Identity['role'],
    name: string,
    validity: Validity = this.#validity,
    addresses: readonly string[] = [],
  ): Promise<IssuedCertificate> {
    const keys = await generateKeys(true);
    const key = keys.publicKey;
    const { identity, certificatePem } = await this.#sign(role, name, key, validity, addresses);
    return { identity, certificatePem, privateKeyPem: await exportKey(keys.privateKey) };
  }

  /**
   * A certificate for the key of a request (PKCS #10), which proves that its sender has the key; nothing else of the
   * request counts. `addresses`: where its owner is now (`plainAddress`). Throws `identity.name_invalid`, `identity.request_invalid`.
   */
  async certify(
    role: Identity['role'],
    name: string,
    requestPem: string,
    nowMs: number,
    lifetimeMs: number,
    addresses: readonly string[] = [],
  ): Promise<Certified> {
    const key = await publicKeyOfRequest(requestPem);
    const notAfterMs = Math.min(nowMs + lifetimeMs, this.#validity.notAfter.getTime());
    const validity = {
      notBefore: new Date(nowMs - BEFORE_MS),
      notAfter: new Date(notAfterMs),
    };
    return this.#sign(role, name, key, validity, addresses);
  }

  async #sign(
    role: Identity['role'],
    name: string,
    publicKey: x509.PublicKeyType,
    validity: Validity,
    addresses: readonly string[] = [],
  ): Promise<Certified> {
    const identity: Identity = { cluster: this.cluster, role, name };
    const uri = identityUri(identity);
    const serial = serialNumber();
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serial,
      subject: `CN=${name}`,
      issuer: this.#certificate.subject,
      ...validity,
      publicKey,
      signingKey: this.#key,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        // Agents serve their neighbours and call them: every certificate but an operator's does both.
        new x509.ExtendedKeyUsageExtension(
          role === 'operator' ? [CLIENT_AUTH] : [SERVER_AUTH, CLIENT_AUTH],
        ),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: uri },
          ...addresses.map((value) => ({ type: 'ip' as const, value })),
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey),
      ],
    });
    return {
      identity,
      certificatePem: `${certificate.toString('pem')}\n`,
      serial,
      notAfterMs: certificate.notAfter.getTime(),
    };
  }
}

async function exportKey(key: CryptoKey): Promise<string> {
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', key);
  return `${x509.PemConverter.encode(pkcs8, 'PRIVATE KEY')}\n`;
}

async function generateKeys(extractable: boolean): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, extractable, ['sign', 'verify']);
}

/** 127 random bits: positive, and too many to collide. The first byte is no zero: all readers then write it alike. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}
