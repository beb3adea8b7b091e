/**
 * An answer with the output guard in its stream: every way to ask goes through here. Thinking and answer are shown
 * apart, so each begins with a guard of its own.
 */
import {
  FinishReason,
  type GenerateDone,
  type GenerateRequest,
  type GenerateResponse,
} from '@minikeep/protocol/v1';
import { OutputGuard, type Finding, type OutputPolicy } from '@minikeep/output-guard';
import type { Cluster } from '../cluster.ts';
import type { Deployment } from '../deployment.ts';
import { generate } from '../generate.ts';
import { outputPolicyMessage, outputPolicyOf } from './output-setting.ts';
import { FindRecorder } from './record-finds.ts';

const BOUNDARY = /<\/?think>/g;
const TAG_LENGTH_MAX = '</think>'.length;

/** What `block` writes where the answer ends. */
export const blockedNote = (kind: string): string =>
  `\n\n[minikeep ended this answer: the output guard found a way out in it (${kind}).]`;

/** The guard over thinking and answer, one after the other. */
export class GuardedText {
  readonly #policy: OutputPolicy;
  #guard: OutputGuard;
  #tail = '';
  #ended = false;

  constructor(policy: OutputPolicy) {
    this.#policy = policy;
    this.#guard = new OutputGuard(policy);
  }

  get ended(): boolean {
    return this.#ended;
  }

  push(text: string): { readonly text: string; readonly findings: readonly Finding[] } {
    const { text: shown, findings } = this.#parts(text);
    return { text: shown, findings };
  }

  end(): { readonly text: string; readonly findings: readonly Finding[] } {
    const last = this.#ended ? { text: '', findings: [], ended: true } : this.#guard.end();
    this.#ended ||= last.ended;
    return last;
  }

  #parts(text: string): { text: string; findings: Finding[] } {
    const result = { text: '', findings: [] as Finding[] };
    const add = (next: ReturnType<OutputGuard['push']>): void => {
      result.text += next.text;
      result.findings.push(...next.findings);
      this.#ended ||= next.ended;
    };
    const joined = this.#tail + text;
    let from = this.#tail.length;
    for (const match of joined.matchAll(BOUNDARY)) {
      const end = match.index + match[0].length;
      if (end <= this.#tail.length || this.#ended) continue;
      add(this.#guard.push(joined.slice(from, end)));
      if (!this.#ended) add(this.#guard.end());
      this.#guard = new OutputGuard(this.#policy);
      from = end;
    }
    if (!this.#ended) add(this.#guard.push(joined.slice(from)));
    this.#tail = joined.slice(-TAG_LENGTH_MAX + 1);
    return result;
  }
}

/** Throws the pipeline's error, `output_guard.policy`. */
export async function* guardedAnswer(
  cluster: Cluster,
  deployment: Deployment,
  request: GenerateRequest,
  signal: AbortSignal,
): AsyncGenerator<GenerateResponse, void, undefined> {
  const policy = outputPolicyOf(request.outputGuard) ?? cluster.output.policy;
  const guard = new GuardedText(policy);
  const { name, epoch } = deployment;
  const recorder = new FindRecorder(cluster.violations, {
    deployment: name,
    epoch,
    node: cluster.ownNode,
    policy,
  });
  const found: Finding[] = [];
  const note = (findings: readonly Finding[]): void => {
    recorder.add(findings);
    cluster.output.count(findings.length);
    if (found.length === 0) found.push(...findings.slice(0, 1));
  };
  const token = (id: number, text: string): GenerateResponse => ({
    event: { $case: 'token', value: { id, text } },
  });
  const guarded = { outputGuard: outputPolicyMessage(policy) };
  const ids: number[] = [];
  let promptTokens = 0;
  /** A token of which nothing is shown yet: what is held may still come with it. */
  let waits: number | undefined;
  try {
    for await (const response of generate(deployment, request, signal)) {
      const { event } = response;
      if (event?.$case === 'started') promptTokens = event.value.promptTokens;
      if (event?.$case === 'token') {
        const { id } = event.value;
        ids.push(id);
        const { text, findings } = guard.push(event.value.text);
        note(findings);
        if (waits !== undefined) yield token(waits, '');
        waits = text === '' ? id : undefined;
        if (waits === undefined) yield token(id, text);
        if (guard.ended) break;
      } else if (event?.$case === 'done') {
        const rest = guard.end();
        note(rest.findings);
        if (rest.text !== '' || waits !== undefined)
          yield token(waits ?? ids.at(-1) ?? 0, rest.text);
        if (guard.ended) break;
        const value = { ...event.value, ...guarded, outputFound: recorder.total };
        yield { event: { $case: 'done', value } };
      } else yield response;
    }
    if (!guard.ended) return;
    yield token(waits ?? ids.at(-1) ?? 0, blockedNote(found[0]?.kind ?? ''));
    const value = { ...blocked(deployment, ids, promptTokens), ...guarded };
    yield { event: { $case: 'done', value: { ...value, outputFound: recorder.total } } };
  } finally {
    recorder.end();
  }
}

/** The end of an answer whose computing was broken off: nothing was measured. */
function blocked(
  { shape, sealed, violations }: Deployment,
  tokenIds: number[],
  promptTokens: number,
): Omit<GenerateDone, 'outputGuard' | 'outputFound'> {
  return {
    finishReason: FinishReason.FINISH_REASON_CONTENT_FILTER,
    tokenIds,
    promptTokens,
    completionTokens: tokenIds.length,
    promptTokensPerSecond: 0,
    decodeTokensPerSecond: 0,
    stages: shape.stages.map(({ node, layers }) => ({
      node: node.name,
      layers: { start: layers[0], end: layers[1] },
      computeSeconds: 0,
      waitSeconds: 0,
    })),
    sealed,
    violations,
    firstTokenSeconds: 0,
    totalSeconds: 0,
    queueSeconds: 0,
  };
}
