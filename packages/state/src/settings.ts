/**
 * What a home says of its node, as a small file that other processes may read while the home is in use: no secrets. The
 * file is there once the node belongs to a cluster, and in whole or not at all.
 */
import { MinikeepError } from '@minikeep/protocol';
import { NAME_FIELD, parseConfig } from '@minikeep/protocol/config';
import { z } from 'zod';
import { readKeyFile, writeKeyFile } from './key-files.ts';

const ADDRESSES_MAX = 32;
const NETWORKS_MAX = 64;
const addresses = z.array(z.string().min(3).max(300)).max(ADDRESSES_MAX);

export const NODE_SETTINGS = z.strictObject({
  cluster_id: NAME_FIELD,
  cluster_name: NAME_FIELD,
  node: NAME_FIELD,
  /** host:port of this node's agent; port 0: any. */
  listen: z.string().min(3).max(300),
  /** The coordinator's name in its certificate, and where it was last heard of. */
  coordinator: NAME_FIELD,
  coordinator_addresses: addresses,
  /** False: neither announced nor looked for by multicast; absent: yes. */
  discovery: z.boolean().optional(),
  /** Networks (CIDR) with machines of the cluster, besides those that this machine is attached to. */
  networks: z.array(z.string().min(3).max(50)).max(NETWORKS_MAX).optional(),
  /** The coordinator's part; only on its own node. */
  serves: z
    .strictObject({
      listen: z.string().min(3).max(300),
      /** Where strangers join. */
      enrolment_listen: z.string().min(3).max(300),
      /** The API that programs speak: loopback, for there are no keys. */
      api_listen: z.string().min(3).max(300),
      /** What becomes of ways out in answers; absent: they are defanged. */
      output_guard: z.enum(['report', 'defang', 'block']).optional(),
      certificate_seconds: z
        .number()
        .min(10)
        .max(400 * 86_400),
    })
    .optional(),
});

export type NodeSettings = z.infer<typeof NODE_SETTINGS>;

/** Where this home's processes listen now; written by them, gone with them. */
export const RUNNING = z.strictObject({
  pid: z.number().int().positive(),
  /** host:port of the coordinator's services. */
  address: z.string().min(3).max(300),
  enrolment_address: z.string().min(3).max(300),
  api_url: z.string().max(300),
});
export type Running = z.infer<typeof RUNNING>;

export const FILES = {
  settings: 'node.json',
  running: 'running.json',
  /** The process of `minikeep start`. */
  started: 'started.json',
  revoked: 'revoked.json',
  authority: 'authority.pem',
  authorityKey: 'authority-key.pem',
  certificate: 'node-certificate.pem',
  privateKey: 'node-key.pem',
  coordinatorCertificate: 'coordinator-certificate.pem',
  coordinatorKey: 'coordinator-key.pem',
  operatorCertificate: 'operator-certificate.pem',
  operatorKey: 'operator-key.pem',
} as const;

/** Throws `config.invalid`, `home.key_*`. */
export function readSettings(folder: string): NodeSettings | undefined {
  const text = readKeyFile(folder, FILES.settings);
  return text === undefined ? undefined : parseConfig(NODE_SETTINGS, text, FILES.settings, 'node');
}

export function writeSettings(folder: string, settings: NodeSettings): void {
  writeKeyFile(folder, FILES.settings, `${JSON.stringify(settings, null, 2)}\n`);
}

/** A file that must be there. Throws `home.incomplete`. */
export function requireKeyFile(folder: string, name: string): string {
  const text = readKeyFile(folder, name);
  if (text !== undefined) return text;
  throw new MinikeepError('home.incomplete', `${folder} has no ${name}`, {
    next: 'Bring the home back from a backup, or make this node anew: minikeep join, or init for the first one.',
  });
}
