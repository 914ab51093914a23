// The indexes of an array, from its SPEC such as `0-99:2,150`: which one stands at a place, and back.

interface Range {
  start: number;
  step: number;
  size: number;
}

export class Indexes {
  private readonly ranges: Range[];

  constructor(spec: string | null) {
    this.ranges = (spec ?? "0").split("%")[0]!.split(",").map((part) => {
      const found = /^(\d+)(?:-(\d+))?(?::(\d+))?$/.exec(part.trim());
      if (!found) return { start: 0, step: 1, size: 0 };
      const [start, step] = [Number(found[1]), Number(found[3] ?? 1)];
      const last = found[2] === undefined ? start : Number(found[2]);
      return { start, step, size: Math.floor((last - start) / step) + 1 };
    });
  }

  at(place: number): number {
    for (const { start, step, size } of this.ranges) {
      if (place < size) return start + place * step;
      place -= size;
    }
    return place;
  }

  /** -1 where there is none. */
  placeOf(index: number): number {
    let before = 0;
    for (const { start, step, size } of this.ranges) {
      const place = (index - start) / step;
      if (Number.isInteger(place) && place >= 0 && place < size) return before + place;
      before += size;
    }
    return -1;
  }
}
