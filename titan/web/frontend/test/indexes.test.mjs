import assert from "node:assert/strict";
import { test } from "node:test";
import { Indexes } from "../src/indexes";

for (const [spec, all] of [
  [null, [0]],
  ["0-3", [0, 1, 2, 3]],
  ["0-9:4", [0, 4, 8]],
  ["1,5,7-9", [1, 5, 7, 8, 9]],
  ["2-6:2,10%3", [2, 4, 6, 10]],
]) {
  test(`of ${spec} each place has its index, and each index its place`, () => {
    const indexes = new Indexes(spec);
    all.forEach((index, place) => {
      assert.equal(indexes.at(place), index);
      assert.equal(indexes.placeOf(index), place);
    });
    assert.equal(indexes.placeOf(1_000), -1);
  });
}
