import assert from "node:assert/strict";
import { test } from "node:test";
import { joinWords, plainText, splitWords } from "../src/words";

for (const [text, words] of [
  ["python train.py --lr 0.1", ["python", "train.py", "--lr", "0.1"]],
  ["  a\t b\n", ["a", "b"]],
  [`sh -c 'echo "$X"; exit 3'`, ["sh", "-c", 'echo "$X"; exit 3']],
  [String.raw`a\ b "c\"d" "e\f" '\'`, ["a b", 'c"d', String.raw`e\f`, "\\"]],
  [`'' "" a''b`, ["", "", "ab"]],
  ["a \\\n b", ["a", "b"]],
]) {
  test(`${JSON.stringify(text)} is split as a shell does`, () => assert.deepEqual(splitWords(text), words));
  test(`the words of ${JSON.stringify(text)} survive being joined`, () =>
    assert.deepEqual(splitWords(joinWords(words)), words));
}

for (const text of ["'a", 'b "c', "d\\"]) {
  test(`${text} is not a whole command`, () => assert.throws(() => splitWords(text)));
}

for (const [text, shown] of [
  ["\x1b[1;31mred\x1b[0m plain", "red plain"],
  ["\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"],
  ["10%\r20%\r30%\nnext\r\n", "30%\nnext\n"],
  ["50%\r", "50%"],
  ["bell\x07, back\x08space, tab\t, null\x00", "bell, backspace, tab\t, null"],
  ["<b>ü\u202e</b>", "<b>ü\u202e</b>"],
]) {
  test(`${JSON.stringify(text)} is shown as text`, () => assert.equal(plainText(text), shown));
}
