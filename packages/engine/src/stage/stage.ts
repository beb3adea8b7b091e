/**
 * One slice being served: takes a step's rows in, and gives hidden rows or sampled tokens out.
 * The rules that make the result bit-identical to the whole model are in the design folder (ARCHITECTURES.md,
 * 'Rules for the stage'); here each is kept and checked, because most of them fail silently.
 */
import koffi from 'koffi';
import {
  DEFAULT_SAMPLING,
  MinikeepError,
  ROWS,
  type Frame,
  type SequenceOp,
  type Span,
  type StepFrame,
  type StepOutput,
} from '@minikeep/protocol';
import type { EngineMemory, LoadStage } from '../messages.ts';
import type { Address } from '../native/abi.ts';
import type { Binding } from '../native/binding.ts';
import { Vocabulary } from '../text/vocabulary.ts';
import { Batch } from './batch.ts';
import { Embedding } from './embedding.ts';
import { stageFacts, type StageFacts } from './facts.ts';
import { Generation } from './generation.ts';
import { groupSpans, type Group, type Grouping } from './groups.ts';
import { loadModel, newContext, type LoadedContext } from './model.ts';
import { afterStep, Positions, type StepLimits } from './positions.ts';
import { checkLogitsFit, logitsOf } from './logits.ts';
import { GraphWatch } from './watch.ts';
import { NEXT } from '../next-steps.ts';

export interface StageInfo {
  readonly n_vocab: number;
  readonly n_embd: number;
  readonly n_layer: number;
  readonly memory: EngineMemory;
}

export class Stage {
  readonly info: StageInfo;
  readonly #binding: Binding;
  readonly #load: LoadStage;
  readonly #facts: StageFacts;
  readonly #limits: StepLimits;
  readonly #loaded: LoadedContext;
  readonly #context: Address;
  readonly #memory: Address;
  readonly #watch: GraphWatch;
  readonly #batch: Batch;
  readonly #embedding: Embedding | undefined;
  readonly #generation: Generation | undefined;
  /** Rows of one decode on their way in and out, [n_batch, n_embd]; of one row when the stage takes or gives none. */
  readonly #rowsIn: Float32Array;
  readonly #rowsOut: Float32Array;
  #positions: Positions;

