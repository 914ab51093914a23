// All jobs: filtered, sorted, selected, cancelled; and a form for a new one.
import { useMemo, useRef, useState } from "preact/hooks";
import { post } from "../api";
import { age, bytes, clock, count, duration, exactly, now, plural } from "../format";
import { useJobList } from "../joblist";
import { at, change, go, link, place } from "../location";
import { type Column, List } from "../parts/list";
import { useTitle, whyUnchangeable } from "../parts/page";
import { SettledInput } from "../parts/settled";
import { Dialog, Problem, StateMark } from "../parts/small";
import { PastNotice } from "../parts/timebar";
import { ENDED, type Job, sizeOf, STATES } from "../types";
import { SubmitDialog } from "./submit";

const SORTS: Record<string, (job: Job) => number | string> = {
  job: (job) => job.job_id,
  name: (job) => job.name,
  user: (job) => job.user,
  state: (job) => STATES.indexOf(job.state),
  tasks: sizeOf,
  cpus: (job) => job.cpus,
  memory: (job) => job.memory_bytes,
  priority: (job) => job.priority,
  submitted: (job) => job.submit_time ?? 0,
  ran: (job) => ranSeconds(job, now.peek()) ?? -1,
};
const NUMERIC_FIRST = "descending";

export function JobsPage() {
  const query = place.value.query;
  const states = query.getAll("state").flatMap((each) => each.split(","));
  const [user, name] = [query.get("user") ?? "", query.get("name") ?? ""];
  const list = useJobList({ states, user, name });
  const [sort, isUp] = parseSort(query.get("sort"));
  const [selected, setSelected] = useState<ReadonlySet<number>>(new Set());
  const last = useRef<number | null>(null);
  const [dialog, setDialog] = useState<"submit" | "cancel" | null>(null);
  useTitle("Jobs");

  const rows = useMemo(() => sorted(list.jobs, sort, isUp), [list.jobs, sort, isUp]);
  const chosen = list.jobs.filter((job) => selected.has(job.job_id));
  const refusal = whyUnchangeable();
  const select = (job: Job, isRange: boolean) => {
    const next = new Set(selected);
    const [from, to] = [rows.findIndex((each) => each.job_id === last.current), rows.indexOf(job)];
    if (isRange && from >= 0) {
      for (const each of rows.slice(Math.min(from, to), Math.max(from, to) + 1)) next.add(each.job_id);
    } else if (!next.delete(job.job_id)) next.add(job.job_id);
    last.current = job.job_id;
    setSelected(next);
  };
  const toggleState = (state: string) => {
    const next = states.includes(state) ? states.filter((each) => each !== state) : [...states, state];
    change({ state: next.join(",") });
  };
  const columns = COLUMNS.map((column) => ({
    ...column,
    isSorted: column.name in SORTS ? (column.name === sort ? (isUp ? "ascending" : "descending") : "none") : undefined,
  })) as Column<Job>[];
  return (
    <div class="fill">
      <h1 class="hidden">Jobs</h1>
      <PastNotice time={list.atTime} lsn={list.lsn} />
      <Problem error={list.error} />
      <div class="toolbar">
        <div class="chips" role="group" aria-label="States that are shown">
          {STATES.map((state) => (
            <button key={state} type="button" class="chip" aria-pressed={states.includes(state)} onClick={() => toggleState(state)}>
              <StateMark state={state} />
            </button>
          ))}
        </div>
        <SettledInput label="Name, exactly" placeholder="Name  /" value={name} isFilter onSettle={(value) => change({ name: value })} />
        <SettledInput label="User, exactly" placeholder="User" value={user} onSettle={(value) => change({ user: value })} />
        {states.length || user || name ? (
          <button type="button" onClick={() => change({ state: null, user: null, name: null })}>
            All jobs
          </button>
        ) : null}
        <span class="toolbar-space" />
        <span class="fine" role="status">
          {plural(list.jobs.length, "job")}
          {list.hasMore && list.lsn > 0 ? " loaded, older ones follow" : ""}
          {selected.size > 0 ? `, ${count(selected.size)} selected` : ""}
        </span>
        <button type="button" disabled={chosen.length === 0 || refusal !== ""} title={refusal} onClick={() => setDialog("cancel")}>
          Cancel…
        </button>
        <button type="button" class="primary" disabled={refusal !== ""} title={refusal} onClick={() => setDialog("submit")}>
          Submit…
        </button>
      </div>
      <List
        label="Jobs"
        columns={columns}
        rows={rows}
        keyOf={(job) => job.job_id}
        onOpen={(job) => go(link(`/jobs/${job.job_id}`))}
        onSort={(column) => change({ sort: nextSort(column, sort, isUp) })}
        onEnd={list.loadMore}
        selected={selected as ReadonlySet<number | string>}
        onSelect={select}
        onSelectAll={() => setSelected(selected.size >= rows.length ? new Set() : new Set(rows.map((job) => job.job_id)))}
        empty={list.isLoading ? "Loading…" : states.length || user || name ? "No job fits the filter." : "There is no job yet."}
      />
      {dialog === "submit" ? <SubmitDialog onClose={() => setDialog(null)} /> : null}
      {dialog === "cancel" ? (
        <CancelDialog
          jobs={chosen}
          onClose={(isDone) => {
            setDialog(null);
            if (isDone) setSelected(new Set());
          }}
        />
      ) : null}
    </div>
  );
}

