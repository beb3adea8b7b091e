/** What may stand for a machine's host: wherever one is read, the same rule. */

const HOST_LENGTH_MAX = 100;

/** A host name or an address without port and without brackets. */
export function isHost(host: string): boolean {
  return (
    host.length <= HOST_LENGTH_MAX &&
    /^[A-Za-z0-9][A-Za-z0-9.:%_-]*$|^::1?$|^::[A-Fa-f0-9:.]+$/.test(host)
  );
}
