// The tasks of an array as a grid of small squares, one for each, however many there are: drawn on a
// canvas. A square that is large enough carries the first letter of its state.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError, get, url } from "../api";
import { Indexes } from "../indexes";
import { at } from "../location";
import { useThrottled } from "../resource";
import { colour, repaint } from "../theme";
import { type Dated, type Job, sizeOf } from "../types";
import { Problem } from "./small";

type Part = Dated & { total: number; first: number; array: string | null; states: string };

const CHUNK = 100_000;
// Beyond that squares would be too small to be hit; the rest is reached by its page.
const PAGE = 100_000;
const REFRESH_MS = 1_000;
const LARGE = 20_000;
const LARGE_REFRESH_MS = 5_000;
export const LETTERS: Record<string, string> = {
  P: "PENDING",
  S: "SCHEDULED",
  R: "RUNNING",
  C: "COMPLETED",
  F: "FAILED",
  X: "CANCELLED",
};

interface Properties {
  job: Job;
  changes: number;
  chosen: number | null;
  onChoose: (index: number) => void;
}

export function TaskGrid({ job, changes, chosen, onChoose }: Properties) {
  const [page, setPage] = useState(0);
  const [states, setStates] = useState("");
  const [total, setTotal] = useState(0);
  const [error, setError] = useState<ApiError | null>(null);
  const [cursor, setCursor] = useState<number | null>(null);
  const [width, setWidth] = useState(800);
  const canvas = useRef<HTMLCanvasElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const indexes = new Indexes(job.array);
  const past = at.value;

  const [asked, setAsked] = useState(0);
  const ask = useThrottled(() => setAsked((value) => value + 1), sizeOf(job) > LARGE ? LARGE_REFRESH_MS : REFRESH_MS);
  useEffect(() => {
    if (changes > 0) ask();
  }, [changes]);

  useEffect(() => {
    const abort = new AbortController();
    get<Part>(url(`/jobs/${job.job_id}/tasks`, { first: page * PAGE, count: CHUNK, at: past }), abort.signal).then(
      (part) => {
        setStates(part.states);
        setTotal(part.total);
        setError(null);
      },
      (problem: unknown) => {
        if (!abort.signal.aborted) setError(problem as ApiError);
      },
    );
    return () => abort.abort();
  }, [job.job_id, past, asked, page]);

  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    if (box.current) observer.observe(box.current);
    return () => observer.disconnect();
  }, []);

  const size = states.length;
  const cell = size <= 600 ? 18 : size <= 3_000 ? 12 : size <= 20_000 ? 7 : 4;
  const across = Math.max(1, Math.floor(width / cell));
  const down = Math.ceil(size / across);
  const chosenPlace = chosen === null ? -1 : indexes.placeOf(chosen) - page * PAGE;
  const colours = repaint.value;

  useLayoutEffect(() => {
    const element = canvas.current;
    if (!element || size === 0) return;
    draw(element, states, { cell, across, down, chosen: chosenPlace, cursor });
  }, [states, cell, across, down, chosenPlace, cursor, colours]);

  const nameOf = (place: number) =>
    `Task ${job.job_id}.${indexes.at(page * PAGE + place)}: ${LETTERS[states[place] ?? ""] ?? "unknown"}`;
  const placeOf = (event: MouseEvent) => {
    const x = Math.floor(event.offsetX / cell);
    const place = Math.floor(event.offsetY / cell) * across + x;
    return x < across && place < size ? place : null;
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across };
    const step = steps[event.key];
    if (step !== undefined) setCursor(Math.max(0, Math.min(size - 1, cursor === null ? 0 : cursor + step)));
    else if (event.key === "Enter" && cursor !== null) onChoose(indexes.at(page * PAGE + cursor));
    else return;
    event.preventDefault();
  };
  const pages = Math.ceil(total / PAGE);
  return (
    <div class="grid-box" ref={box}>
      <Problem error={error} />
      {pages > 1 ? (
        <p>
          <button type="button" disabled={page === 0} onClick={() => setPage(page - 1)}>
            ◀
          </button>{" "}
          {(page * PAGE).toLocaleString("en")} to {Math.min(total, (page + 1) * PAGE).toLocaleString("en")} of {total.toLocaleString("en")}{" "}
          <button type="button" disabled={page + 1 >= pages} onClick={() => setPage(page + 1)}>
            ▶
          </button>
        </p>
      ) : null}
      <div class="grid-scroll">
        <canvas
          ref={canvas}
          tabIndex={0}
          role="application"
          aria-roledescription="grid of tasks"
          aria-label={`${total} tasks. Arrows move, Enter shows a task's attempts.`}
          onMouseMove={(event) => setCursor(placeOf(event))}
          onMouseLeave={() => setCursor(null)}
          onClick={(event) => {
            const place = placeOf(event);
            if (place !== null) onChoose(indexes.at(page * PAGE + place));
          }}
          onKeyDown={onKeyDown}
        />
      </div>
      <p class="fine grid-name" aria-live="polite">
        {cursor !== null && cursor < size ? nameOf(cursor) : "Point at a task for its state; a click shows its attempts."}
      </p>
    </div>
  );
}

interface Layout {
  cell: number;
  across: number;
  down: number;
  chosen: number;
  cursor: number | null;
}

function draw(element: HTMLCanvasElement, states: string, { cell, across, down, chosen, cursor }: Layout): void {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [across * cell, down * cell];
  element.width = Math.round(width * scale);
  element.height = Math.round(height * scale);
  element.style.width = `${width}px`;
  element.style.height = `${height}px`;
  const context = element.getContext("2d");
  if (!context) return;
  context.scale(scale, scale);
  const gap = cell >= 7 ? 1 : cell >= 4 ? 0.5 : 0;
  const hasLetters = cell >= 18;
  context.font = "600 10px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  // All of one colour at a time: changing it is what takes time.
  for (const [letter, state] of Object.entries(LETTERS)) {
    context.fillStyle = colour(`--fill-${state.toLowerCase()}`);
    for (let place = states.indexOf(letter); place >= 0; place = states.indexOf(letter, place + 1)) {
      context.fillRect((place % across) * cell, Math.floor(place / across) * cell, cell - gap, cell - gap);
    }
    if (!hasLetters) continue;
    context.fillStyle = colour("--on-fill");
    for (let place = states.indexOf(letter); place >= 0; place = states.indexOf(letter, place + 1)) {
      context.fillText(letter, (place % across) * cell + (cell - gap) / 2, Math.floor(place / across) * cell + (cell - gap) / 2 + 0.5);
    }
  }
  for (const [place, line] of [[chosen, 3], [cursor ?? -1, 2]] as const) {
    if (place < 0 || place >= states.length) continue;
    context.lineWidth = line;
    context.strokeStyle = colour("--text");
    context.strokeRect((place % across) * cell - 0.5, Math.floor(place / across) * cell - 0.5, cell, cell);
  }
}
