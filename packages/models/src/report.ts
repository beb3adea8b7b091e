/**
 * What somebody has to accept before a model becomes one of the cluster's: all that will run or be read of it, in
 * numbers and in words. Made from the checked header; nothing of the file runs.
 */
import { createHash } from 'node:crypto';
import { architectureOf, describeModel, layersToCut, type Model } from '@minikeep/gguf';

/** Text from the file is cut here; whoever shows it makes control characters visible. */
const TEXT_LENGTH_MAX = 200;

/** What files without a vocabulary state. */
const NO_VOCABULARY = 'no_vocab';

export interface ModelReport {
  readonly path: string;
  readonly files: number;
  readonly size_bytes: number;
  readonly architecture: string;
  readonly layers: number;
  readonly parameters: number;
  readonly experts: number;
  readonly experts_used: number;
  /** The type that holds most of the values. */
  readonly quantisation: string;
  readonly bits_per_weight: number;
  readonly context_length: number;
  /** As the file states it; empty when it does not. */
  readonly licence: string;
  readonly tokenizer: string;
  readonly vocabulary: number;
  /** The chat template, a program by whoever made the file: its length, and the SHA-256 of its UTF-8. 0 and '': none. */
  readonly template_characters: number;
  readonly template_sha256: string;
  /** What is worth a second look. Sentences of ours. */
  readonly warnings: readonly string[];
}

/** Throws `gguf.architecture_unsupported`, `slice.model_refused`: what can't be deployed is not imported. */
export function reportOn(model: Model): ModelReport {
  architectureOf(model);
  const layers = layersToCut(model);
  const s = describeModel(model);
  const text = (value: string | undefined): string => (value ?? '').slice(0, TEXT_LENGTH_MAX);
  const warnings: string[] = [];
  if (s.licence === undefined) warnings.push('The file states no licence.');
  if (s.tokenizer === undefined || s.tokenizer === NO_VOCABULARY)
    warnings.push('It has no tokenizer: prompts can only be token ids.');
  else if (s.template === undefined)
    warnings.push('It has no chat template: prompts are fed as they are.');
  return {
    path: model.path,
    files: s.files,
    size_bytes: s.size_bytes,
    architecture: s.architecture,
    layers,
    parameters: s.parameters,
    experts: s.experts ?? 0,
    experts_used: s.experts_used ?? 0,
    quantisation: s.quantisation,
    bits_per_weight: s.bits_per_weight,
    context_length: s.context_length ?? 0,
    licence: text(s.licence),
    tokenizer: text(s.tokenizer),
    vocabulary: s.vocabulary ?? 0,
    template_characters: s.template?.length ?? 0,
    template_sha256:
      s.template === undefined ? '' : createHash('sha256').update(s.template).digest('hex'),
    warnings,
  };
}
