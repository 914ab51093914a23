// The slider at the bottom: now, or any moment that the manager's log still holds.
import { useEffect, useRef, useState } from "preact/hooks";
import { type ApiError, get, session, url } from "../api";
import { clock, duration, exactly, now } from "../format";
import { at, change, place } from "../location";
import type { Moments } from "../types";

const REFRESH_MS = 30_000;
const STEPS = 1_000;
const SETTLE_MS = 120;

export function TimeBar() {
  const moments = useMoments();
  const [dragged, setDragged] = useState<number | null>(null);
  const settle = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const past = at.value;
  const isNow = past === null;
  const first = moments?.first.time ?? now.value - 1;
  const last = Math.max(isNow ? now.value : (moments?.last.time ?? now.value), first + 1);
  const time = dragged ?? pastTime(past, moments) ?? last;
  const position = Math.round(((time - first) / (last - first)) * STEPS);

  const look = (moment: number | null) => {
    clearTimeout(settle.current);
    setDragged(null);
    change({ at: moment === null ? null : withinMs(moment, first, last) }, isNow ? "push" : "replace");
  };
  const drag = (value: number) => {
    const moment = first + (value / STEPS) * (last - first);
    setDragged(moment);
    clearTimeout(settle.current);
    settle.current = setTimeout(() => look(value >= STEPS ? null : moment), SETTLE_MS);
  };
  const step = Math.max(1, (last - first) / 60);
  return (
    <div class={isNow ? "timebar" : "timebar is-past"} role="group" aria-label="Moment that is shown">
      <button type="button" class={isNow ? "pressed" : "primary"} aria-pressed={isNow} onClick={() => look(null)}>
        Now
      </button>
      <button type="button" class="plain" aria-label="Earlier" disabled={!moments} onClick={() => look(time - step)}>
        ◀
      </button>
      <input
        type="range"
        min={0}
        max={STEPS}
        value={Math.min(STEPS, Math.max(0, position))}
        disabled={!moments}
        aria-label="Moment that is shown"
        aria-valuetext={isNow && dragged === null ? "now" : exactly(time)}
        onInput={(event) => drag(Number(event.currentTarget.value))}
      />
      <button type="button" class="plain" aria-label="Later" disabled={!moments || isNow} onClick={() => look(time + step >= last ? null : time + step)}>
        ▶
      </button>
      <input
        class="moment"
        type="datetime-local"
        step={1}
        aria-label="Date and time that are shown"
        disabled={!moments}
        value={localText(time)}
        onChange={(event) => {
          const chosen = new Date(event.currentTarget.value).getTime() / 1000;
          if (Number.isFinite(chosen)) look(chosen);
        }}
      />
      <span class="timebar-range">
        {moments ? `the log holds ${duration(last - first)}, from ${clock(first)}` : ""}
      </span>
    </div>
  );
}

/** What is said above a page that shows the past. */
export function PastNotice({ time, lsn }: { time: number | null | undefined; lsn: number | undefined }) {
  if (at.value === null) return null;
  const shown = time ?? pastTime(at.value, null);
  return (
    <p class="past" role="status">
      <strong>The past: {shown === null ? at.value : exactly(shown)}</strong>
      {lsn ? ` (record ${lsn})` : ""}. Resources are those that were promised, not measured use; nothing here can be
      changed.{" "}
      <button type="button" class="linklike" onClick={() => change({ at: null }, "push")}>
        Back to now
      </button>
    </p>
  );
}

/** To the millisecond, and not by rounding beyond the ends. */
function withinMs(moment: number, first: number, last: number): string {
  const ms = Math.min(Math.floor(last * 1000), Math.max(Math.ceil(first * 1000), Math.round(moment * 1000)));
  return (ms / 1000).toFixed(3);
}

function pastTime(past: string | null, moments: Moments | null): number | null {
  if (past === null) return null;
  if (!past.startsWith("lsn:")) return Number.isFinite(Number(past)) ? Number(past) : null;
  if (!moments) return null;
  // Between the ends, times of records are not known here: they are taken to be evenly spread.
  const { first, last } = moments;
  const share = (Number(past.slice(4)) - first.lsn) / Math.max(1, last.lsn - first.lsn);
  return first.time + share * (last.time - first.time);
}

function localText(time: number): string {
  const shifted = new Date(time * 1000 - new Date(time * 1000).getTimezoneOffset() * 60_000);
  return shifted.toISOString().slice(0, 19);
}

function useMoments(): Moments | null {
  const [moments, setMoments] = useState<Moments | null>(null);
  const user = session.value?.user;
  // Coming from a shared link, or going into the past, the end is asked for anew.
  const isNow = place.value.query.get("at") === null;
  useEffect(() => {
    if (!user) return undefined;
    let isOver = false;
    const ask = () =>
      get<Moments>(url("/moments")).then(
        (found) => isOver || setMoments(found),
        (_: ApiError) => undefined, // the slider is off until the next time
      );
    void ask();
    const timer = setInterval(ask, REFRESH_MS);
    return () => {
      isOver = true;
      clearInterval(timer);
    };
  }, [user, isNow]);
  return moments;
}
