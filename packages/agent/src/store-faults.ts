/** The slice store's errors, and checks of names that become paths. */
import type { Stats } from 'node:fs';
import { MinikeepError } from '@minikeep/protocol';

const DEPLOYMENT_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const DIGEST = /^[0-9a-f]{64}$/;

export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}

/** Throws `store.name_invalid`. */
export function checkDigest(name: string): string {
  if (!DIGEST.test(name)) throw badName('digest', name);
  return name;
}

/** Throws `store.name_invalid`. */
export function checkDeployment(name: string): string {
  if (!DEPLOYMENT_NAME.test(name)) throw badName('deployment', name);
  return name;
}

/** Who else can write there could exchange a slice between its check and its use, or lead us to files elsewhere. */
export function checkOwn(folder: string, info: Stats): void {
  const uid = process.geteuid?.();
  const why = !info.isDirectory()
    ? 'is no folder'
    : uid !== undefined && info.uid !== uid
      ? 'belongs to another user'
      : // A sticky folder (/tmp) lets nobody else rename or remove what is ours in it.
        (info.mode & 0o022) !== 0 && (info.mode & 0o1000) === 0
        ? 'can be written by other users'
        : undefined;
  if (why === undefined) return;
  throw new MinikeepError('store.unusable', `can't use the slice store: ${folder} ${why}`, {
    next: 'Make it a folder that only this user can write, or choose another one with XDG_CACHE_HOME.',
  });
}

export function unusable(folder: string, cause: unknown): MinikeepError {
  if (cause instanceof MinikeepError) return cause;
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MinikeepError('store.unusable', `can't use the slice store in ${folder}: ${why}`, {
    next: 'Check that this user may write there, or choose another folder with XDG_CACHE_HOME.',
    cause,
  });
}

export function rejected(what: string): MinikeepError {
  return new MinikeepError('store.slice_rejected', `a slice was not stored: ${what}`, {
    next: 'Try again; if it happens again, compare versions with `minikeep nodes`.',
  });
}

export function sliceMissing(slice: string): MinikeepError {
  return new MinikeepError('store.slice_missing', `slice ${slice.slice(0, 12)} is not here`, {
    next: 'Deploy again: the coordinator sends what is missing.',
  });
}

export function sliceDamaged(slice: string): MinikeepError {
  return new MinikeepError(
    'store.slice_damaged',
    `slice ${slice.slice(0, 12)} on this node's disk is not what was stored`,
    { next: 'Deploy again: it is sent anew. If it happens again, check the disk.' },
  );
}

export function diskFull(folder: string, needed: number, free: number): MinikeepError {
  const size = (n: number): string =>
    n < 2 ** 30 ? `${(n / 2 ** 20).toFixed(2)} MiB` : `${(n / 2 ** 30).toFixed(2)} GiB`;
  return new MinikeepError(
    'store.disk_full',
    `the disk is full: a slice of ${size(needed)} does not fit into ${folder} (${size(free)} free)`,
    {
      next: 'Free space there, or choose a folder on a larger disk with XDG_CACHE_HOME.',
      details: { needed_bytes: needed, free_bytes: free },
    },
  );
}

function badName(kind: string, name: string): MinikeepError {
  return new MinikeepError('store.name_invalid', `"${name.slice(0, 80)}" is not a ${kind}`, {
    next: 'This is a fault of the caller: compare versions with `minikeep nodes`.',
  });
}
