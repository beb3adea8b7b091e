/**
 * What a slice says about itself (`minikeep.*` metadata, written by the slicer): the engine needs no table of
 * architectures. Read from the file's own header, because llama.cpp hands floats out rounded to six places.
 */
import {
  EMBEDDING_TENSOR,
  FACT,
  FileSource,
  parseHeader,
  SLICE_VERSION,
  type Header,
  type InputMode,
  type Scalar,
  type SliceKind,
  type TensorInfo,
} from '@minikeep/gguf';
import { MinikeepError } from '@minikeep/protocol';
import type { LoadStage } from '../messages.ts';
import { NEXT } from '../next-steps.ts';

/** What the stage has to do besides feeding llama.cpp a batch. */
export interface StageFacts {
  readonly inputMode: InputMode;
  readonly inputNode: string;
  readonly positionsPerRow: number;
  readonly embeddingLength: number | undefined;
  readonly attentionScale: { readonly from: number; readonly to: number } | undefined;
  readonly recurrent: boolean;
  /** Some matrix is not quantised: a product with it is summed in another order for one row than for several. */
  readonly floatMatrices: boolean;
}

export interface EmbeddingFacts {
  readonly rowScale: number;
  readonly tensor: TensorInfo;
  readonly fileBytes: number;
}

const FLOAT_TYPES: ReadonlySet<string> = new Set(['F32', 'F16', 'BF16']);
const HEAD_TENSOR = 'output.weight';

/** A model file as it came: nothing was cut, so nothing has to be put right. */
const WHOLE: Omit<StageFacts, 'floatMatrices'> = {
  inputMode: 'embd',
  inputNode: 'embd',
  positionsPerRow: 1,
  embeddingLength: undefined,
  attentionScale: undefined,
  recurrent: false,
};

/** Facts of the slice that a stage loads. Throws `engine.slice_facts`, `gguf.*`. */
export async function stageFacts(load: LoadStage): Promise<StageFacts> {
  const { layers } = load;
  const { header } = await headerOf(load.slice);
  const floatMatrices = header.tensors.some((tensor) => isFloatMatrix(tensor, header, load.last));
  if (load.first && load.last && !header.metadata.has(FACT.kind))
    return { ...WHOLE, floatMatrices };
  const facts = new Facts(header);
  facts.expect('stage');
  const range = [facts.number(FACT.layerFirst), facts.number(FACT.layerEnd)];
  if (range[0] !== layers[0] || range[1] !== layers[1])
    throw wrong(`it holds the layers ${range.join('–')}, not ${layers.join('–')}`);
  const inputMode = facts.text(FACT.inputMode);
  if (inputMode !== 'embd' && inputMode !== 'overwrite') throw wrong(`input mode '${inputMode}'`);
  const from = facts.optionalNumber(FACT.attentionScaleFrom);
  const to = facts.optionalNumber(FACT.attentionScaleTo);
  return {
    inputMode,
    inputNode: facts.text(FACT.inputNode),
    positionsPerRow: facts.number(FACT.positionsPerRow),
    embeddingLength: facts.number(FACT.embeddingLength),
    attentionScale: from !== undefined && to !== undefined ? { from, to } : undefined,
    recurrent: facts.value(FACT.recurrent) === true,
    floatMatrices,
  };
}

/** The token embedding is a matrix only where it is the head, too; in other slices it is a placeholder. */
function isFloatMatrix({ name, shape, type }: TensorInfo, header: Header, last: boolean): boolean {
  if (!FLOAT_TYPES.has(type.name) || shape.length < 2) return false;
  if (name === HEAD_TENSOR) return last;
  if (name !== EMBEDDING_TENSOR) return true;
  return last && !header.tensors.some((tensor) => tensor.name === HEAD_TENSOR);
}

/** Where the rows of the token embedding lie in an embedding slice, and what they are multiplied with. */
export async function embeddingFacts(file: string): Promise<EmbeddingFacts> {
  const { header, fileBytes } = await headerOf(file);
  const facts = new Facts(header);
  facts.expect('embedding');
  const [tensor, ...others] = header.tensors;
  if (tensor?.name !== EMBEDDING_TENSOR || others.length > 0 || tensor.shape.length !== 2)
    throw wrong(`an embedding slice holds '${EMBEDDING_TENSOR}' and nothing else`);
  return { rowScale: facts.number(FACT.rowScale), tensor, fileBytes };
}

async function headerOf(file: string): Promise<{ header: Header; fileBytes: number }> {
  const source = await FileSource.open(file);
  try {
    return { header: await parseHeader(source), fileBytes: source.sizeBytes };
  } finally {
    await source.close();
  }
}

class Facts {
  readonly #header: Header;

  constructor(header: Header) {
    this.#header = header;
  }

  expect(kind: SliceKind): void {
    const version = this.optionalNumber(FACT.version);
    if (version !== SLICE_VERSION)
      throw wrong(`slice version ${version ?? 'absent'}, this engine reads ${SLICE_VERSION}`);
    const is = this.text(FACT.kind);
    if (is !== kind) throw wrong(`a slice of the kind '${is}' where '${kind}' is needed`);
  }

  value(key: string): Scalar | undefined {
    const entry = this.#header.metadata.get(key);
    return entry === undefined || entry.type === 'array' ? undefined : entry.value;
  }

  optionalNumber(key: string): number | undefined {
    const value = this.value(key);
    return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
  }

  number(key: string): number {
    const value = this.optionalNumber(key);
    if (value === undefined) throw wrong(`'${key}' is absent`);
    return value;
  }

  text(key: string): string {
    const value = this.value(key);
    if (typeof value !== 'string') throw wrong(`'${key}' is absent`);
    return value;
  }
}

function wrong(what: string): MinikeepError {
  return new MinikeepError('engine.slice_facts', `the slice does not fit its place: ${what}`, {
    next: NEXT.cutAgain,
  });
}
