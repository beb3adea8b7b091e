/** This machine's name as a node's name: what its owner called it, in the letters that certificates allow. */
import { isName } from '@minikeep/protocol';
import { hostname } from 'node:os';

export function nameOfThisMachine(host: string = hostname()): string {
  const name = host
    .toLowerCase()
    .replace(/\.(local|lan|home|localdomain)$/, '')
    .split('.')[0]
    ?.replace(/[^a-z0-9-]+/g, '-')
    .slice(0, 40)
    .replace(/^-+|-+$/g, '');
  return name !== undefined && isName(name) ? name : 'node';
}
