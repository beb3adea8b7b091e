/** A node's key, and the request (PKCS #10) with which it asks for a certificate. The key never leaves its machine. */
import 'reflect-metadata';
import { createHash, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { EXIT, MinikeepError } from './errors.ts';

x509.cryptoProvider.set(webcrypto);

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const REQUEST_LENGTH_MAX = 8_192;

/** A new private key, PKCS #8, PEM. */
export async function newPrivateKey(): Promise<string> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return `${x509.PemConverter.encode(pkcs8, 'PRIVATE KEY')}\n`;
}

/** The request for that key. Throws `identity.files_invalid`. */
export async function certificateRequest(privateKeyPem: string): Promise<string> {
  try {
    const der = x509.PemConverter.decodeFirst(privateKeyPem);
    const privateKey = await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, true, ['sign']);
    const { d: _, key_ops: __, ...jwk } = await webcrypto.subtle.exportKey('jwk', privateKey);
    const publicKey = await webcrypto.subtle.importKey('jwk', jwk, ALGORITHM, true, ['verify']);
    const request = await x509.Pkcs10CertificateRequestGenerator.create({
      name: 'CN=minikeep',
      keys: { privateKey, publicKey },
      signingAlgorithm: ALGORITHM,
    });
    return `${request.toString('pem')}\n`;
  } catch (cause) {
    throw new MinikeepError('identity.files_invalid', "this node's private key can't be read", {
      next: 'Remove the home and join again with a new token; its slices are then sent anew.',
      cause,
    });
  }
}

/** The key of a request whose signature holds. Throws `identity.request_invalid`. */
export async function publicKeyOfRequest(requestPem: string): Promise<x509.PublicKey> {
  const invalid = (cause?: unknown): MinikeepError =>
    new MinikeepError('identity.request_invalid', 'the request for a certificate is not valid', {
      next: 'Install the same version of minikeep on every node, then join again.',
      exitCode: EXIT.denied,
      cause,
    });
  if (requestPem.length > REQUEST_LENGTH_MAX) throw invalid();
  let request: x509.Pkcs10CertificateRequest;
  try {
    request = new x509.Pkcs10CertificateRequest(requestPem);
    if (!(await request.verify())) throw new Error('its signature does not hold');
  } catch (cause) {
    throw invalid(cause);
  }
  const { algorithm } = request.publicKey;
  if (algorithm.name !== 'ECDSA' || (algorithm as webcrypto.EcKeyAlgorithm).namedCurve !== 'P-256')
    throw invalid();
  return request.publicKey;
}

/** SHA-256 of the request's public key: the same machine asks with the same key. */
export async function keyDigestOfRequest(requestPem: string): Promise<Uint8Array> {
  const key = await publicKeyOfRequest(requestPem);
  return createHash('sha256').update(new Uint8Array(key.rawData)).digest();
}
