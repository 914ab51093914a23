// A command line as words, as a POSIX shell splits it, but nothing is replaced in them.

export class SplitError extends Error {}

/** Raises SplitError where a quote is not closed. */
export function splitWords(text: string): string[] {
  const words: string[] = [];
  let word: string | null = null;
  let quote = "";
  for (let place = 0; place < text.length; place += 1) {
    const sign = text[place]!;
    if (quote === "'") {
      if (sign === "'") quote = "";
      else word += sign;
    } else if (sign === "\\" && (quote === "" || '\\"$`\n'.includes(text[place + 1] ?? ""))) {
      place += 1;
      if (place === text.length) throw new SplitError("The command ends with a backslash.");
      if (text[place] !== "\n") word = (word ?? "") + text[place];
    } else if (quote === '"') {
      if (sign === '"') quote = "";
      else word += sign;
    } else if (sign === "'" || sign === '"') {
      quote = sign;
      word ??= "";
    } else if (/\s/.test(sign)) {
      if (word !== null) words.push(word);
      word = null;
    } else {
      word = (word ?? "") + sign;
    }
  }
  if (quote) throw new SplitError(`The command has a ${quote} that is not closed.`);
  if (word !== null) words.push(word);
  return words;
}

/** Words as one would type them. */
export function joinWords(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
}

const COLOURS_AND_MOVES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[@-Z\\-_])/g;

/** Text of a program without what only a terminal understands. */
export function plainText(text: string): string {
  return text
    .replace(COLOURS_AND_MOVES, "")
    .replace(/\r\n/g, "\n")
    .replace(/[^\n]*\r(?!$)/g, "") // what a progress bar has written over
    .replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");
}
