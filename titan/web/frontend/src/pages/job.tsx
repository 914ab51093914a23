// One job: what it is, its tasks, their attempts, why it waits, what it writes, and what happened.
import { useEffect, useState } from "preact/hooks";
import { post, url } from "../api";
import { age, bytes, clock, count, duration, exactly, now, plural } from "../format";
import { Indexes } from "../indexes";
import { onJobs } from "../live";
import { at, change, link, place } from "../location";
import { AttemptTable } from "../parts/attempts";
import { EventTable } from "../parts/events";
import { Output } from "../parts/output";
import { useTitle, whyUnchangeable } from "../parts/page";
import { Empty, JobLink, Panel, Problem, StateMark } from "../parts/small";
import { TaskGrid } from "../parts/taskgrid";
import { PastNotice } from "../parts/timebar";
import { useResource, useThrottled } from "../resource";
import { type Dated, ENDED, type Explanation, type Job, type Shown, sizeOf } from "../types";
import { joinWords } from "../words";
import { CancelDialog, noteOf } from "./jobs";

const REFRESH_MS = 1_000;
const ATTEMPTS = 100;

export function JobPage({ id, index }: { id: number; index: number | null }) {
  const past = at.value;
  const chosen = index ?? (place.value.query.get("task") === null ? null : Number(place.value.query.get("task")));
  const name = chosen === null ? String(id) : `${id}.${chosen}`;
  const shown = useResource<Dated & { job: Shown }>(url(`/jobs/${id}`, { attempts: ATTEMPTS, at: past }), `${id} ${past}`);
  const ofTask = useResource<Dated & { job: Shown }>(
    chosen === null ? null : url(`/jobs/${name}`, { attempts: ATTEMPTS, at: past }),
    `${name} ${past}`,
  );
  const [live, setLive] = useState<{ job: Job; lsn: number } | null>(null);
  const [changes, setChanges] = useState(0);
  const [isCancelling, setCancelling] = useState(false);
  const [failed, setFailed] = useState<Error | null>(null);
  useTitle(`Job ${id}`);

  const refresh = useThrottled(() => {
    shown.reload();
    ofTask.reload();
    setChanges((value) => value + 1);
  }, REFRESH_MS);
  useEffect(
    () =>
      onJobs((jobs, lsn) => {
        const job = jobs.find((each) => each.job_id === id);
        if (!job) return;
        setLive({ job, lsn });
        refresh();
      }),
    [id],
  );

  const fetched = shown.data;
  if (!fetched) {
    return (
      <>
        <PastNotice time={null} lsn={undefined} />
        {shown.error ? <Problem error={shown.error} /> : <Empty>Loading…</Empty>}
      </>
    );
  }
  const job: Job = past === null && live && live.lsn > fetched.lsn ? live.job : fetched.job;
  const isOver = ENDED.has(job.state);
  const attempts = (chosen === null ? fetched.job.attempts : ofTask.data?.job.attempts) ?? [];
  const shownIndex = chosen ?? attempts[0]?.index ?? new Indexes(job.array).at(0);
  const hold = async (how: "hold" | "release") => {
    setFailed(null);
    try {
      await post(`/jobs/${id}/${how}`, {});
      refresh();
    } catch (error) {
      setFailed(error as Error);
    }
  };
  const refusal = whyUnchangeable();
  return (
    <>
      <PastNotice time={fetched.at_time} lsn={fetched.lsn} />
      <Problem error={shown.error ?? ofTask.error ?? failed} />
      <header class="job-head">
        <h1>
          <span class="fine">Job {id}</span> {job.name}
        </h1>
        <span data-job-state={job.state}>
          <StateMark state={job.state} note={noteOf(job)} />
        </span>
        <span class="toolbar-space" />
        <a class="button" href={link(`/workflow/${id}`)}>
          Workflow
        </a>
        {job.held ? (
          <button type="button" disabled={refusal !== ""} title={refusal} onClick={() => void hold("release")}>
            Release
          </button>
        ) : (
          <button type="button" disabled={refusal !== "" || isOver} title={refusal} onClick={() => void hold("hold")}>
            Hold
          </button>
        )}
        <button type="button" class="danger" disabled={refusal !== "" || isOver} title={refusal} onClick={() => setCancelling(true)}>
          Cancel…
        </button>
      </header>
      <pre class="command" tabIndex={0} role="region" aria-label="Command">
        {joinWords(job.command) || "(a script)"}
      </pre>
      <Facts job={job} />
      {job.detail ? <p class="detail">{job.detail}</p> : null}
      {isOver ? null : <Why id={id} index={chosen} changes={changes} />}
      {job.array !== null ? (
        <Panel title={`Tasks ${job.array}`} extra={<TaskCounts job={job} />}>
          <TaskGrid job={job} changes={changes} chosen={chosen} onChoose={(task) => change({ task })} />
        </Panel>
      ) : null}
      <Panel
        title={chosen !== null && job.array !== null ? `Attempts of task ${name}` : "Attempts"}
        extra={
          chosen !== null && index === null ? (
            <button type="button" onClick={() => change({ task: null })}>
              Of all tasks
            </button>
          ) : chosen === null && job.attempts_total > attempts.length && attempts.length > 0 ? (
            <span class="fine">
              the first {count(attempts.length)} of {count(job.attempts_total)}; choose a task above for its own
            </span>
          ) : null
        }
      >
        <AttemptTable attempts={attempts} isArray={job.array !== null} onChoose={job.array !== null ? (task) => change({ task }) : undefined} />
      </Panel>
      <Output id={id} index={shownIndex} isArray={job.array !== null} hasStarted={job.attempts_total > 0} attempts={attempts} />
      <EventTable id={id} changes={changes} until={past === null ? null : fetched.lsn} />
      {isCancelling ? <CancelDialog jobs={[job]} onClose={() => setCancelling(false)} /> : null}
    </>
  );
}

