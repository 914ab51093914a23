// What ran where and when: a bar for each attempt, in lanes of workers.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ApiError, get, url } from "../api";
import { count, duration, exactly, now } from "../format";
import { Chart } from "../gantt/chart";
import { Bars } from "../gantt/lanes";
import type { Colours } from "../gantt/paint";
import { epoch, onJobs } from "../live";
import { at, change, go, link, place } from "../location";
import { useTitle } from "../parts/page";
import { SettledInput } from "../parts/settled";
import { Problem } from "../parts/small";
import { PastNotice } from "../parts/timebar";
import { colour, repaint } from "../theme";
import type { Timeline } from "../types";

const RANGES: readonly [name: string, text: string, seconds: number][] = [
  ["5m", "5 minutes", 300],
  ["1h", "hour", 3_600],
  ["6h", "6 hours", 21_600],
  ["1d", "day", 86_400],
  ["7d", "week", 604_800],
  ["30d", "30 days", 2_592_000],
];
const LIMIT = 300_000;
const REFRESH_LEAST_MS = 1_000;
// Large pictures are fetched so seldom that it takes a small part of the time.
const REFRESH_SHARE = 20;
const EDGE_MS = 500;
const URL_SETTLE_MS = 400;
const PALETTE = 12;

const STATES_OF_BARS: Record<string, string> = {
  S: "SCHEDULED",
  R: "RUNNING",
  C: "COMPLETED",
  F: "FAILED",
  X: "CANCELLED",
  L: "LOST",
  P: "RECALLED",
  U: "UNKNOWN",
};
const LETTERS = Object.keys(STATES_OF_BARS);

type By = "state" | "job" | "user";

