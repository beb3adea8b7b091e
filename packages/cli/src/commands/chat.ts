/**
 * A conversation on a terminal. Nothing of it is written to disk. Ctrl-C stops an answer; at the prompt it leaves.
 */
import { toMinikeepError } from '@minikeep/protocol';
import { createInterface } from 'node:readline/promises';
import type { CommandContext } from '../command-context.ts';
import { interruptedError } from '../interrupts.ts';
import { Progress } from '../progress.ts';
import { answerOf } from './answer.ts';
import { warnOfViolations, type Ready } from './ready.ts';

interface Message {
  readonly role: string;
  readonly content: string;
}

const HISTORY_MAX = 200;
const HELP = [
  'Write, and press Enter. A line that ends in \\ goes on in the next one.',
  '/clear forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer.',
];

export async function chat(ready: Ready): Promise<void> {
  const { context, flags } = ready;
  const { terminal, interrupts } = context;
  terminal.note(
    `${ready.deployed.status.stages.length} nodes are ready. /help says what you can do.`,
  );
  const beginning: Message[] =
    flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  let messages = [...beginning];
  let history: string[] = [];
  for (;;) {
    const asked = await ask(context, history);
    history = asked.history;
    interrupts.signal.throwIfAborted();
    if (asked.text === undefined) return;
    const text = asked.text.trim();
    if (text === '') continue;
    if (text === '/exit') return;
    if (text === '/help') for (const line of HELP) terminal.note(line);
    else if (text === '/clear') {
      messages = [...beginning];
      terminal.note('The conversation is forgotten.');
    } else if (text.startsWith('/')) terminal.note(`There is no ${text.split(' ')[0]}. Try /help.`);
    else messages = await answer(ready, [...messages, { role: 'user', content: text }]);
  }
}

interface Asked {
  /** Undefined: the person wants to leave. */
  readonly text: string | undefined;
  readonly history: string[];
}

/**
 * Reads one entry. The interface lives only that long, so that the terminal is in its ordinary mode while an answer
 * is written, and Ctrl-C is a signal then.
 */
async function ask({ terminal, interrupts }: CommandContext, before: string[]): Promise<Asked> {
  const { signal } = interrupts;
  let history = before;
  const rl = createInterface({
    input: terminal.stdin,
    output: terminal.stdout,
    history: [...before],
    historySize: HISTORY_MAX,
    removeHistoryDuplicates: true,
  });
  rl.on('history', (lines: string[]) => (history = [...lines]));
  const left = Promise.withResolvers<undefined>();
  rl.on('SIGINT', () => left.resolve(undefined));
  rl.on('close', () => left.resolve(undefined));
  signal.addEventListener('abort', () => left.resolve(undefined), { once: true });
  try {
    let text = '';
    for (;;) {
      const question = rl.question(text === '' ? '> ' : '… ', { signal });
      question.catch(() => {});
      const line = await Promise.race([question, left.promise]);
      if (line === undefined) {
        terminal.stdout.write('\n');
        return { text: undefined, history };
      }
      if (!line.endsWith('\\')) return { text: text + line, history };
      text += `${line.slice(0, -1)}\n`;
    }
  } finally {
    rl.close();
  }
}

/** Writes the answer; returns the conversation with it. An error leaves the conversation as it was. */
async function answer(ready: Ready, messages: Message[]): Promise<Message[]> {
  const { terminal, interrupts } = ready.context;
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, interrupts.signal, terminal.outputClosed]);
  let partial = '';
  interrupts.take(() => stop.abort(interruptedError()));
  try {
    const { text, done } = await answerOf(ready, {
      prompt: { messages },
      progress: new Progress(terminal, false),
      signal,
      async onToken(token) {
        partial += token.text;
        await terminal.write(token.text);
      },
    });
    await terminal.write(text.endsWith('\n') ? '' : '\n');
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
