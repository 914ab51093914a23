// The jobs that a filter lets through: loaded a page at a time, the newest first, and kept as they
// are now by what the stream says.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get, url } from "./api";
import { changedAfter, epoch, onJobs, openedAt } from "./live";
import { at } from "./location";
import type { Dated, Job } from "./types";

export interface Wanted {
  states: string[];
  user: string;
  name: string;
}

export interface JobList {
  jobs: Job[];
  /** Whether the server has older ones. */
  hasMore: boolean;
  isLoading: boolean;
  error: ApiError | null;
  atTime: number | null | undefined;
  lsn: number;
  loadMore: () => void;
}

type Page = Dated & { jobs: Job[]; more: boolean };

const PAGE = 1_000;
const RETRY_MS = 2_000;
// Changes so close to each other are shown at once: a long list is sorted for each.
const TOGETHER_MS = 100;

class Loaded {
  readonly jobs = new Map<number, Job>();
  lsn = 0;
  hasMore = true;
  oldest = Number.POSITIVE_INFINITY;

  constructor(readonly wanted: Wanted) {}

  private fits(job: Job): boolean {
    const { states, user, name } = this.wanted;
    return (states.length === 0 || states.includes(job.state)) && (!user || job.user === user) && (!name || job.name === name);
  }

  /** A page; what changed while it was on its way is newer than it. */
  add(page: Page): void {
    if (this.lsn === 0) this.lsn = page.lsn;
    for (const job of page.jobs) {
      this.jobs.set(job.job_id, job);
      this.oldest = Math.min(this.oldest, job.job_id);
    }
    this.hasMore = page.more;
    if (!this.hasMore) this.oldest = 0;
    if (at.peek() === null) this.update(changedAfter(page.lsn));
  }

  update(jobs: readonly Job[]): boolean {
    let isChanged = false;
    for (const job of jobs) {
      // Older ones than those that are loaded come with their page.
      if (job.job_id < this.oldest && !this.jobs.has(job.job_id)) continue;
      if (this.fits(job)) this.jobs.set(job.job_id, job);
      else if (!this.jobs.delete(job.job_id)) continue;
      isChanged = true;
    }
    return isChanged;
  }
}

export function useJobList(wanted: Wanted): JobList {
  const key = JSON.stringify([wanted, at.value]);
  const loaded = useRef(new Loaded(wanted));
  const loading = useRef<AbortController | null>(null);
  const retry = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const [state, setState] = useState<{ jobs: Job[]; isLoading: boolean; error: ApiError | null; atTime?: number | null | undefined }>({
    jobs: [],
    isLoading: true,
    error: null,
  });
  const grown = epoch.value;
  const opened = openedAt.value;

  const load = useCallback((into: Loaded) => {
    if (loading.current) return;
    const abort = new AbortController();
    loading.current = abort;
    setState((old) => ({ ...old, isLoading: true }));
    const { states, user, name } = into.wanted;
    const before = Number.isFinite(into.oldest) ? into.oldest : null;
    get<Page>(url("/jobs", { all: 1, limit: PAGE, state: states, user, name, before, at: at.peek() }), abort.signal).then(
      (page) => {
        loading.current = null;
        into.add(page);
        loaded.current = into;
        setState({ jobs: [...into.jobs.values()], isLoading: false, error: null, atTime: page.at_time });
      },
      (error: unknown) => {
        if (abort.signal.aborted) return;
        loading.current = null;
        const problem = error instanceof ApiError ? error : new ApiError(0, "BUG", String(error));
        setState((old) => ({ ...old, jobs: problem.isPassing ? old.jobs : [], isLoading: false, error: problem }));
        if (problem.isPassing) retry.current = setTimeout(() => load(into), RETRY_MS);
      },
    );
  }, []);

  const restart = () => {
    loading.current?.abort();
    loading.current = null;
    clearTimeout(retry.current);
    load(new Loaded(wanted));
  };
  useEffect(() => {
    restart();
    return () => {
      loading.current?.abort();
      loading.current = null;
      clearTimeout(retry.current);
    };
  }, [key, grown]);
  useEffect(() => {
    if (at.peek() === null && loaded.current.lsn > 0 && loaded.current.lsn < opened) restart();
  }, [opened]);

  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const end = onJobs((jobs) => {
      if (!loaded.current.update(jobs) || timer !== undefined) return;
      timer = setTimeout(() => {
        timer = undefined;
        setState((old) => ({ ...old, jobs: [...loaded.current.jobs.values()] }));
      }, TOGETHER_MS);
    });
    return () => {
      end();
      clearTimeout(timer);
    };
  }, []);

  return {
    ...state,
    atTime: state.atTime,
    hasMore: loaded.current.hasMore,
    lsn: loaded.current.lsn,
    loadMore: () => {
      if (loaded.current.hasMore && !state.error && loaded.current.lsn > 0) load(loaded.current);
    },
  };
}
