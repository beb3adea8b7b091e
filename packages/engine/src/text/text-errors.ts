/** What a model file lacks for talking: said by the text engine, and by the command line before anything is started. */
import { MinikeepError } from '@minikeep/protocol';
import { NEXT } from '../next-steps.ts';

export const noVocabulary = (): MinikeepError =>
  new MinikeepError('engine.no_vocabulary', 'the model file has no vocabulary', {
    next: NEXT.useTokenizer,
  });

export const noTemplate = (): MinikeepError =>
  new MinikeepError('engine.no_template', 'the model file has no chat template', {
    next: NEXT.givePromptRaw,
  });
