/** The guard's bounds. Sizes in bytes, times in milliseconds. */

/** A cluster has 256 nodes at most; a node has few addresses. The oldest goes. */
export const PEERS_MAX = 1_024;
export const NETWORKS_MAX = 64;
export const WARDENS_MAX = 64;
/** One message to the guard: the longest names five descriptors. */
export const MESSAGE_BYTES_MAX = 4_096;
/** Bytes of one send that the guard makes for the process: the kernel's own largest datagram. */
export const SEND_BYTES_MAX = 65_536;
export const SEND_PARTS_MAX = 64;
/** Attempts of a kind that are told one by one, until the next window; the others are counted. */
export const REPORTS_PER_KIND_MAX = 20;
export const WINDOW_MS = 60_000;
export const FOLD_MS = 1_000;
/** Refusals of addresses for the list that are told singly, for good: they come from honest mistakes, or from a flood. */
export const UNLISTED_TOLD_MAX = 100;
/** How often this machine's interfaces are looked at, at most. */
export const INTERFACES_MS = 1_000;
