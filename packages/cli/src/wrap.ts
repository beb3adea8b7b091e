/** Lines that break between words: a terminal by itself breaks anywhere. */

/** Breaks a text between words; what goes beyond `max` lines is left out. */
export function wrapped(text: string, width: number, max = 2): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = '';
      if (lines.length === max) break;
    }
    line += (line === '' ? '' : ' ') + word;
  }
  if (line !== '' && lines.length < max) lines.push(line);
  if (lines.length === max && lines.join(' ').length < text.length)
    lines[max - 1] = `${lines[max - 1]?.replace(/,?\s*\S*$/, '') ?? ''} …`;
  return lines;
}

/** Wraps a text that comes in pieces: a word is given out once the blank after it, or the end, is there. */
export class WordWrap {
  #column = 0;
  #gap = '';
  #word = '';

  /** What may be written now, at so many columns. */
  push(text: string, columns: number): string {
    let out = '';
    for (const char of text) {
      if (char === ' ') {
        out += this.#place(columns);
        this.#gap += char;
      } else if (char === '\n') {
        out += `${this.#place(columns)}\n`;
        this.#gap = '';
        this.#column = 0;
      } else this.#word += char;
    }
    return out;
  }

  /** What was still held back. */
  end(columns: number): string {
    const out = this.#place(columns) + this.#gap;
    this.#gap = '';
    this.#column = 0;
    return out;
  }

  #place(columns: number): string {
    if (this.#word === '') return '';
    const word = this.#word;
    const gap = this.#gap;
    this.#word = '';
    this.#gap = '';
    const length = Array.from(word).length;
    const breaks = this.#column > 0 && gap !== '' && this.#column + gap.length + length > columns;
    this.#column = breaks ? length : this.#column + gap.length + length;
    return breaks ? `\n${word}` : gap + word;
  }
}
