/** A cluster's authority and state in one encrypted file, and back. */
export { passphraseOf } from './passphrase.ts';
export { PASSPHRASE_LENGTH_MAX } from './limits.ts';
export { restoreBackup, type Restored } from './restore.ts';
export { writeBackup } from './write-backup.ts';
