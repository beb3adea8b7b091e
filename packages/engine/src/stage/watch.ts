/**
 * What happens inside a graph while llama.cpp computes it: the hidden rows after the last layer are read out and the
 * rest of the graph (norm, head) is skipped; rows are written over the input node where an architecture needs that;
 * and an attention scale that llama.cpp derives from the whole model's layer count is put right.
 *
 * llama.cpp asks about every node, hundreds a step, so the callback counts, and looks at names only where it
 * remembers that something has to be done. The first graph of each number of rows is searched by name.
 */
import koffi from 'koffi';
import { MinikeepError } from '@minikeep/protocol';
import { EvalCallback, TENSOR, type Address } from '../native/abi.ts';
import type { Binding } from '../native/binding.ts';
import { NEXT } from '../next-steps.ts';

export interface WatchSettings {
  readonly embeddingLength: number;
  readonly layers: number;
  /** Node to read rows from and stop at; undefined on the last stage. */
  readonly output: string | undefined;
  /** Node to write rows over; undefined when rows go in as `embd`. */
  readonly input: string | undefined;
  readonly attentionScale: { readonly from: number; readonly to: number } | undefined;
}

/** Where in a graph something has to be done, by the count of nodes asked about. */
interface Landmarks {
  input: number;
  output: number;
  scales: number[];
}

const UNKNOWN = -1;

export class GraphWatch {
  /** For `llama_context_params.cb_eval`. */
  readonly callback: Address;
  readonly #binding: Binding;
  readonly #settings: WatchSettings;
  /** Number of rows → landmarks of its graph. */
  readonly #known = new Map<number, Landmarks>();
  #marks: Landmarks = { input: UNKNOWN, output: UNKNOWN, scales: [] };
  #learning = true;
  #asked = 0;
  #scalesSeen = 0;
  #rows = 0;
  #from: Float32Array | undefined;
  #to: Float32Array | undefined;
  #fault: MinikeepError | undefined;
  #inputDone = false;
  #outputDone = false;

  constructor(binding: Binding, settings: WatchSettings) {
    this.#binding = binding;
    this.#settings = settings;
    this.callback = koffi.register(
      (tensor: Address, ask: boolean) => (ask ? this.#ask(tensor) : this.#reached(tensor)),
      koffi.pointer(EvalCallback),
    );
  }

  /** Whether a context needs the callback at all; without it llama.cpp computes the graph in one go. */
  get needed(): boolean {
    const { output, input, attentionScale } = this.#settings;
    return output !== undefined || input !== undefined || attentionScale !== undefined;
  }

  /** No graph is computed with it any more. */
  free(): void {
    koffi.unregister(this.callback);
  }

  /** Before a decode of `rows` rows, read from `from` (when the input node is overwritten) and put into `to`. */
  begin(rows: number, from: Float32Array | undefined, to: Float32Array | undefined): void {
    const known = this.#known.get(rows);
    this.#learning = known === undefined;
    this.#marks = known ?? { input: UNKNOWN, output: UNKNOWN, scales: [] };
    this.#asked = 0;
    this.#scalesSeen = 0;
    this.#rows = rows;
    this.#from = from;
    this.#to = to;
    this.#fault = undefined;
    this.#inputDone = false;
    this.#outputDone = false;
  }

  /** After the decode. Throws if anything that had to happen did not: a wrong name is silent otherwise. */
  end(): void {
    const { output, input, attentionScale, layers } = this.#settings;
    const missing =
      this.#fault ??
      (input !== undefined && !this.#inputDone
        ? fault(`the node '${input}' was not written over`)
        : output !== undefined && !this.#outputDone
          ? fault(`the node '${output}' was not reached`)
          : attentionScale !== undefined && this.#scalesSeen !== layers
            ? fault(`${this.#scalesSeen} attention scales in ${layers} layers`)
            : undefined);
    if (missing !== undefined) {
      this.#known.delete(this.#rows);
      throw missing;
    }
    if (this.#learning) this.#known.set(this.#rows, this.#marks);
  }

  #ask(tensor: Address): boolean {
    const at = this.#asked++;
    if (this.#learning) return this.#learn(tensor, at);
    const marks = this.#marks;
    if (at === marks.scales[this.#scalesSeen]) this.#fixScale(tensor);
    return at === marks.output || at === marks.input;
  }

  #learn(tensor: Address, at: number): boolean {
    const { output, input, attentionScale } = this.#settings;
    if (attentionScale !== undefined && this.#isAttentionScale(tensor)) {
      this.#marks.scales.push(at);
      this.#fixScale(tensor);
    }
    const name = this.#binding.name(tensor);
    if (name === output) {
      this.#marks.output = at;
      return true;
    }
    if (name === input && this.#marks.input === UNKNOWN) {
      this.#marks.input = at;
      return true;
    }
    return false;
  }

  /** A node that was asked for is computed. True: go on with the graph. */
  #reached(tensor: Address): boolean {
    const { input, output } = this.#settings;
    const name = this.#binding.name(tensor);
    if (name !== input && name !== output) return this.#fail(`reached '${name}' unexpectedly`);
    const rows = name === input ? this.#from : this.#to;
    const values = this.#rows * this.#settings.embeddingLength;
    const has = this.#binding.elements(tensor);
    if (rows === undefined || has !== values || rows.length < values)
      return this.#fail(`'${name}' has ${has} values instead of ${values}`);
    if (name === input) {
      this.#binding.tensorSet(tensor, rows, 0, values * 4);
      this.#inputDone = true;
      return true;
    }
    this.#binding.tensorGet(tensor, rows, 0, values * 4);
    this.#outputDone = true;
    return false;
  }

  #fail(what: string): false {
    this.#fault ??= fault(what);
    return false;
  }

  #isAttentionScale(tensor: Address): boolean {
    if (this.#binding.opName(tensor) !== 'SCALE') return false;
    const source = koffi.decode(tensor, TENSOR.source0, 'uint64') as number | bigint;
    return source !== 0n && source !== 0 && /^Qcur-\d+$/.test(this.#binding.name(BigInt(source)));
  }

  /** The graph may be a reused one, which was put right when it was built. */
  #fixScale(tensor: Address): void {
    const scale = this.#settings.attentionScale;
    if (scale === undefined) return;
    const is = koffi.decode(tensor, TENSOR.opParams, 'float') as number;
    if (is === scale.from) koffi.encode(tensor, TENSOR.opParams, 'float', scale.to);
    else if (is !== scale.to) {
      this.#fail(`an attention scale of ${is} where ${scale.from} was expected`);
      return;
    }
    this.#scalesSeen++;
  }
}

function fault(what: string): MinikeepError {
  return new MinikeepError('engine.graph', `llama.cpp built another graph than expected: ${what}`, {
    next: NEXT.notCovered,
  });
}
