/** The passphrase that a backup is encrypted with. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { PASSPHRASE_LENGTH_MAX, PASSPHRASE_LENGTH_MIN } from './limits.ts';

/** Without the line's end that an editor adds. Throws `backup.passphrase_short`. */
export function passphraseOf(text: string): string {
  const passphrase = text.replace(/[\r\n]+$/, '').normalize('NFC');
  if (passphrase.length >= PASSPHRASE_LENGTH_MIN && passphrase.length <= PASSPHRASE_LENGTH_MAX)
    return passphrase;
  throw new MinikeepError(
    'backup.passphrase_short',
    `a passphrase has ${PASSPHRASE_LENGTH_MIN} to ${PASSPHRASE_LENGTH_MAX} characters; this one has ${passphrase.length}`,
    {
      next: 'Whoever finds the backup and guesses it owns the cluster. Make one: head -c 24 /dev/urandom | base64 > FILE',
      exitCode: EXIT.usage,
    },
  );
}
