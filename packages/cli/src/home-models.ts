/**
 * The models of a home: asked of its coordinator when that runs, else read and changed here; either way with the same
 * messages.
 */
import path from 'node:path';
import { Models } from '@minikeep/coordinator';
import { ModelLibrary, libraryFolder } from '@minikeep/models';
import { MinikeepError } from '@minikeep/protocol';
import type {
  ImportModelRequest,
  ImportModelResponse,
  ImportedModel,
  RemoveModelResponse,
} from '@minikeep/protocol/v1';
import { Home, State } from '@minikeep/state';
import { homeFolder, nodeSettings, type HomeFlags } from './home-folder.ts';
import { connectOperator } from './operator-connection.ts';

export interface HomeModels {
  list(): Promise<ImportedModel[]>;
  import(request: ImportModelRequest, signal: AbortSignal): AsyncIterable<ImportModelResponse>;
  remove(name: string): Promise<RemoveModelResponse>;
  close(): void;
}

/**
 * The models of the home that the flags name. Throws `home.no_cluster`, `home.not_coordinator`, `cluster.not_running`,
 * `home.*`, `state.*`.
 */
export function openHomeModels(flags: HomeFlags): HomeModels {
  const folder = homeFolder(flags);
  // Only the coordinator's home has a list of models: elsewhere this says where that is.
  if (nodeSettings(folder).serves === undefined) return asked(flags);
  let home: Home;
  try {
    home = Home.open(folder);
  } catch (error) {
    if (error instanceof MinikeepError && error.code === 'home.in_use') return asked(flags);
    throw error;
  }
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

/** The coordinator runs and has the home: it does the work. */
function asked(flags: HomeFlags): HomeModels {
  const connection = connectOperator(flags);
  const { operator } = connection;
  return {
    list: async () => (await operator.listModels({})).models,
    import: (request, signal) =>
      operator.importModel({ ...request, path: path.resolve(request.path) }, { signal }),
    remove: (name) => operator.removeModel({ name }),
    close: () => connection.close(),
  };
}
