/**
 * The models of a home: asked of its coordinator when that runs, else read and changed here; either way with the same
 * messages.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Models } from '@minikeep/coordinator';
import { ModelLibrary, libraryFolder } from '@minikeep/models';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type {
  ImportModelRequest,
  ImportModelResponse,
  ImportedModel,
  RemoveModelResponse,
} from '@minikeep/protocol/v1';
import { Home, State } from '@minikeep/state';

export interface HomeModels {
  list(): Promise<ImportedModel[]>;
  import(request: ImportModelRequest, signal: AbortSignal): AsyncIterable<ImportModelResponse>;
  remove(name: string): Promise<RemoveModelResponse>;
  close(): void;
}

/** The home's folder from --home or MINIKEEP_HOME. Throws `usage.home`. */
export function homeFolder(flag: string | undefined): string {
  const folder = flag ?? process.env['MINIKEEP_HOME'] ?? '';
  if (folder !== '') return path.resolve(folder);
  throw new MinikeepError('usage.home', 'it is not said which home is meant', {
    next: 'Give it: --home DIR, or set MINIKEEP_HOME.',
    exitCode: EXIT.usage,
  });
}

/** Opens a home that nobody uses. Throws `home.*`, `state.*`. */
export function openHomeModels(folder: string): HomeModels {
  if (!existsSync(path.join(folder, 'state.db')))
    throw new MinikeepError('home.none', `${folder} is not the home of a cluster`, {
      next: `Make it one: minikeep init --home "${folder}"`,
      exitCode: EXIT.usage,
    });
  const home = Home.open(folder);
  try {
    const state = State.open(home, Date.now);
    const models = new Models(new ModelLibrary(libraryFolder(folder)), state, Date.now);
    return {
      list: () => models.list(),
      import: (request, signal) => models.import(request, signal),
      remove: (name) => models.remove(name),
      close() {
        state.close();
        home.close();
      },
    };
  } catch (error) {
    home.close();
    throw error;
  }
}
