/** `minikeep plan`: where a model's layers would go, and whether they fit. Loads nothing. */
import { openModel } from '@minikeep/gguf';
import {
  explain,
  fileTypesOf,
  fitsOnlyRaised,
  fitting,
  knownShape,
  looksLikeShape,
  modelFacts,
  parseStack,
  placementTable,
  plan,
  planRaised,
  PUBLISHED_OFTEN,
  raiseLines,
  shapeModel,
  shapeName,
  STACK_BYTES_MAX,
  stackNetwork,
  stackNodes,
  type KnownShape,
  type ModelFacts,
  type NodeFacts,
  type Placement,
  type PlanOptions,
} from '@minikeep/planner';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { clusterNodes, type ClusterNodes } from '../cluster-plan.ts';
import type { CommandContext } from '../command-context.ts';
import { LOCAL_NODES_DEFAULT } from '../defaults.ts';
import type { HomeFlags } from '../home-folder.ts';
import { localNodes, planOptions } from '../local-plan.ts';
import { knownModels, looksLikePath, modelFile } from '../models.ts';
import { withOperator } from '../operator-connection.ts';
import { planDocument } from '../plan-document.ts';
import { Progress } from '../progress.ts';

export interface PlanFlags extends HomeFlags {
  readonly nodes?: string;
  readonly local?: number;
  readonly cuts?: number[];
  readonly context?: number;
  readonly parallel: number;
  readonly mode: 'exact' | 'fast';
  readonly explain?: boolean;
  /** Of the running cluster, before the plan. */
  readonly measure?: boolean;
}

export async function planCommand(
  context: CommandContext,
  name: string,
  flags: PlanFlags,
): Promise<number> {
  const { terminal, distFolder } = context;
  const where = [
    ...(flags.nodes === undefined ? [] : ['--nodes']),
    ...(flags.local === undefined ? [] : ['--local']),
    ...(onCluster(flags) ? [flags.home === undefined ? '--measure' : '--home'] : []),
  ];
  if (where.length > 1)
    throw new MinikeepError('usage.nodes', `${where.join(' and ')} exclude each other`, {
      next: 'Give one of them.',
      exitCode: EXIT.usage,
    });
  const { facts, shape } = await modelNamed(name, distFolder, flags);
  const { nodes, checks, ...more } = await nodesFor(context, flags);
  const options = planOptions(facts, flags, more);
  const show = async (shown: Placement, on: readonly NodeFacts[]): Promise<void> => {
    for (const line of placementTable(facts, shown, on)) await terminal.line(line);
    if (flags.explain === true)
      for (const line of ['', ...explain(facts, shown, on)]) await terminal.line(line);
  };
  const placement = fitting(() => plan(facts, nodes, options));
  if (placement !== undefined) {
    if (flags.json === true) await terminal.json(planDocument(facts, placement, { checks }));
    else await show(placement, nodes);
    return EXIT.ok;
  }
  const smaller = shape === undefined ? undefined : smallerFitting(shape, nodes, flags, more);
  const raised = planRaised(facts, nodes, options);
  if (raised === undefined) throw noFit(() => plan(facts, nodes, options), smaller);
  if (flags.json === true)
    await terminal.json(
      planDocument(facts, raised.placement, { checks, raises: raised.raises, smaller }),
    );
  else {
    await show(raised.placement, nodes);
    await terminal.line('');
    await terminal.line(
      'It fits only with higher limits of the GPU. On each of these machines, until it restarts (minikeep service install --wired-limit sets the same at each boot):',
    );
    for (const line of raiseLines(raised.raises)) await terminal.line(line);
  }
  throw fitsOnlyRaised(facts.name, raised.raises, smaller);
}

interface Asked {
  readonly facts: ModelFacts;
  /** Undefined for a file. */
  readonly shape: KnownShape | undefined;
}