const COLUMNS: Omit<Column<Job>, "isSorted">[] = [
  { name: "job", title: "Job", class: "col-job number", value: (job) => <a href={link(`/jobs/${job.job_id}`)} tabIndex={-1}>{job.job_id}</a> },
  { name: "name", title: "Name", class: "col-name", value: (job) => <span title={job.command.join(" ")}>{job.name}</span> },
  { name: "user", title: "User", class: "col-user", value: (job) => job.user },
  { name: "state", title: "State", class: "col-state", value: (job) => <StateMark state={job.state} note={noteOf(job)} /> },
  { name: "tasks", title: "Tasks", class: "col-tasks number", value: tasksOf },
  { name: "cpus", title: "CPUs", class: "col-cpus number", value: (job) => count(job.cpus) },
  { name: "memory", title: "Memory", class: "col-memory number", value: (job) => (job.memory_bytes ? bytes(job.memory_bytes) : "–") },
  { name: "priority", title: "Priority", class: "col-priority number", value: (job) => count(job.priority) },
  { name: "submitted", title: "Submitted", class: "col-time", value: (job) => <span title={exactly(job.submit_time)}>{clock(job.submit_time)}</span> },
  { name: "ran", title: "Ran", class: "col-ran number", value: (job) => <Ran job={job} /> },
  { name: "reason", title: "Why", class: "col-why", value: (job) => <span title={job.detail ?? ""}>{job.waiting_for ?? job.detail ?? (job.state === "COMPLETED" ? "" : job.reason)}</span> },
];

function Ran({ job }: { job: Job }) {
  // Only what runs changes with each second.
  const seconds = ranSeconds(job, job.end_time === null && at.value === null ? now.value : now.peek());
  return <>{seconds === null ? "–" : job.end_time === null ? age(seconds) : duration(seconds)}</>;
}

function ranSeconds(job: Job, time: number): number | null {
  if (job.start_time === null) return null;
  const past = at.peek();
  const until = job.end_time ?? (past === null ? time : Number(past));
  return Number.isFinite(until) ? Math.max(0, until - job.start_time) : null;
}

function tasksOf(job: Job): string {
  const { completed, failed, cancelled } = job.tasks;
  return job.array === null ? "1" : `${count(completed + failed + cancelled)}/${count(sizeOf(job))}`;
}

export function noteOf(job: Job): string {
  if (job.cancel_requested && !ENDED.has(job.state)) return "cancelling";
  if (job.suspended) return "suspended";
  if (job.held) return "held";
  return "";
}

function parseSort(text: string | null): [string, boolean] {
  const [column = "job", way = NUMERIC_FIRST] = (text ?? "").split("-");
  return column in SORTS ? [column, way === "ascending"] : ["job", false];
}

function nextSort(column: string, sort: string, isUp: boolean): string {
  const isText = column === "name" || column === "user" || column === "state";
  const up = column === sort ? !isUp : isText;
  return `${column}-${up ? "ascending" : "descending"}`;
}

function sorted(jobs: readonly Job[], sort: string, isUp: boolean): Job[] {
  const value = SORTS[sort]!;
  const sign = isUp ? 1 : -1;
  return [...jobs].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    // Those that are alike stand with the newest first.
    return a < b ? -sign : a > b ? sign : other.job_id - one.job_id;
  });
}

export function CancelDialog({ jobs, onClose }: { jobs: Job[]; onClose: (isDone: boolean) => void }) {
  const [error, setError] = useState<Error | null>(null);
  const [isBusy, setBusy] = useState(false);
  const alive = jobs.filter((job) => !ENDED.has(job.state));
  const cancel = async () => {
    setBusy(true);
    setError(null);
    try {
      for (const job of alive) await post(`/jobs/${job.job_id}/cancel`, {});
      onClose(true);
    } catch (problem) {
      setError(problem as Error);
      setBusy(false);
    }
  };
  const ids = alive.slice(0, 12).map((job) => job.job_id).join(", ") + (alive.length > 12 ? ", …" : "");
  return (
    <Dialog title="Cancel" onClose={() => onClose(false)}>
      <p>
        {alive.length === 0
          ? "All of them have ended."
          : `Cancel ${plural(alive.length, "job")} (${ids})? What runs is asked to end, and is killed ten seconds later.`}
        {alive.length > 0 && alive.length < jobs.length ? ` ${plural(jobs.length - alive.length, "other")} ended already.` : ""}
      </p>
      <Problem error={error} />
      <div class="dialog-end">
        <button type="button" onClick={() => onClose(false)}>
          Keep
        </button>
        <button type="button" class="danger" disabled={isBusy || alive.length === 0} onClick={cancel}>
          Cancel {plural(alive.length, "job")}
        </button>
      </div>
    </Dialog>
  );
}
