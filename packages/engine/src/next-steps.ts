/**
 * What engines advise. Everything that an engine says may be an attacker's text, but what a person is told to do next is
 * taken for minikeep's own: so an engine can only choose among these sentences, and the agent checks that it did.
 */
export const NEXT = {
  checkTokenizer: 'Check the model: `minikeep model show FILE` prints its tokenizer.',
  changeConversation: 'Change the conversation (roles, their order, system prompt), or use --raw.',
  shortenConversation: 'Shorten the conversation.',
  useRaw: 'Use --raw to send the prompt without the template, or another file of this model.',
  useTokenizer: 'Use a file with a tokenizer; `minikeep model check` works without one.',
  givePromptRaw: 'Give a PROMPT and --raw: it is then continued as it is.',
  shortenText: 'Shorten the text.',
  tokenizeAlike: 'Tokenize the prompt with the same model that computes it.',
  quantiseEmbedding:
    'Quantise the token embedding to another type (llama-quantize --token-embedding-type).',
  closeSequence: 'Close the sequence and send its tokens again from the start.',
  closeOrRestart: 'Close the sequence and send its tokens again, or restart the deployment.',
  loadAgain: 'Load the deployment again; if it stays, remove the slice cache.',
  notCovered:
    'This architecture or setting is not covered: run `minikeep model check` on the model.',
  report: 'This is a fault in minikeep: report it.',
  fewerSequences: 'Ask for fewer parallel sequences.',
  fewerThreads: 'Use fewer threads on this node.',
  checkFile: 'Check the file with `minikeep model show FILE`, and the free memory of this node.',
  cutAgain: 'Cut the model again: remove the slice cache, then run the command again.',
  largerContext: 'Shorten the conversation, or start with a larger --context.',
  freeMemory: 'Free memory or address space on this node, then load again.',
  copyLibraries: 'Set up again with `npm run build`; it copies the libraries beside the programs.',
  setUp: 'Set up again with `npm run build`.',
  setUpSystem: 'Set up again with `npm run build`; the system needs glibc and libstdc++.',
  otherMachine: 'Use a machine with an x86-64 or Apple Silicon processor.',
  pinnedLibraries: 'Set up again with `npm run build`, which copies the pinned libraries.',
  takenOver: 'The engine is faulty or was taken over: look at its violations, then load it again.',
  wrongSender: 'The sender runs another version or is faulty: restart the deployment.',
  fewerRows: 'Ask for fewer rows in one step.',
  withLogits: 'Load the stage with logits.',
  otherFile: 'Its vocabulary is not usable: use another file of this model.',
} as const;

/** For whatever an engine advises beside that. */
export const NEXT_UNKNOWN =
  'Run `minikeep model check` on the model; a file that you do not trust can make an engine say anything.';

const OURS: ReadonlySet<string> = new Set(Object.values(NEXT));

/** The advice that may be shown as ours. */
export function trustedNext(said: string): string {
  return OURS.has(said) ? said : NEXT_UNKNOWN;
}