  private constructor(parts: StageParts) {
    const { binding, load, facts, model } = parts;
    this.#binding = binding;
    this.#load = load;
    this.#facts = facts;
    this.#embedding = parts.embedding;
    this.#watch = parts.watch;
    this.#loaded = parts.loaded;
    this.#context = parts.loaded.context;
    this.#memory = binding.memory(this.#context);
    const vocabulary = new Vocabulary(binding, model);
    this.#generation = load.last ? new Generation(binding, vocabulary) : undefined;
    const { n_batch, n_seq_max, n_ctx } = load.context;
    const n_embd = binding.embd(model);
    this.info = {
      n_vocab: vocabulary.size,
      n_embd,
      n_layer: binding.layers(model),
      memory: {
        ...parts.loaded.memory,
        weights_bytes: parts.loaded.memory.weights_bytes + (parts.embedding?.bytes ?? 0),
      },
    };
    this.#limits = {
      n_ctx,
      n_batch,
      window: load.context.mode === 'fast' ? binding.window(model) : 0,
    };
    this.#batch = new Batch(n_batch, n_seq_max, facts.positionsPerRow);
    this.#rowsIn = new Float32Array((this.#takesRows ? n_batch : 1) * n_embd);
    this.#rowsOut = new Float32Array((load.last ? 1 : n_batch) * n_embd);
    this.#positions = new Positions(n_seq_max);
  }

  /** Throws `engine.*` and `gguf.*`; a file that llama.cpp's assertions reject ends the process instead. */
  static async open(
    binding: Binding,
    load: LoadStage,
    progress: (fraction: number) => void,
  ): Promise<Stage> {
    const whole = load.first && load.last;
    const facts = await stageFacts(load);
    const embedding =
      load.embedding === undefined ? undefined : await Embedding.open(binding, load.embedding);
    if (!whole && load.first !== (embedding !== undefined))
      throw misfit('the first stage of a split model, and no other, takes an embedding slice');
    binding.log.drain();
    const model = loadModel(
      binding,
      load.slice,
      { gpu: load.context.gpu, vocabularyOnly: false, repack: load.context.mode === 'fast' },
      progress,
    );
    const layers = binding.layers(model);
    if (layers !== load.layers[1] - load.layers[0])
      throw misfit(`${layers} layers, expected ${load.layers[1] - load.layers[0]}`);
    const embeddingLength = binding.embd(model);
    if (embedding !== undefined && embedding.width !== embeddingLength)
      throw misfit(`embedding rows of ${embedding.width} values for ${embeddingLength}`);
    const watch = new GraphWatch(binding, {
      embeddingLength,
      layers,
      output: load.last ? undefined : `l_out-${layers - 1}`,
      input: whole || facts.inputMode === 'embd' ? undefined : facts.inputNode,
      attentionScale: facts.attentionScale,
    });
    const allOutputs = !load.last || load.logits === true;
    const loaded = newContext(binding, model, load.context, {
      watch: watch.needed ? watch.callback : undefined,
      outputs: allOutputs ? load.context.n_batch : load.context.n_seq_max,
    });
    return new Stage({ binding, load, facts, model, embedding, watch, loaded });
  }

  get #grouping(): Grouping {
    if (this.#facts.recurrent) return 'each_span';
    if (this.#load.context.mode === 'fast') return 'whole_step';
    return this.#facts.floatMatrices ? 'each_span' : 'single_rows';
  }

  /** Rows come from the stage before, or from the embedding; else the batch holds token ids. */
  get #takesRows(): boolean {
    return !(this.#load.first && this.#load.last);
  }

  /**
   * Computes one step. The answer is the frame for the next stage, or the result. A step that is refused changes
   * nothing; one that fails half-way closes every sequence that it names.
   */
  step(frame: StepFrame): Frame {
    this.#checkRows(frame);
    const after = afterStep(this.#positions, frame, this.#limits);
    if (this.#load.last) checkLogitsFit(frame.spans, this.info.n_vocab, this.#load.logits === true);
    this.#generation?.check(frame.ops);
    const outputs: StepOutput[] = [];
    const rowsOut = this.#load.last
      ? undefined
      : new Float32Array(frame.tokens.length * this.info.n_embd);
    try {
      for (const op of frame.ops) {
        const output = this.#apply(op, after);
        if (output !== undefined) outputs.push(output);
      }
      const offsets = spanOffsets(frame.spans);
      for (const group of groupSpans(frame.spans, this.#grouping))
        this.#compute(frame, group, offsets, rowsOut, outputs);
    } catch (thrown) {
      this.#giveUp(frame);
      throw thrown;
    }
    this.#positions = after;
    const { epoch, step, timings } = frame;
    if (rowsOut === undefined) return { kind: 'result', epoch, step, timings, outputs };
    return {
      ...frame,
      rows: { type: ROWS.f32, nEmbd: this.info.n_embd, bytes: new Uint8Array(rowsOut.buffer) },
    };
  }

  /**
   * Two steps on a sequence of their own, so that everything that is loaded or started on first use is there before
   * the sandbox closes; it also brings the weights into memory.
   */
  warmUp(): void {
    const sampling = new TextEncoder().encode(JSON.stringify(DEFAULT_SAMPLING));
    const rows = Math.min(2, this.#limits.n_batch);
    const step = (ops: readonly SequenceOp[], position: number, count: number): void => {
      const bytes = new Uint8Array(count * this.info.n_embd * 4);
      this.step({
        kind: 'step',
        epoch: 0,
        step: 0,
        ops,
        spans: [{ seq: 0, position, count, sample: true, logits: false, replay: false }],
        tokens: new Int32Array(count),
        timings: [],
        rows: this.#load.first
          ? { type: ROWS.none, nEmbd: 0, bytes: new Uint8Array() }
          : { type: ROWS.f32, nEmbd: this.info.n_embd, bytes },
      });
    };
    step([{ op: 'open', seq: 0, sampling }], 0, rows);
    if (this.#limits.n_ctx > rows) step([], rows, 1);
    this.#giveUp({ ops: [{ op: 'close', seq: 0 }], spans: [] });
    this.#binding.memoryClear(this.#memory, true);
  }

  /** Gives the model, the cache and the threads back; for programs that load several. */
  free(): void {
    for (let seq = 0; seq < this.#positions.count; seq++) this.#generation?.drop(seq);
    this.#loaded.free();
    this.#watch.free();
  }

  #checkRows(frame: StepFrame): void {
    const { type, nEmbd } = frame.rows;
    if (this.#load.first ? type !== ROWS.none : type === ROWS.none)
      throw misfit(
        this.#load.first ? 'hidden rows for the first stage' : 'a step without hidden rows',
      );
    if (!this.#load.first && nEmbd !== this.info.n_embd && frame.tokens.length > 0)
      throw misfit(`rows of ${nEmbd} values for a model with ${this.info.n_embd}`);
    // llama.cpp checks the tokens of a whole model itself; a later stage's sampler would take any.
    const size = this.#embedding?.rows ?? (this.#load.last ? this.info.n_vocab : Infinity);
    if (frame.tokens.some((token) => token < 0 || token >= size))
      throw new MinikeepError('engine.token', `a token outside the vocabulary of ${size}`, {
        next: NEXT.tokenizeAlike,
      });
  }

  #apply(op: SequenceOp, after: Positions): StepOutput | undefined {
    const { seq } = op;
    const before = this.#positions.end(seq);
    if (op.op === 'copy') this.#copy(op.source, seq, op.p0, op.p1);
    else if (op.op === 'remove') this.#remove(seq, op.p0, op.p1);
    else this.#binding.sequenceRemove(this.#memory, seq, -1, -1);
    return this.#generation?.apply(op, op.op === 'close' ? Math.max(0, before) : after.end(seq));
  }

  /** Between caches of their own llama.cpp copies whole sequences only (anything else is an assertion): trim then. */
  #copy(source: number, seq: number, p0: number, p1: number): void {
    this.#binding.sequenceCopy(this.#memory, source, seq, -1, -1);
    if (p1 !== -1) this.#binding.sequenceRemove(this.#memory, seq, p1, -1);
    if (p0 > 0) this.#binding.sequenceRemove(this.#memory, seq, 0, p0);
  }

  #remove(seq: number, p0: number, p1: number): void {
    const { window } = this.#limits;
    const least = this.#binding.positionMin(this.#memory, seq);
    const kept = p0 === 0 || window === 0 || least <= Math.max(0, p0 - window);
    if (kept && this.#binding.sequenceRemove(this.#memory, seq, p0, p1)) return;
    throw new MinikeepError(
      'engine.not_removable',
      `positions from ${p0} of sequence ${seq} can't be removed: what comes before them is no longer kept`,
      { next: NEXT.closeSequence },
    );
  }

  #compute(
    frame: StepFrame,
    group: Group,
    offsets: readonly number[],
    rowsOut: Float32Array | undefined,
    outputs: StepOutput[],
  ): void {
    const { n_embd } = this.info;
    const spans = group.spans.map((i) => ({ span: frame.spans[i] as Span, at: offsets[i] ?? 0 }));
    if (this.#takesRows) this.#fillRows(frame, spans);
    const overwrite = this.#takesRows && this.#facts.inputMode === 'overwrite';
    this.#batch.begin(this.#takesRows && !overwrite ? koffi.address(this.#rowsIn) : null);
    for (const { span, at } of spans)
      for (let i = 0; i < span.count; i++) {
        const wanted = !this.#load.last || span.logits || (span.sample && i === span.count - 1);
        const token = this.#takesRows ? 0 : (frame.tokens[at + i] ?? 0);
        this.#batch.add(token, span.position + i, span.seq, wanted);
      }
    this.#watch.begin(
      group.rows,
      overwrite ? this.#rowsIn : undefined,
      this.#load.last ? undefined : this.#rowsOut,
    );
    const status = this.#binding.decode(this.#context, this.#batch.finish());
    if (status !== 0) throw this.#decodeFailed(status);
    if (this.#watch.needed) this.#watch.end();
    let row = 0;
    for (const { span, at } of spans) {
      rowsOut?.set(this.#rowsOut.subarray(row * n_embd, (row + span.count) * n_embd), at * n_embd);
      if (this.#load.last) this.#finish(frame, span, at, row, outputs);
      row += span.count;
    }
  }

  #fillRows(frame: StepFrame, spans: readonly { span: Span; at: number }[]): void {
    const { n_embd } = this.info;
    let row = 0;
    for (const { span, at } of spans) {
      const target = this.#rowsIn.subarray(row * n_embd, (row + span.count) * n_embd);
      if (this.#embedding !== undefined)
        this.#embedding.lookUp(frame.tokens.subarray(at, at + span.count), target);
      else readRows(frame, at * n_embd, target);
      row += span.count;
    }
  }

  #finish(frame: StepFrame, span: Span, at: number, row: number, outputs: StepOutput[]): void {
    const tokens = frame.tokens.subarray(at, at + span.count);
    this.#generation?.accept(span, tokens);
    const sampled = span.sample
      ? this.#generation?.sample(this.#context, span, row + span.count - 1)
      : undefined;
    if (span.logits)
      outputs.push(
        ...logitsOf(this.#binding, this.#context, span, row, this.info.n_vocab, sampled),
      );
    else if (sampled !== undefined) outputs.push(sampled);
  }

  /** Part of a step may be in the cache: every sequence that it names is emptied and closed. */
  #giveUp(frame: Pick<StepFrame, 'ops' | 'spans'>): void {
    for (const { seq } of [...frame.ops, ...frame.spans]) {
      this.#binding.sequenceRemove(this.#memory, seq, -1, -1);
      this.#positions.close(seq);
      this.#generation?.drop(seq);
    }
  }

  #decodeFailed(status: number): MinikeepError {
    const said = this.#binding.log.problem();
    this.#binding.log.drain();
    const what = status === 1 ? 'no room in the cache' : `status ${status}`;
    return new MinikeepError(
      'engine.decode_failed',
      `llama.cpp could not compute the step (${what})${said === '' ? '' : `: ${said}`}`,
      { next: NEXT.closeOrRestart },
    );
  }
}

interface StageParts {
  readonly binding: Binding;
  readonly load: LoadStage;
  readonly facts: StageFacts;
  readonly model: Address;
  readonly embedding: Embedding | undefined;
  readonly watch: GraphWatch;
  readonly loaded: LoadedContext;
}

/** Index of each span's first row in the frame. */
function spanOffsets(spans: readonly Span[]): number[] {
  let at = 0;
  return spans.map((span) => {
    const offset = at;
    at += span.count;
    return offset;
  });
}

/** Copies hidden rows out of a frame, from value `from` on, widening f16. */
function readRows(frame: StepFrame, from: number, target: Float32Array): void {
  const { type, bytes } = frame.rows;
  if (type === ROWS.f32) {
    const source = bytes.subarray(from * 4, from * 4 + target.byteLength);
    new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(source);
    return;
  }
  const half = new Uint8Array(target.length * 2);
  half.set(bytes.subarray(from * 2, from * 2 + half.byteLength));
  target.set(new Float16Array(half.buffer));
}

function misfit(what: string): MinikeepError {
  return new MinikeepError('engine.slice_misfit', `the slice does not fit its place: ${what}`, {
    next: NEXT.loadAgain,
  });
}