function TaskCounts({ job }: { job: Job }) {
  return (
    <ul class="counts">
      {Object.entries(job.tasks)
        .filter(([, number]) => number > 0)
        .map(([state, number]) => (
          <li key={state}>
            <StateMark state={state.toUpperCase()} /> <b>{count(number)}</b>
          </li>
        ))}
    </ul>
  );
}

function Facts({ job }: { job: Job }) {
  const end = job.end_time ?? (at.value === null ? now.value : null);
  const ran = job.start_time !== null && end !== null ? end - job.start_time : null;
  const resources = Object.entries(job.resources).map(([name, number]) => `, ${name} ${number}`);
  const facts: [string, preact.ComponentChildren][] = [
    ["User", <a href={link("/jobs", { user: job.user })}>{job.user}</a>],
    ["Each task gets", `${plural(job.cpus, "cpu")}, ${job.memory_bytes ? bytes(job.memory_bytes) : "memory without limit"}${resources.join("")}`],
    ["Submitted", <span title={exactly(job.submit_time)}>{clock(job.submit_time)}</span>],
    ["Started", <span title={exactly(job.start_time)}>{clock(job.start_time)}</span>],
    ["Ended", <span title={exactly(job.end_time)}>{clock(job.end_time)}</span>],
    [
      "Waited",
      job.submit_time === null ? "–" : job.start_time !== null ? duration(job.start_time - job.submit_time) : end !== null ? age(end - job.submit_time) : "–",
    ],
    ["Ran", ran === null ? "–" : job.end_time === null ? age(ran) : duration(ran)],
    ["Exit", job.signal !== null ? `signal ${job.signal}` : job.exit_code !== null ? `code ${job.exit_code}` : "–"],
    ["Priority", count(job.priority)],
    ["Retries", count(job.retries)],
  ];
  if (job.reason) facts.push(["Reason", job.reason]);
  if (sizeOf(job) > 1) facts.push(["Tasks", count(sizeOf(job))]);
  if (job.time_limit_seconds !== null) facts.push(["Time limit", duration(job.time_limit_seconds)]);
  if (job.cwd) facts.push(["Directory", <code>{job.cwd}</code>]);
  if (job.on) facts.push(["On", job.on]);
  if (job.constraints.length > 0) facts.push(["Where", job.constraints.join(", ")]);
  if (job.after.length > 0) {
    facts.push([
      "After",
      job.after.map((each, place) => (
        <span key={each.job_id}>
          {place > 0 ? ", " : ""}
          <JobLink id={each.job_id} />
          {each.condition === "ok" ? "" : `:${each.condition}`}
        </span>
      )),
    ]);
  }
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Why({ id, index, changes }: { id: number; index: number | null; changes: number }) {
  const past = at.value;
  const why = useResource<Explanation>(url(`/jobs/${id}/why`, { index, at: past }), `${id} ${index} ${past}`);
  useEffect(() => {
    if (changes > 0) why.reload();
  }, [changes]);
  // What others do moves it on as well.
  const seconds = Math.floor(now.value / 5);
  useEffect(() => {
    if (past === null && why.data?.state === "PENDING") why.reload();
  }, [seconds]);
  const found = why.data;
  if (!found) return <Problem error={why.error} />;
  return (
    <Panel title={found.state === "PENDING" ? "Why it waits" : "How it came to be there"}>
      <p class="sentence">{found.sentence}</p>
      {found.turned_away.length > 0 ? (
        <ul class="turned-away">
          {found.turned_away.map((each) => (
            <li key={each.why}>
              {count(each.workers)} {each.workers === 1 ? "worker" : "workers"}: {each.why}
              {each.never ? <strong> (never)</strong> : null}
            </li>
          ))}
        </ul>
      ) : null}
    </Panel>
  );
}
