// Draws what is in sight of a timeline. What is thinner than a pixel is drawn once for the pixel: a
// picture costs by the number of pixels, however many bars there are.
import { type Bars, firstEndingAfter, firstStartingAt, type Lane, type WorkerLanes } from "./lanes";

export interface View {
  /** Unix seconds at the left and at the right edge. */
  from: number;
  to: number;
  /** Pixels that are scrolled away above. */
  top: number;
}

export interface Size {
  width: number;
  height: number;
  /** Of a lane, in pixels. */
  lane: number;
  /** Of the column with the workers' names. */
  names: number;
}

export interface Colours {
  fills: string[];
  ofBar: (bar: number) => number;
  text: string;
  muted: string;
  line: string;
  surface: string;
  onFill: string;
  now: string;
}

export const AXIS_PX = 24;
export const GAP_PX = 8;
const NAME_LEAST_PX = 64;
const NAME_LANE_PX = 12;
const TICK_LEAST_PX = 90;
const STEPS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
  10800, 21600, 43200, 86400, 172800, 604800, 2592000,
];

export function heightOf(workers: readonly WorkerLanes[], lane: number): number {
  return workers.reduce((sum, each) => sum + each.lanes.length * lane + GAP_PX, AXIS_PX);
}

/** Draws it all. `now` is where what still runs ends; `scale`: pixels of the screen for one here. */
export function paint(
  context: CanvasRenderingContext2D,
  bars: Bars,
  workers: readonly WorkerLanes[],
  view: View,
  size: Size,
  colours: Colours,
  now: number,
  scale: number,
): void {
  const { width, height, names } = size;
  const perSecond = (width - names) / (view.to - view.from);
  const painter = new Painter(bars, view, size, colours, now, scale);
  let y = AXIS_PX - view.top;
  for (const worker of workers) {
    for (const lane of worker.lanes) {
      if (y + size.lane > AXIS_PX && y < height) painter.addLane(lane, y);
      y += size.lane;
    }
    y += GAP_PX;
  }
  painter.put(context);
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  painter.putLabels(context);
  const edge = names + (now - view.from) * perSecond;
  if (edge >= names && edge <= width) {
    context.fillStyle = colours.now;
    context.fillRect(edge, AXIS_PX, 1, height);
  }
  paintNames(context, workers, view, size, colours);
  paintAxis(context, view, size, colours, perSecond);
}

/** A lane is one row of pixels, drawn once and copied down: faster than a rectangle for each bar. */
class Painter {
  private readonly image: ImageData;
  private readonly pixels: Uint32Array;
  private readonly fills: number[];
  private readonly labels: { bar: number; x: number; y: number; room: number }[] = [];

  constructor(
    private readonly bars: Bars,
    private readonly view: View,
    private readonly size: Size,
    private readonly colours: Colours,
    private readonly now: number,
    private readonly scale: number,
  ) {
    this.image = new ImageData(Math.max(1, Math.round(size.width * scale)), Math.max(1, Math.round(size.height * scale)));
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.pixels.fill(pixelOf(colours.surface));
    this.fills = colours.fills.map(pixelOf);
  }

  addLane(lane: Lane, y: number): void {
    const { bars, view, now, scale, pixels } = this;
    const { width, height } = this.image;
    const [left, top] = [this.size.names * scale, AXIS_PX * scale];
    const perSecond = (width - left) / (view.to - view.from);
    const high = Math.round((this.size.lane - (this.size.lane >= 5 ? 1 : 0)) * scale);
    const begin = Math.round(y * scale);
    const first = Math.max(begin, top);
    const last = Math.min(begin + high, height);
    if (first >= last) return;
    const row = first * width;
    let place = firstEndingAfter(bars, lane, view.from);
    while (place < lane.bars.length) {
      const bar = lane.bars[place]!;
      const start = bars.start[bar]!;
      if (start > view.to) break;
      const x = left + (start - view.from) * perSecond;
      const end = left + (Math.min(bars.end[bar]!, now) - view.from) * perSecond;
      const fill = this.fills[this.colours.ofBar(bar)]!;
      const from = Math.max(Math.floor(x), left);
      if (end - x < 1.5) {
        if (from < width) pixels[row + from] = fill;
        // All others that begin in this pixel are beneath it.
        place = firstStartingAt(bars, lane, view.from + (Math.floor(x) + 1 - left) / perSecond, place + 1);
        continue;
      }
      const to = Math.min(Math.round(end), width);
      // A pixel between a bar and the next tells them apart.
      const wide = to - from > 3 * scale && to < width ? to - from - Math.round(scale) : Math.max(1, to - from);
      if (from < width) pixels.fill(fill, row + from, row + Math.min(width, from + wide));
      if (wide >= NAME_LEAST_PX * scale && this.size.lane >= NAME_LANE_PX) {
        this.labels.push({ bar, x: from / scale, y, room: wide / scale - 8 });
      }
      place += 1;
    }
    for (let down = first + 1; down < last; down += 1) pixels.copyWithin(down * width + left, row + left, row + width);
  }

