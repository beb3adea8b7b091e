/**
 * Imported before attack tests: all their sandboxes are started by an ordinary user's process then, who has no
 * capability and no other user for the engine, so that the filter alone stands between engine and warden.
 */
import { needRoot } from '@minikeep/testkit';
import { afterAll, beforeEach } from 'vitest';
import { startedByUser } from './attacked.ts';
import { elsewhere } from './elsewhere.ts';
import { container, install, type Installed } from './installed.ts';

/** Nobody's on a usual machine. */
const ORDINARY_UID = 12_345;
/**
 * The long run is in a container that this user made: fewer rights, and other namespaces. Without its filter: what that
 * refuses, the warden does not hear of, and these tests look at what it heard.
 */
const around =
  process.env['MINIKEEP_LONG'] === '1'
    ? { by: container(ORDINARY_UID).by ?? [] }
    : { uid: ORDINARY_UID };

let installed: Promise<Installed> | undefined;
async function forUser(): Promise<Installed> {
  const made = await install();
  made.setModes(0o755, 0o755);
  return made;
}
if (process.getuid?.() === 0)
  startedByUser(async () => elsewhere(await (installed ??= forUser()), around));
beforeEach(needRoot);
afterAll(async () => (await installed)?.cleanUp());
