import assert from "node:assert/strict";
import { test } from "node:test";
import { Bars, firstEndingAfter, firstStartingAt, layOut } from "../src/gantt/lanes";

const SINCE = 1_000;

function made(rows) {
  return new Bars(
    ["w10", "w9", "idle"],
    ["ada"],
    [{ job_id: 1, name: "a", user: 0 }],
    {
      worker: rows.map(([worker]) => worker),
      job: rows.map(() => 0),
      index: rows.map((_, place) => place),
      attempt: rows.map(() => 1),
      start: rows.map(([, start]) => start),
      end: rows.map(([, , end]) => end),
      state: "C".repeat(rows.length),
    },
    SINCE,
  );
}

test("bars of a lane follow each other, and a worker has as many lanes as it needs", () => {
  const bars = made([[0, 5, null], [0, 0, 4], [0, 4, 6], [1, 0, 1], [0, 1, 3], [0, 3, 9]]);
  const lanes = layOut(bars).map((worker) => [worker.name, worker.lanes.map((lane) => [...lane.bars])]);
  assert.deepEqual(lanes, [["w9", [[3]]], ["w10", [[1, 2], [4, 5], [0]]]]);
  assert.equal(bars.end[0], Number.POSITIVE_INFINITY);
});

test("thousands of bars are in lanes without overlap, each once", () => {
  let seed = 1;
  const random = () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647;
  const rows = Array.from({ length: 5_000 }, () => {
    const start = random() * 1_000;
    return [0, start, start + random() * 20];
  });
  const bars = made(rows);
  const [worker] = layOut(bars);
  const seen = new Set();
  for (const lane of worker.lanes) {
    lane.bars.forEach((bar, place) => {
      seen.add(bar);
      if (place > 0) assert.ok(bars.end[lane.bars[place - 1]] <= bars.start[bar] + 0.003);
    });
    const time = SINCE + 500;
    const slow = [...lane.bars].findIndex((bar) => bars.end[bar] > time);
    assert.equal(firstEndingAfter(bars, lane, time), slow < 0 ? lane.bars.length : slow);
    const next = [...lane.bars].findIndex((bar, place) => place >= 2 && bars.start[bar] >= time);
    assert.equal(firstStartingAt(bars, lane, time, Math.min(2, lane.bars.length)), next < 0 ? lane.bars.length : next);
  }
  assert.equal(seen.size, rows.length);
});
