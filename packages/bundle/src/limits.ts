/** How much a bundle may hold, and how long others may take. */
export const FILES_MAX = 4096;
export const FILE_TEXT_BYTES_MAX = 64 * 1024 * 1024;
/** npm downloads some 60 MB a package; over a slow line that takes its time. */
export const NPM_PACK_MS_MAX = 15 * 60_000;
export const NPM_AUDIT_MS_MAX = 60_000;
export const NPM_OUTPUT_BYTES_MAX = 64 * 1024 * 1024;
/** Compression sees pieces of exactly this size, so that its output doesn't depend on how a disk answers. */
export const PIECE_BYTES = 1024 * 1024;
