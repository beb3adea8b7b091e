/** Bounds of a backup. */

/** A cluster's state and its models' headers; models themselves are not in it. */
export const BACKUP_BYTES_MAX = 8 * 2 ** 30;
export const ENTRIES_MAX = 10_000;
export const PATH_LENGTH_MAX = 300;
export const MANIFEST_BYTES_MAX = 64 * 1024;

/** The file may lie on a USB stick that somebody finds: guessing has to be hopeless. */
export const PASSPHRASE_LENGTH_MIN = 12;
export const PASSPHRASE_LENGTH_MAX = 1_024;
