// What happens now, as the server sends it. One stream serves the whole page: its ids are positions
// in the manager's log, with which it goes on after an interruption without missing anything.
import { effect, signal } from "@preact/signals";
import { loadSession, PREFIX, session } from "./api";
import { at } from "./location";
import type { Job, Stats, Worker } from "./types";

export type Contact =
  | { kind: "live" }
  | { kind: "connecting"; since: number }
  | { kind: "manager-away"; since: number; error: string }
  | { kind: "paused" };

export const contact = signal<Contact>({ kind: "connecting", since: Date.now() / 1000 });
export const stats = signal<Stats | null>(null);
export const workers = signal<Worker[] | null>(null);
/** Grows when what was fetched may have missed something and is to be fetched anew. */
export const epoch = signal(0);
/** The position at which the stream was opened: what was fetched before may be older. */
export const openedAt = signal(0);
/** Seconds that the server's clock is ahead of this one. */
export const clockAhead = signal(0);

/** Whether nobody has seen this page for a while: then it asks for nothing. A browser opens no more
 * than six connections to a server at once, for all its tabs together. */
export const isAway = signal(false);

const AWAY_MS = 10_000;
const RECENT_MAX = 20_000;
const RETRY_MS = 2_000;
const recent = new Map<number, { lsn: number; job: Job }>();
const listeners = new Set<(jobs: Job[], lsn: number) => void>();
let source: EventSource | null = null;
let lastId: string | null = null;
let retry: ReturnType<typeof setTimeout> | undefined;

/** Calls with the jobs that have changed, as they are then. Returns what ends that. */
export function onJobs(listener: (jobs: Job[], lsn: number) => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Jobs that changed after that position, in whatever order; for what was fetched meanwhile. */
export function changedAfter(lsn: number): Job[] {
  return [...recent.values()].filter((each) => each.lsn > lsn).map((each) => each.job);
}

/** Opens the stream while somebody is logged in and looks at now. */
export function startLive(): void {
  let leaving: ReturnType<typeof setTimeout> | undefined;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(leaving);
    if (document.hidden) leaving = setTimeout(() => (isAway.value = true), AWAY_MS);
    else isAway.value = false;
  });
  effect(() => {
    const wanted = Boolean(session.value) && at.value === null && !isAway.value;
    if (wanted) open();
    else close(session.value ? { kind: "paused" } : { kind: "connecting", since: Date.now() / 1000 });
  });
}

function open(): void {
  if (source) return;
  clearTimeout(retry);
  const away = contact.peek();
  if (away.kind !== "connecting") contact.value = { kind: "connecting", since: Date.now() / 1000 };
  const stream = new EventSource(`${PREFIX}/events${lastId ? `?after=${encodeURIComponent(lastId)}` : ""}`);
  source = stream;
  stream.addEventListener("open", () => (contact.value = { kind: "live" }));
  stream.addEventListener("hello", (event) => {
    remember(event);
    openedAt.value = JSON.parse(event.data).lsn;
  });
  stream.addEventListener("jobs", (event) => {
    remember(event);
    const { lsn, jobs } = JSON.parse(event.data) as { lsn: number; jobs: Job[] };
    for (const job of jobs) {
      recent.delete(job.job_id);
      recent.set(job.job_id, { lsn, job });
    }
    forgetOldest();
    for (const listener of [...listeners]) listener(jobs, lsn);
  });
  stream.addEventListener("cluster", (event) => {
    const body = JSON.parse(event.data) as { stats: Stats; workers: Worker[] };
    if (body.stats?.time) clockAhead.value = body.stats.time - Date.now() / 1000;
    if (body.stats) stats.value = body.stats;
    if (body.workers) workers.value = body.workers;
  });
  stream.addEventListener("manager", (event) => {
    const { reachable, error } = JSON.parse(event.data) as { reachable: boolean; error: string | null };
    const was = contact.peek();
    if (!reachable) {
      const since = was.kind === "manager-away" ? was.since : Date.now() / 1000;
      contact.value = { kind: "manager-away", since, error: error ?? "The manager does not answer." };
    } else {
      contact.value = { kind: "live" };
      // What failed meanwhile is asked for again.
      if (was.kind === "manager-away") epoch.value += 1;
    }
  });
  stream.addEventListener("reset", () => {
    lastId = null;
    recent.clear();
    epoch.value += 1;
  });
  stream.addEventListener("error", () => {
    if (source !== stream) return;
    if (contact.peek().kind !== "connecting") contact.value = { kind: "connecting", since: Date.now() / 1000 };
    // By itself the browser goes on only after a broken connection, not after a refusal.
    if (stream.readyState !== EventSource.CLOSED) return;
    source = null;
    retry = setTimeout(open, RETRY_MS);
    // It does not tell why it was refused; that nobody is logged in any more is seen by this.
    void loadSession().catch(() => undefined);
  });
}

function close(now: Contact): void {
  clearTimeout(retry);
  source?.close();
  source = null;
  contact.value = now;
}

function remember(event: MessageEvent): void {
  if (event.lastEventId) lastId = event.lastEventId;
}

function forgetOldest(): void {
  for (const key of recent.keys()) {
    if (recent.size <= RECENT_MAX) return;
    recent.delete(key);
  }
}
