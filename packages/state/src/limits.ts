/** Bounds of everything that a node keeps. */

/** A key, a certificate or a list of revoked certificates. */
export const KEY_FILE_BYTES_MAX = 256 * 1024;

/** The whole database; SQLite refuses to grow beyond it. */
export const DATABASE_BYTES_MAX = 4 * 2 ** 30;

/** Above this, opening does not read every page of the database to find damage; each page that is used is still checked. */
export const QUICK_CHECK_BYTES_MAX = 64 * 2 ** 20;

/** The log that SQLite writes ahead is cut back to this after a checkpoint. */
export const WAL_BYTES_KEPT = 8 * 2 ** 20;

/** An event's data as JSON. */
export const EVENT_DATA_BYTES_MAX = 16 * 1024;

/** Opening verifies this many of the newest events (about a tenth of a second). */
export const OPEN_VERIFY_EVENTS = 10_000;

/** Rows held in memory at once while events are verified or listed. */
export const EVENT_PAGE = 1_000;
