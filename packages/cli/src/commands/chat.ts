/** A conversation on a terminal. Nothing of it is written to disk. Ctrl-C stops an answer. */
import { toMinikeepError } from '@minikeep/protocol';
import { ChatInput } from '../chat-input.ts';
import { interruptedError } from '../interrupts.ts';
import { Progress } from '../progress.ts';
import { answerOf } from './answer.ts';
import { warnOfFinds, warnOfViolations, type Ready } from './ready.ts';

interface Message {
  readonly role: string;
  readonly content: string;
}

const LEAVE: ReadonlySet<string> = new Set(['/exit', '/bye', '/quit']);
/** One word after a slash. A path, or a sentence that begins with one, is a question. */
const COMMAND = /^\/[a-z?]*$/i;
const HELP = [
  'Write, and press Enter. A line that ends in \\ goes on in the next one; what is pasted is one message.',
  '/clear forgets the conversation; /exit, /bye or Ctrl-D leaves.',
  'Ctrl-C stops an answer; else it clears what was typed, and leaves when there is nothing.',
];

export async function chat(ready: Ready): Promise<void> {
  const { context, flags } = ready;
  const { terminal, interrupts } = context;
  const stages = ready.deployed.stages.length;
  terminal.note(
    `${stages === 1 ? '1 node is' : `${stages} nodes are`} ready. /help says what you can do.`,
  );
  const beginning: Message[] =
    flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  let messages = [...beginning];
  const input = new ChatInput(terminal, () => interrupts.interrupt());
  try {
    for (;;) {
      const asked = await input.next(interrupts.signal);
      interrupts.signal.throwIfAborted();
      if (asked === undefined) return;
      const text = asked.trim();
      if (text === '') continue;
      if (LEAVE.has(text)) return;
      if (text === '/help') for (const line of HELP) terminal.note(line);
      else if (text === '/clear') {
        messages = [...beginning];
        terminal.note('The conversation is forgotten.');
      } else if (COMMAND.test(text)) terminal.note(`There is no ${text}. Try /help.`);
      else messages = await answer(ready, [...messages, { role: 'user', content: text }]);
    }
  } finally {
    input.close();
  }
}

/** Writes the answer; returns the conversation with it. An error leaves the conversation as it was. */
async function answer(ready: Ready, messages: Message[]): Promise<Message[]> {
  const { terminal, interrupts } = ready.context;
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, interrupts.signal, terminal.outputClosed]);
  let partial = '';
  // An answer that does not stop when asked must not hold the person.
  interrupts.take(() =>
    stop.signal.aborted ? interrupts.stop(interruptedError()) : stop.abort(interruptedError()),
  );
  try {
    const { text, done } = await terminal.allWordsOf(
      answerOf(ready, {
        prompt: { messages },
        progress: new Progress(terminal, false),
        signal,
        async onToken(token) {
          partial += token.text;
          await terminal.words(token.text);
        },
      }),
    );
    await terminal.write(text.endsWith('\n') ? '' : '\n');
    warnOfFinds(ready.context, done);
    if (done.violations > 0) await warnOfViolations(ready, signal);
    return [...messages, { role: 'assistant', content: text }];
  } catch (thrown) {
    if (interrupts.signal.aborted || terminal.outputClosed.aborted) throw thrown;
    if (stop.signal.aborted) {
      await terminal.line();
      return [...messages, { role: 'assistant', content: partial }];
    }
    const error = toMinikeepError(thrown);
    terminal.note(`error ${error.code}: ${error.message}`);
    terminal.note(
      `  next: ${error.code === 'generate.prompt_too_long' ? '/clear begins anew.' : error.next}`,
    );
    return messages.slice(0, -1);
  } finally {
    interrupts.take(undefined);
  }
}
