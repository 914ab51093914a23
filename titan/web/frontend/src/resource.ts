// What a page fetches: again when its address changes, when the stream says that something may have
// been missed, or when it is asked to; while that is under way the old is shown.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get, session } from "./api";
import { epoch, openedAt } from "./live";
import { at } from "./location";

export interface Resource<T> {
  data: T | null;
  error: ApiError | null;
  isLoading: boolean;
  reload: () => void;
}

const RETRY_MS = 2_000;

/** Fetches `address`, nothing while it is null. Data of another `key` is not shown meanwhile. */
export function useResource<T>(address: string | null, key = ""): Resource<T> {
  const [state, setState] = useState<{ key: string; data: T | null; error: ApiError | null; isLoading: boolean }>({
    key,
    data: null,
    error: null,
    isLoading: true,
  });
  const [asked, setAsked] = useState(0);
  const lsn = useRef(0);
  const reload = useCallback(() => setAsked((value) => value + 1), []);
  const grown = epoch.value;

  useEffect(() => {
    if (address === null) {
      setState({ key, data: null, error: null, isLoading: false });
      return undefined;
    }
    const abort = new AbortController();
    let retry: ReturnType<typeof setTimeout> | undefined;
    setState((old) => ({ ...old, isLoading: true }));
    get<T>(address, abort.signal).then(
      (data) => {
        lsn.current = (data as { lsn?: number }).lsn ?? Number.POSITIVE_INFINITY;
        setState({ key, data, error: null, isLoading: false });
      },
      (error: unknown) => {
        if (abort.signal.aborted) return;
        const problem = error instanceof ApiError ? error : new ApiError(0, "BUG", String(error));
        // What was there may be read on while the other side is away.
        setState((old) => ({
          key,
          data: problem.isPassing && old.key === key ? old.data : null,
          error: problem,
          isLoading: false,
        }));
        if (problem.isPassing) retry = setTimeout(reload, RETRY_MS);
      },
    );
    return () => {
      abort.abort();
      clearTimeout(retry);
    };
  }, [address, key, asked, grown, session.value?.csrf]);

  // Changes between the answer and the start of the stream were told by neither.
  const opened = openedAt.value;
  useEffect(() => {
    if (at.peek() === null && lsn.current > 0 && lsn.current < opened) reload();
  }, [opened]);

  const isSame = state.key === key;
  return {
    data: isSame ? state.data : null,
    error: isSame ? state.error : null,
    isLoading: state.isLoading,
    reload,
  };
}

/** A function that calls `action` at once, and again at the end of `ms` if it was called meanwhile. */
export function useThrottled(action: () => void, ms: number): () => void {
  const latest = useRef(action);
  latest.current = action;
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const isDue = useRef(false);
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback(() => {
    if (timer.current !== undefined) {
      isDue.current = true;
      return;
    }
    const wait = () => {
      timer.current = setTimeout(() => {
        timer.current = undefined;
        if (!isDue.current) return;
        isDue.current = false;
        latest.current();
        wait();
      }, ms);
    };
    latest.current();
    wait();
  }, [ms]);
}
