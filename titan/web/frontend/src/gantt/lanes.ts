// Bars of a timeline, laid out: for each worker as many lanes as it ran tasks at once. In a lane bars
// follow each other, so what is in sight is found by halving, however many there are.
import type { Timeline } from "../types";

export interface Lane {
  /** Numbers of bars by their start; their ends ascend as well. */
  readonly bars: Uint32Array;
}

export interface WorkerLanes {
  readonly name: string;
  readonly lanes: Lane[];
}

const LANES_MAX = 512;
// Times are in milliseconds: what ended as the next one began may seem to overlap it by one.
const ROUNDING_SECONDS = 0.002;

export class Bars {
  readonly size: number;
  /** Unix seconds. What still runs ends in the infinite. */
  readonly start: Float64Array;
  readonly end: Float64Array;
  readonly worker: Uint16Array;
  readonly job: Uint32Array;
  readonly index: Uint32Array;
  readonly attempt: Uint16Array;
  readonly state: string;

  constructor(
    readonly workers: string[],
    readonly users: string[],
    readonly jobs: Timeline["jobs"],
    columns: Timeline["bars"],
    since: number,
  ) {
    this.size = columns.start.length;
    this.start = Float64Array.from(columns.start, (value) => since + value);
    this.end = Float64Array.from(columns.end, (value) => (value === null ? Number.POSITIVE_INFINITY : since + value));
    this.worker = Uint16Array.from(columns.worker);
    this.job = Uint32Array.from(columns.job);
    this.index = Uint32Array.from(columns.index);
    this.attempt = Uint16Array.from(columns.attempt);
    this.state = columns.state;
  }

  jobOf(bar: number): Timeline["jobs"][number] {
    return this.jobs[this.job[bar]!]!;
  }
}

/** Workers by name with their lanes. O(n log n) in the number of bars. */
export function layOut(bars: Bars): WorkerLanes[] {
  const ofWorker: number[][] = bars.workers.map(() => []);
  for (let bar = 0; bar < bars.size; bar += 1) ofWorker[bars.worker[bar]!]!.push(bar);
  return bars.workers
    .map((name, worker) => ({ name, lanes: lanesOf(bars, Uint32Array.from(ofWorker[worker]!)) }))
    .filter((each) => each.lanes.length > 0)
    .sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
}

function lanesOf(bars: Bars, numbers: Uint32Array): Lane[] {
  const { start, end } = bars;
  numbers.sort((one, other) => start[one]! - start[other]!);
  const ends: number[] = [];
  const lanes: number[][] = [];
  for (const bar of numbers) {
    const from = start[bar]! + ROUNDING_SECONDS;
    let lane = 0;
    while (lane < ends.length && ends[lane]! > from) lane += 1;
    if (lane === ends.length && lane >= LANES_MAX) lane = LANES_MAX - 1;
    (lanes[lane] ??= []).push(bar);
    ends[lane] = Math.max(ends[lane] ?? 0, end[bar]!);
  }
  return lanes.map((each) => ({ bars: Uint32Array.from(each) }));
}

/** The first place in a lane whose bar ends after `time`. */
export function firstEndingAfter(bars: Bars, lane: Lane, time: number): number {
  return search(lane.bars, 0, (bar) => bars.end[bar]! > time);
}

/** The first place from `from` on whose bar starts at `time` or later. */
export function firstStartingAt(bars: Bars, lane: Lane, time: number, from: number): number {
  return search(lane.bars, from, (bar) => bars.start[bar]! >= time);
}

function search(numbers: Uint32Array, from: number, is: (bar: number) => boolean): number {
  let [low, high] = [from, numbers.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (is(numbers[middle]!)) high = middle;
    else low = middle + 1;
  }
  return low;
}
