// A cluster's authority as a test needs it: its certificate and its key.
import { CertificateAuthority } from '@minikeep/protocol/authority';

export interface Authority {
  readonly certificate: string;
  readonly key: string;
}

export async function newAuthority(cluster: string): Promise<Authority> {
  const { authority, privateKeyPem } = await CertificateAuthority.create(cluster, Date.now());
  return { certificate: authority.certificatePem, key: privateKeyPem };
}
