/**
 * A small vocabulary of our own for random models: every byte, every printable ASCII letter, a few common pieces,
 * and a chat template. llama.cpp loads it as a SentencePiece-like vocabulary ('llama').
 */
import { arrayKey, scalarKey, type KeyEntry } from '@minikeep/gguf';

/** llama.cpp's kinds of tokens. */
const KIND = { normal: 1, unknown: 2, control: 3, byte: 6 };
const PIECES =
  '▁t he ▁a in ▁the re er on ▁s at nd ▁and ing ou en is or it ▁to ▁of ' +
  '▁in es ed ll ▁is ▁you st';

/** Written by us for tests; shows a turn with its role. */
const TEMPLATE =
  '{% for message in messages %}<|turn|>{{ message.role }}\n{{ message.content }}<|end|>\n{% endfor %}' +
  '{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}';

/** Fewest entries that hold everything above. */
export const VOCABULARY_MIN = 384;

/** Keys of a vocabulary with exactly `size` entries; 2 (`</s>`), 4 (`<|end|>`) and 5 end a generation. */
export function vocabularyKeys(size: number): KeyEntry[] {
  if (size < VOCABULARY_MIN) throw new Error(`a vocabulary of ${size} is too small`);
  const tokens: string[] = [];
  const kinds: number[] = [];
  const add = (token: string, kind: number): void => {
    tokens.push(token);
    kinds.push(kind);
  };
  add('<unk>', KIND.unknown);
  for (const special of ['<s>', '</s>', '<|turn|>', '<|end|>', '<|endoftext|>'])
    add(special, KIND.control);
  for (let byte = 0; byte < 256; byte++)
    add(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`, KIND.byte);
  add('▁', KIND.normal);
  for (let code = 0x21; code < 0x7f; code++) add(String.fromCharCode(code), KIND.normal);
  for (const piece of PIECES.split(' ')) add(piece, KIND.normal);
  for (let i = tokens.length; i < size; i++) add(`▁w${i}`, KIND.normal);
  if (tokens.length > size) throw new Error(`the pieces do not fit into ${size} entries`);
  return [
    scalarKey('tokenizer.ggml.model', 'string', 'llama'),
    arrayKey('tokenizer.ggml.tokens', 'string', tokens),
    // Longer pieces win: a later entry must not have a lower score than the letters it is made of.
    arrayKey(
      'tokenizer.ggml.scores',
      'float32',
      tokens.map((token) => (token.length > 1 ? -1 / token.length : -2)),
    ),
    arrayKey('tokenizer.ggml.token_type', 'int32', kinds),
    scalarKey('tokenizer.ggml.bos_token_id', 'uint32', 1),
    scalarKey('tokenizer.ggml.eos_token_id', 'uint32', 2),
    scalarKey('tokenizer.ggml.eot_token_id', 'uint32', 4),
    scalarKey('tokenizer.ggml.unknown_token_id', 'uint32', 0),
    scalarKey('tokenizer.ggml.add_bos_token', 'bool', true),
    scalarKey('tokenizer.chat_template', 'string', TEMPLATE),
  ];
}

/** Keys of a model without a vocabulary: token ids only. */
export function noVocabularyKeys(): KeyEntry[] {
  return [scalarKey('tokenizer.ggml.model', 'string', 'no_vocab')];
}
