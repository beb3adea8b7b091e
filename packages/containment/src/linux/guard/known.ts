/**
 * What Node and the C library ask of a trusted process's system although nobody attacks: answered without a record,
 * each row with its reason. Nothing is let through by a row.
 */
import { ERRNO } from '../../warden/attempt.ts';

export interface KnownSocket {
  /** A socket file, as it is named. */
  readonly path: string;
  readonly errno: number;
  readonly reason: string;
}

export const KNOWN_SOCKETS: readonly KnownSocket[] = [
  {
    path: '/var/run/nscd/socket',
    errno: ERRNO.ENOENT,
    reason:
      'glibc looks for its cache of names when a program asks for a user or a host; it goes on without',
  },
  {
    path: '/run/systemd/userdb/io.systemd.DynamicUser',
    errno: ERRNO.ENOENT,
    reason: "glibc's systemd module looks for users made at run time; it goes on without",
  },
];

export const knownSocket = (path: string): KnownSocket | undefined =>
  KNOWN_SOCKETS.find((known) => known.path === path);
