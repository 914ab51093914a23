// A timeline that one can move in: pointer, wheel and keys change the view, and the canvas is drawn
// anew at the next frame.
import { type Bars, firstEndingAfter, layOut, type WorkerLanes } from "./lanes";
import { AXIS_PX, type Colours, GAP_PX, heightOf, paint, type Size, type View } from "./paint";

export interface Hooks {
  onHover: (bar: number | null, x: number, y: number) => void;
  onOpen: (bar: number) => void;
  /** After the view was moved by hand. `isAtEdge`: the live edge is in sight. */
  onView: (view: View, isAtEdge: boolean) => void;
}

const SPAN_LEAST_SECONDS = 0.01;
const LANE_LEAST_PX = 4;
const LANE_MOST_PX = 18;
const ZOOM = 1.35;
const CLICK_PX = 4;

export class Chart {
  private bars: Bars | null = null;
  private workers: WorkerLanes[] = [];
  private view: View = { from: 0, to: 1, top: 0 };
  private size: Size = { width: 600, height: 300, lane: 14, names: 110 };
  private frame = 0;
  private limits = { from: 0, to: 1 };
  private now = 0;
  private readonly pointers = new Map<number, { x: number; y: number }>();
  private moved = 0;
  private readonly context: CanvasRenderingContext2D;
  private readonly observer: ResizeObserver;
  private readonly abort = new AbortController();

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private colours: Colours,
    private readonly hooks: Hooks,
  ) {
    this.context = canvas.getContext("2d", { alpha: false })!;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas.parentElement!);
    this.resize();
    this.listen();
  }

  destroy(): void {
    this.observer.disconnect();
    this.abort.abort();
    cancelAnimationFrame(this.frame);
  }

  /** New bars; returns how long laying them out took, in milliseconds. */
  setBars(bars: Bars): number {
    const began = performance.now();
    this.bars = bars;
    this.workers = layOut(bars);
    this.fitLanes();
    this.redraw();
    return performance.now() - began;
  }

  setColours(colours: Colours): void {
    this.colours = colours;
    this.redraw();
  }

  /** How far one can go, and where what still runs ends; whoever follows goes on with that. */
  setLimits(from: number, to: number, now: number, follows: boolean): void {
    const further = now - this.now;
    if (follows && this.now > 0) this.view = { ...this.view, from: this.view.from + further, to: this.view.to + further };
    this.limits = { from, to };
    this.now = now;
    this.redraw();
  }

  setView(from: number, to: number): void {
    this.view = { ...this.view, from, to };
    this.redraw();
  }

  showAll(): void {
    const { from, to } = this.limits;
    this.move(from, to, 0);
  }

  zoom(factor: number, x = (this.size.width + this.size.names) / 2): void {
    const { from, to } = this.view;
    const time = this.timeAt(x);
    const least = Math.max(SPAN_LEAST_SECONDS, (to - from) * factor);
    const share = (time - from) / (to - from);
    this.move(time - least * share, time + least * (1 - share), this.view.top);
  }

  pan(pixels: number, down = 0): void {
    const { from, to, top } = this.view;
    const seconds = (pixels * (to - from)) / (this.size.width - this.size.names);
    this.move(from + seconds, to + seconds, top + down);
  }

  private move(from: number, to: number, top: number): void {
    const all = this.limits.to - this.limits.from;
    const span = Math.min(to - from, all * 1.1);
    // A little beyond the ends, so that one sees that they are ends.
    const left = Math.max(this.limits.from - all * 0.05, Math.min(from, this.limits.to + all * 0.05 - span));
    const hidden = Math.max(0, heightOf(this.workers, this.size.lane) - this.size.height);
    this.view = { from: left, to: left + span, top: Math.max(0, Math.min(hidden, top)) };
    this.hooks.onView(this.view, this.view.to >= this.now && this.view.from <= this.now);
    this.redraw();
  }

  private redraw(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.bars) return;
      const scale = window.devicePixelRatio || 1;
      paint(this.context, this.bars, this.workers, this.view, this.size, this.colours, this.now, scale);
    });
  }

  private resize(): void {
    const { clientWidth, clientHeight } = this.canvas.parentElement!;
    const scale = window.devicePixelRatio || 1;
    this.size = { ...this.size, width: clientWidth, height: clientHeight, names: clientWidth < 500 ? 64 : 110 };
    this.canvas.width = Math.max(1, Math.round(clientWidth * scale));
    this.canvas.height = Math.max(1, Math.round(clientHeight * scale));
    this.fitLanes();
    this.redraw();
  }

  private fitLanes(): void {
    const lanes = this.workers.reduce((sum, each) => sum + each.lanes.length, 0);
    const room = this.size.height - AXIS_PX - this.workers.length * GAP_PX;
    this.size.lane = Math.max(LANE_LEAST_PX, Math.min(LANE_MOST_PX, Math.floor(room / Math.max(1, lanes))));
  }

  private timeAt(x: number): number {
    const { from, to } = this.view;
    return from + ((x - this.size.names) * (to - from)) / (this.size.width - this.size.names);
  }

  private barAt(x: number, y: number): number | null {
    const { bars } = this;
    if (!bars || x < this.size.names || y < AXIS_PX) return null;
    let top = AXIS_PX - this.view.top;
    for (const worker of this.workers) {
      const lane = worker.lanes[Math.floor((y - top) / this.size.lane)];
      if (y >= top && lane) {
        const perPixel = (this.view.to - this.view.from) / (this.size.width - this.size.names);
        const time = this.timeAt(x);
        const bar = lane.bars[firstEndingAfter(bars, lane, time - perPixel)];
        const isHit = bar !== undefined && bars.start[bar]! <= time + perPixel && time <= Math.min(bars.end[bar]!, this.now) + perPixel;
        return isHit ? bar : null;
      }
      top += worker.lanes.length * this.size.lane + GAP_PX;
    }
    return null;
  }

  private listen(): void {
    const how = { signal: this.abort.signal };
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      if (this.pointers.size === 1) this.moved = 0;
    }, how);
    canvas.addEventListener("pointermove", (event) => this.onMove(event), how);
    for (const name of ["pointerup", "pointercancel"] as const) {
      canvas.addEventListener(name, (event) => {
        const wasDown = this.pointers.delete(event.pointerId);
        if (name !== "pointerup" || !wasDown || this.pointers.size > 0 || this.moved > CLICK_PX) return;
        const bar = this.barAt(event.offsetX, event.offsetY);
        if (bar !== null) this.hooks.onOpen(bar);
      }, how);
    }
    canvas.addEventListener("pointerleave", () => this.hooks.onHover(null, 0, 0), how);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.shiftKey) this.pan(0, event.deltaY || event.deltaX);
      else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan(event.deltaX);
      else this.zoom(ZOOM ** Math.sign(event.deltaY), event.offsetX);
    }, { ...how, passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = this.size.width / 8;
      const keys: Record<string, () => void> = {
        "+": () => this.zoom(1 / ZOOM),
        "=": () => this.zoom(1 / ZOOM),
        "-": () => this.zoom(ZOOM),
        "0": () => this.showAll(),
        ArrowLeft: () => this.pan(-step),
        ArrowRight: () => this.pan(step),
        ArrowUp: () => this.pan(0, -40),
        ArrowDown: () => this.pan(0, 40),
      };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const action = keys[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    }, how);
  }

  private onMove(event: PointerEvent): void {
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.hooks.onHover(this.barAt(event.offsetX, event.offsetY), event.offsetX, event.offsetY);
      return;
    }
    const here = { x: event.offsetX, y: event.offsetY };
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, here);
    this.moved += Math.abs(here.x - before.x) + Math.abs(here.y - before.y);
    if (this.moved <= CLICK_PX) return;
    this.hooks.onHover(null, 0, 0);
    if (other) {
      // Two fingers: what is between them stays there.
      const [was, is] = [Math.abs(before.x - other.x), Math.abs(here.x - other.x)];
      if (was > 8 && is > 8) this.zoom(was / is, (here.x + other.x) / 2);
    } else this.pan(before.x - here.x, before.y - here.y);
  }
}
