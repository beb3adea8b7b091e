/**
 * What a line tells about the place in it: whether a definition may begin here, which bracket is open, and whether this
 * is program code.
 *
 * Inside a fence everything is guarded as outside, for renderers differ about where fences end, and some show diagrams
 * or whole pages of what is in one. One thing is let through there: a plain address, in a fence that every renderer
 * takes for one (at the margin, outside of HTML), of a language that nobody draws. Code that was asked for can name the
 * service that it calls.
 */
const LINE_KEPT = 200;
const BRACKETS_MAX = 32;
const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*(.*)$/;
const DRAWN_BY_NOBODY: ReadonlySet<string> = new Set(
  'ada awk bash bat c clojure cmake cobol cpp cs csharp csv cuda cxx dart diff dockerfile elixir erlang fish fortran fsharp go gradle groovy h haskell hcl hpp ini java javascript js json jsonl julia kotlin lisp lua make makefile matlab ml nim nix objectivec ocaml octave pascal perl php pl powershell prolog properties ps1 py python python3 r rb rs ruby rust sas scala scheme sh shell sql stan stata swift terraform toml ts tsv typescript vb verilog vhdl wasm yaml yml zig zsh'.split(
    ' ',
  ),
);
/** Blocks of HTML that go on over blank lines. */
const RAW_BLOCK = /<(?:!|\?|pre|textarea|script|style)/i;
const MARKS_ONLY = /^[ \t>*+\-0-9.)]*\[(\^?)/;
const UNESCAPED = /(?<!\\)\[/;
const BLANK = /^[ \t\r]*$/;

export class Lines {
  /** Its first characters. */
  #line = '';
  /** There is more to the line than blanks behind what is kept. */
  #more = false;
  #last = '';
  #fence: { readonly mark: string; readonly count: number; readonly code: boolean } | undefined;
  /** A tag since the last blank line: a fence would be part of its block. */
  #tag = false;
  #rawBlocks = false;
  /** Brackets that are open; true for `![`. */
  #brackets: boolean[] = [];

  /** A fence of program code, for every renderer. */
  get code(): boolean {
    return this.#fence?.code === true;
  }

  /** The bracket that would close here is an image's. */
  get image(): boolean {
    return this.#brackets.at(-1) === true;
  }

  /** `[^` or `[` opened with nothing but marks before it, or on an earlier line. */
  get definition(): { readonly possible: boolean; readonly footnote: boolean } {
    const match = MARKS_ONLY.exec(this.#line);
    const possible = match !== null || !UNESCAPED.test(this.#line);
    return { possible, footnote: match?.[1] === '^' };
  }

  feed(text: string): void {
    let from = 0;
    for (;;) {
      const end = text.indexOf('\n', from);
      this.#add(text.slice(from, end < 0 ? undefined : end));
      if (end < 0) return;
      this.#ended();
      from = end + 1;
    }
  }

  #add(text: string): void {
    if (text === '') return;
    for (const character of text) {
      if (character === '[') {
        this.#brackets.push(this.#last === '!');
        if (this.#brackets.length > BRACKETS_MAX) this.#brackets.shift();
      }
      if (character === ']') this.#brackets.pop();
      this.#last = character;
    }
    const kept = text.slice(0, LINE_KEPT - this.#line.length);
    this.#line += kept;
    if (!BLANK.test(text.slice(kept.length))) this.#more = true;
  }

  #ended(): void {
    const line = this.#more ? `${this.#line}…` : this.#line;
    this.#line = '';
    this.#more = false;
    this.#last = '\n';
    if (BLANK.test(line)) {
      this.#tag = false;
      this.#brackets = [];
    }
    const [, indent = '', marks = '', info = ''] = FENCE.exec(line) ?? [];
    const fence = this.#fence;
    if (fence !== undefined) {
      const closes =
        marks.startsWith(fence.mark) && marks.length >= fence.count && BLANK.test(info);
      if (closes) this.#fence = undefined;
      return;
    }
    if (/<[a-z/!?]/i.test(line)) this.#tag = true;
    if (RAW_BLOCK.test(line)) this.#rawBlocks = true;
    const [mark = ''] = marks;
    if (mark === '' || (mark === '`' && info.includes('`'))) return;
    const language = info.trim().toLowerCase();
    this.#fence = {
      mark,
      count: marks.length,
      code:
        indent === '' &&
        mark === '`' &&
        !this.#tag &&
        !this.#rawBlocks &&
        DRAWN_BY_NOBODY.has(language),
    };
  }
}