export function TimelinePage() {
  const query = place.value.query;
  const range = RANGES.find(([name]) => name === query.get("range")) ?? RANGES[1]!;
  const by = (["state", "job", "user"].find((each) => each === query.get("by")) ?? "state") as By;
  const [worker, user] = [query.get("worker") ?? "", query.get("user") ?? ""];
  const { bars, error, more, limits } = useBars(range[2], worker, user);
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const chart = useRef<Chart | null>(null);
  const shownBars = useRef<Bars | null>(null);
  const follows = useRef(query.get("from") === null);
  const settle = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const [hover, setHover] = useState<{ bar: number; x: number; y: number } | null>(null);
  useTitle("Timeline");

  const painted = repaint.value;
  const colours = useMemo(() => coloursOf(by, bars), [by, bars, painted]);
  useEffect(() => {
    const made = new Chart(canvas.current!, coloursOf(by, null), {
      onHover: (bar, x, y) => setHover(bar === null ? null : { bar, x, y }),
      onOpen: (bar) => {
        const { job_id } = shownBars.current!.jobOf(bar);
        go(link(`/jobs/${job_id}`, { task: shownBars.current!.index[bar] || null }));
      },
      onView: ({ from, to }, isAtEdge) => {
        follows.current = isAtEdge && at.peek() === null;
        setHover(null);
        clearTimeout(settle.current);
        const part = follows.current ? { from: null, to: null } : { from: from.toFixed(3), to: to.toFixed(3) };
        settle.current = setTimeout(() => change(part), URL_SETTLE_MS);
      },
    });
    chart.current = made;
    return () => {
      clearTimeout(settle.current);
      made.destroy();
      chart.current = null;
    };
  }, []);
  // A link shows the part that was seen; another range or filter begins with all of it.
  const view = useRef<{ from: number; to: number } | null>(given(query));
  useEffect(() => {
    if (!limits || !chart.current) return;
    chart.current.setLimits(limits.from, limits.to, limits.to, false);
    const { from, to } = view.current ?? limits;
    chart.current.setView(from, to);
    view.current = null;
  }, [limits?.key]);
  useEffect(() => {
    if (!bars || !chart.current) return;
    shownBars.current = bars;
    chart.current.setColours(colours);
    chart.current.setBars(bars);
  }, [bars, colours]);

  // The edge moves on also while nothing new has come.
  useEffect(() => {
    if (at.value !== null || !limits) return undefined;
    const timer = setInterval(() => {
      const edge = Math.max(limits.to, now.peek());
      chart.current?.setLimits(edge - range[2], edge, edge, follows.current);
    }, EDGE_MS);
    return () => clearInterval(timer);
  }, [limits?.key, at.value]);

  const showAll = () => {
    clearTimeout(settle.current);
    follows.current = true;
    chart.current?.showAll();
    clearTimeout(settle.current);
    change({ from: null, to: null });
  };
  return (
    <div class="fill">
      <h1 class="hidden">Timeline</h1>
      <PastNotice time={null} lsn={undefined} />
      <Problem error={error} />
      <div class="toolbar">
        <label class="inline">
          The last{" "}
          <select
            value={range[0]}
            onChange={(event) => {
              view.current = null;
              follows.current = true;
              change({ range: event.currentTarget.value, from: null, to: null });
            }}
          >
            {RANGES.map(([name, text]) => (
              <option key={name} value={name}>
                {text}
              </option>
            ))}
          </select>
        </label>
        <label class="inline">
          Colour by{" "}
          <select value={by} onChange={(event) => change({ by: event.currentTarget.value })}>
            <option value="state">state</option>
            <option value="job">job</option>
            <option value="user">user</option>
          </select>
        </label>
        <SettledInput label="Worker, exactly" placeholder="Worker  /" value={worker} isFilter onSettle={(value) => change({ worker: value })} />
        <SettledInput label="User, exactly" placeholder="User" value={user} onSettle={(value) => change({ user: value })} />
        <Legend by={by} bars={bars} colours={colours} />
        <span class="toolbar-space" />
        <span class="fine" role="status" data-bars={bars?.size ?? ""}>
          {bars ? `${count(bars.size)} attempts${more ? ", and more: choose a shorter time" : ""}` : error ? "" : "Loading…"}
        </span>
        <button type="button" aria-label="Zoom in" onClick={() => chart.current?.zoom(0.6)}>
          +
        </button>
        <button type="button" aria-label="Zoom out" onClick={() => chart.current?.zoom(1.7)}>
          −
        </button>
        <button type="button" onClick={showAll}>
          All
        </button>
      </div>
      <div class="chart" ref={box}>
        <canvas
          ref={canvas}
          tabIndex={0}
          role="application"
          aria-roledescription="timeline"
          aria-label={`Timeline of ${count(bars?.size ?? 0)} attempts on ${count(bars?.workers.length ?? 0)} workers. Plus and minus zoom, arrows move, 0 shows all.`}
        />
        {bars && bars.size === 0 ? <p class="chart-empty">Nothing ran in this time.</p> : null}
        {hover && bars && hover.bar < bars.size ? <Tip bars={bars} {...hover} wide={box.current?.clientWidth ?? 800} /> : null}
      </div>
    </div>
  );
}

function given(query: URLSearchParams): { from: number; to: number } | null {
  const [from, to] = [Number(query.get("from") ?? Number.NaN), Number(query.get("to") ?? Number.NaN)];
  return Number.isFinite(from) && Number.isFinite(to) && to > from ? { from, to } : null;
}

interface Loaded {
  bars: Bars | null;
  error: ApiError | null;
  more: boolean;
  /** What is covered; `key` is another one when another time was asked for, not when it moves on. */
  limits: { from: number; to: number; key: string } | null;
}

