/** What a model file lacks for talking: said by the text engine, and by the command line before anything is started. */
import { MinikeepError } from '@minikeep/protocol';

export const noVocabulary = (): MinikeepError =>
  new MinikeepError('engine.no_vocabulary', 'the model file has no vocabulary', {
    next: 'Use a file with a tokenizer; `minikeep model check` works without one.',
  });

export const noTemplate = (): MinikeepError =>
  new MinikeepError('engine.no_template', 'the model file has no chat template', {
    next: 'Give a PROMPT and --raw: it is then continued as it is.',
  });