/** A model of this installation, a file, or a published model that nobody has here. */
async function modelNamed(name: string, distFolder: string, flags: PlanFlags): Promise<Asked> {
  const known = knownModels(distFolder);
  if (!known.has(name) && !looksLikePath(name) && !existsSync(name) && looksLikeShape(name)) {
    const shape = knownShape(name);
    return { facts: modelFacts(shapeModel(shape)), shape };
  }
  const imported = onCluster(flags)
    ? await withOperator(flags, ({ operator }) => operator.listModels({}))
    : { models: [] };
  const file = imported.models.find((model) => model.name === name)?.path;
  const model = await openModel(file ?? modelFile(name, known, distFolder));
  return { facts: modelFacts(model), shape: undefined };
}

type Nodes = Pick<PlanOptions, 'sharedBudgetBytes' | 'anyOrder' | 'useEveryNode' | 'network'>;

/** The running cluster is asked when its home is named, or when it has to be measured. */
const onCluster = (flags: PlanFlags): boolean => flags.home !== undefined || flags.measure === true;

async function nodesFor(
  context: CommandContext,
  flags: PlanFlags,
): Promise<Nodes & Pick<ClusterNodes, 'nodes'> & Partial<Pick<ClusterNodes, 'checks'>>> {
  if (onCluster(flags)) {
    const { terminal, interrupts } = context;
    const progress = new Progress(terminal, flags.json === true);
    if (flags.measure === true) progress.show('measuring each node');
    const asked = await withOperator(flags, (connection) =>
      clusterNodes(
        connection,
        interrupts.signal,
        flags.measure === true ? (node) => progress.show(`measured ${node}`) : undefined,
      ),
    ).finally(() => progress.clear());
    // As `up` does.
    return { ...asked, anyOrder: flags.cuts === undefined };
  }
  if (flags.nodes === undefined) {
    const cuts = flags.cuts === undefined ? LOCAL_NODES_DEFAULT : flags.cuts.length + 1;
    return localNodes(flags.local ?? cuts);
  }
  const stack = parseStack(await readText(flags.nodes), flags.nodes);
  return {
    nodes: stackNodes(stack),
    // Without cuts the machines may stand in any order, and one that would only be in the way stays empty.
    anyOrder: flags.cuts === undefined,
    useEveryNode: flags.cuts !== undefined,
    network: stackNetwork(stack),
  };
}

/** The largest of the usual quantisations below the asked one that fits as things are. */
function smallerFitting(
  { shape, fileType }: KnownShape,
  nodes: readonly NodeFacts[],
  flags: PlanFlags,
  more: Nodes,
): string | undefined {
  const types = fileTypesOf(shape);
  for (const smaller of types.slice(types.indexOf(fileType) + 1)) {
    if (!PUBLISHED_OFTEN.includes(smaller)) continue;
    const facts = modelFacts(shapeModel({ shape, fileType: smaller }));
    const options = planOptions(facts, flags, more);
    if (fitting(() => plan(facts, nodes, options)) !== undefined)
      return shapeName({ shape, fileType: smaller });
  }
  return undefined;
}

/** The planner's own error, with the quantisation that would fit. */
function noFit(place: () => Placement, smaller: string | undefined): unknown {
  try {
    place();
  } catch (error) {
    if (smaller === undefined || !(error instanceof MinikeepError)) return error;
    return new MinikeepError(error.code, error.message, {
      next: `Use ${smaller}, which fits. Or: ${error.next}`,
      details: { ...error.details, smaller },
    });
  }
  throw new Error('it fits after all');
}

async function readText(file: string): Promise<string> {
  try {
    const handle = await open(file);
    try {
      const buffer = Buffer.alloc(STACK_BYTES_MAX + 1);
      const { bytesRead } = await handle.read(buffer, 0, buffer.byteLength, 0);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw new MinikeepError(
      'config.unreadable',
      `can't read ${file}: ${(cause as Error).message}`,
      {
        next: 'Give --nodes a YAML file that lists the nodes (minikeep plan --help shows one).',
        cause,
      },
    );
  }
}