  put(context: CanvasRenderingContext2D): void {
    context.putImageData(this.image, 0, 0);
  }

  putLabels(context: CanvasRenderingContext2D): void {
    const high = this.size.lane - 1;
    context.fillStyle = this.colours.onFill;
    context.textAlign = "left";
    for (const { bar, x, y, room } of this.labels) {
      const job = this.bars.jobOf(bar);
      // About six pixels a sign: measuring each would take longer than all the rest.
      const text = `${job.job_id} ${job.name}`.slice(0, Math.floor(room / 6));
      context.fillText(text, x + 4, y + high / 2 + 0.5, room);
    }
  }
}

/** `#rrggbb` as it is in the memory of a little-endian machine, which all are that browsers run on. */
function pixelOf(text: string): number {
  const value = Number.parseInt(text.slice(1), 16);
  return (0xff000000 | ((value & 0xff) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

function paintAxis(context: CanvasRenderingContext2D, view: View, size: Size, colours: Colours, perSecond: number): void {
  const step = STEPS.find((each) => each * perSecond >= TICK_LEAST_PX) ?? STEPS.at(-1)!;
  // Days begin at midnight here, not in Greenwich.
  const offset = step >= 3600 ? new Date(view.from * 1000).getTimezoneOffset() * 60 : 0;
  context.textAlign = "left";
  context.fillStyle = colours.surface;
  context.fillRect(0, 0, size.width, AXIS_PX);
  for (let time = Math.ceil((view.from - offset) / step) * step + offset; time <= view.to; time += step) {
    const x = Math.round(size.names + (time - view.from) * perSecond);
    context.fillStyle = colours.line;
    if (x >= size.names) context.fillRect(x, AXIS_PX - 6, 1, 6);
    context.fillStyle = colours.muted;
    if (x >= size.names) context.fillText(tickText(time, step), x + 4, AXIS_PX / 2);
  }
  context.fillStyle = colours.line;
  context.fillRect(0, AXIS_PX - 1, size.width, 1);
}

function tickText(time: number, step: number): string {
  const date = new Date(Math.round(time * 1000));
  const two = (value: number) => String(value).padStart(2, "0");
  if (step >= 86400) return `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`;
  if (step >= 3600 && date.getHours() === 0) return `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  if (step >= 60) return minutes;
  const seconds = `${minutes}:${two(date.getSeconds())}`;
  return step >= 1 ? seconds : `${seconds}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

function paintNames(
  context: CanvasRenderingContext2D,
  workers: readonly WorkerLanes[],
  view: View,
  size: Size,
  colours: Colours,
): void {
  context.fillStyle = colours.surface;
  context.fillRect(0, AXIS_PX, size.names, size.height);
  context.save();
  context.beginPath();
  context.rect(0, AXIS_PX, size.width, size.height - AXIS_PX);
  context.clip();
  context.textAlign = "left";
  let y = AXIS_PX - view.top;
  for (const worker of workers) {
    const high = worker.lanes.length * size.lane + GAP_PX;
    if (y + high > AXIS_PX && y < size.height) {
      context.fillStyle = colours.text;
      // A worker that is partly in sight keeps its name there.
      const text = Math.min(Math.max(y, AXIS_PX), y + high - 16) + 8;
      context.fillText(worker.name, 6, text, size.names - 12);
      context.fillStyle = colours.line;
      context.fillRect(0, y + high - GAP_PX / 2, size.width, 1);
    }
    y += high;
  }
  context.fillStyle = colours.line;
  context.fillRect(size.names - 1, AXIS_PX, 1, size.height);
  context.restore();
}