function useBars(seconds: number, worker: string, user: string): Loaded {
  const past = at.value;
  const key = `${seconds} ${worker} ${user} ${past}`;
  const [loaded, setLoaded] = useState<Loaded>({ bars: null, error: null, more: false, limits: null });
  const grown = epoch.value;
  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isLoading = false;
    let isDue = false;
    const load = async () => {
      if (isLoading || timer !== undefined) {
        isDue = true;
        return;
      }
      isLoading = true;
      isDue = false;
      const began = performance.now();
      try {
        const until = past === null || past.startsWith("lsn:") ? now.peek() : Number(past);
        const found = await get<Timeline>(
          url("/timeline", { since: until - seconds, until: past === null ? null : until, limit: LIMIT, worker, user }),
          abort.signal,
        );
        const bars = new Bars(found.workers, found.users, found.jobs, found.bars, found.since);
        setLoaded({ bars, error: null, more: found.more, limits: { from: until - seconds, to: until, key } });
      } catch (problem) {
        if (abort.signal.aborted) return;
        const error = problem instanceof ApiError ? problem : new ApiError(0, "BUG", String(problem));
        setLoaded((old) => ({ ...old, bars: error.isPassing ? old.bars : null, error }));
        isDue = error.isPassing;
      }
      isLoading = false;
      const pause = Math.max(REFRESH_LEAST_MS, REFRESH_SHARE * (performance.now() - began));
      timer = setTimeout(() => {
        timer = undefined;
        if (isDue) void load();
      }, pause);
    };
    void load();
    const end = onJobs(() => void load());
    return () => {
      end();
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, grown]);
  return loaded;
}

function coloursOf(by: By, bars: Bars | null): Colours {
  const palette = Array.from({ length: PALETTE }, (_, place) => colour(`--palette-${place}`));
  const states = LETTERS.map((letter) => colour(`--fill-${STATES_OF_BARS[letter]!.toLowerCase()}`));
  const ofBar: Record<By, (bar: number) => number> = {
    state: (bar) => Math.max(0, LETTERS.indexOf(bars!.state[bar]!)),
    job: (bar) => bars!.jobOf(bar).job_id % PALETTE,
    user: (bar) => bars!.jobOf(bar).user % PALETTE,
  };
  return {
    fills: by === "state" ? states : palette,
    ofBar: ofBar[by],
    text: colour("--text"),
    muted: colour("--muted"),
    line: colour("--line"),
    surface: colour("--surface"),
    onFill: colour("--on-fill"),
    now: colour("--accent"),
  };
}

const LEGEND_MAX = 8;

function Legend({ by, bars, colours }: { by: By; bars: Bars | null; colours: Colours }) {
  if (by === "job") return <span class="fine">a colour for each job</span>;
  const entries =
    by === "state"
      ? LETTERS.map((letter, place): [string, number] => [STATES_OF_BARS[letter]!, place]).filter(([, place]) => bars?.state.includes(LETTERS[place]!))
      : (bars?.users ?? []).map((name, place): [string, number] => [name, place % PALETTE]);
  return (
    <ul class="legend" aria-label="Colours">
      {entries.slice(0, LEGEND_MAX).map(([name, fill]) => (
        <li key={name}>
          <span class="swatch" aria-hidden="true" style={{ background: colours.fills[fill]! }} />
          {name}
        </li>
      ))}
      {entries.length > LEGEND_MAX ? <li>and {entries.length - LEGEND_MAX} more</li> : null}
    </ul>
  );
}

function Tip({ bars, bar, x, y, wide }: { bars: Bars; bar: number; x: number; y: number; wide: number }) {
  const job = bars.jobOf(bar);
  const [start, end] = [bars.start[bar]!, bars.end[bar]!];
  const runs = !Number.isFinite(end);
  return (
    <div class="tip" style={{ left: `${Math.max(4, Math.min(x + 12, wide - 250))}px`, top: `${y + 14}px` }}>
      <strong>
        {job.job_id}.{bars.index[bar]} {job.name}
      </strong>
      <br />
      {STATES_OF_BARS[bars.state[bar]!] ?? bars.state[bar]}, attempt {bars.attempt[bar]}, {bars.users[job.user]}, on {bars.workers[bars.worker[bar]!]}
      <br />
      {exactly(start)}
      <br />
      {runs ? `runs since ${duration(now.peek() - start)}` : `ran ${duration(end - start)}`}
    </div>
  );
}
