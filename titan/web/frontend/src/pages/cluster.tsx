// The cluster: its workers, what they have and what of it is in use, and how they are.
import { useState } from "preact/hooks";
import { post, url } from "../api";
import { age, bytes, clock, count, exactly, now, plural } from "../format";
import { stats as liveStats, workers as liveWorkers } from "../live";
import { at, change, link, place } from "../location";
import { Bar, Dialog, Empty, Panel, Problem, StateMark } from "../parts/small";
import { PastNotice } from "../parts/timebar";
import { useTitle, whyUnchangeable } from "../parts/page";
import { useResource } from "../resource";
import { type Dated, STATES, type Stats, type Worker } from "../types";

type Workers = Dated & { workers: Worker[] };

export function ClusterPage() {
  const past = at.value;
  const fetchedStats = useResource<Stats>(url("/stats", { at: past }), past ?? "now");
  const fetchedWorkers = useResource<Workers>(url("/workers", { at: past }), past ?? "now");
  const [toDrain, setToDrain] = useState<Worker | null>(null);
  const [failed, setFailed] = useState<Error | null>(null);
  // What the stream says is newer, except of the past.
  const stats = newer(past, fetchedStats.data, liveStats.value);
  const fetched = fetchedWorkers.data;
  const isStreamNewer = past === null && liveWorkers.value !== null && (liveStats.value?.lsn ?? 0) >= (fetched?.lsn ?? 0);
  const workers = isStreamNewer ? liveWorkers.value : fetched?.workers;
  useTitle("Cluster");

  const changeDrain = async (worker: Worker, how: "drain" | "undrain", reason?: string) => {
    setFailed(null);
    try {
      await post(`/workers/${encodeURIComponent(worker.name)}/${how}`, how === "drain" ? { reason } : {});
      fetchedWorkers.reload();
    } catch (error) {
      setFailed(error as Error);
    }
  };
  const filter = (place.value.query.get("worker") ?? "").toLowerCase();
  const shown = (workers ?? [])
    .filter((each) => each.name.toLowerCase().includes(filter))
    .sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  return (
    <>
      <h1 class="hidden">Cluster</h1>
      <PastNotice time={fetched?.at_time} lsn={fetched?.lsn} />
      <Problem error={fetchedStats.error ?? fetchedWorkers.error ?? failed} />
      {stats ? <Totals stats={stats} /> : null}
      <Panel
        title="Workers"
        extra={
          <input
            type="search"
            data-filter
            class="filter"
            placeholder="Filter by name  /"
            aria-label="Filter workers by name"
            value={place.value.query.get("worker") ?? ""}
            onInput={(event) => change({ worker: event.currentTarget.value })}
          />
        }
      >
        {workers && shown.length === 0 ? (
          <Empty>
            {workers.length === 0 ? (
              <>
                No worker has registered. Start one with <code>titan worker</code>.
              </>
            ) : (
              "No worker has such a name."
            )}
          </Empty>
        ) : null}
        {shown.length > 0 ? (
          <div class="scroll-x" tabIndex={0} role="region" aria-label="Workers">
            <table class="table workers">
              <thead>
                <tr>
                  <th scope="col">Worker</th>
                  <th scope="col">Health</th>
                  <th scope="col">CPUs promised</th>
                  <th scope="col">Memory promised</th>
                  <th scope="col">Resources</th>
                  {past === null ? <th scope="col">Measured</th> : null}
                  <th scope="col" class="number">
                    Running
                  </th>
                  <th scope="col" class="number">
                    Queued
                  </th>
                  <th scope="col">Heard</th>
                  <th scope="col">
                    <span class="hidden">Change</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {shown.map((worker) => (
                  <WorkerRow
                    key={worker.worker_id}
                    worker={worker}
                    onDrain={() => setToDrain(worker)}
                    onUndrain={() => void changeDrain(worker, "undrain")}
                  />
                ))}
              </tbody>
            </table>
          </div>
        ) : null}
      </Panel>
      {toDrain ? (
        <DrainDialog
          worker={toDrain}
          onClose={() => setToDrain(null)}
          onDrain={(reason) => {
            setToDrain(null);
            void changeDrain(toDrain, "drain", reason);
          }}
        />
      ) : null}
    </>
  );
}

function newer(past: string | null, fetched: Stats | null, live: Stats | null): Stats | null {
  return past === null && live !== null && live.lsn >= (fetched?.lsn ?? 0) ? live : fetched;
}

function Totals({ stats }: { stats: Stats }) {
  const there = Object.entries(stats.workers).filter(([, number]) => number > 0);
  return (
    <section class="totals" aria-label="Totals">
      <div class="total">
        <h2>CPUs</h2>
        <Bar
          label="CPUs promised"
          used={stats.cpus - stats.cpus_free}
          all={stats.cpus}
          text={`${count(stats.cpus - stats.cpus_free)} of ${count(stats.cpus)}`}
        />
      </div>
      <div class="total">
        <h2>Memory</h2>
        <Bar
          label="Memory promised"
          used={stats.memory_bytes - stats.memory_free_bytes}
          all={stats.memory_bytes}
          text={`${bytes(stats.memory_bytes - stats.memory_free_bytes)} of ${bytes(stats.memory_bytes)}`}
        />
      </div>
      {Object.entries(stats.resources).map(([name, all]) => {
        const used = all - (stats.resources_free[name] ?? 0);
        return (
          <div class="total" key={name}>
            <h2>{name}</h2>
            <Bar label={`${name} promised`} used={used} all={all} text={`${count(used)} of ${count(all)}`} />
          </div>
        );
      })}
      <div class="total">
        <h2>Workers</h2>
        <p>{there.length > 0 ? there.map(([state, number]) => `${count(number)} ${state}`).join(", ") : "none"}</p>
      </div>
      <div class="total total-wide">
        <h2>Tasks</h2>
        <ul class="counts">
          {STATES.map((state) => (
            <li key={state}>
              <a href={link("/jobs", { state })}>
                <StateMark state={state} /> <b data-count={state}>{count(stats.tasks[state.toLowerCase() as keyof Stats["tasks"]])}</b>
              </a>
            </li>
          ))}
        </ul>
      </div>
    </section>
  );
}

function WorkerRow({ worker, onDrain, onUndrain }: { worker: Worker; onDrain: () => void; onUndrain: () => void }) {
  const isNow = at.value === null;
  const [cpus, memory] = [worker.cpus - worker.cpus_free, worker.memory_bytes - worker.memory_free_bytes];
  const heard = worker.last_heartbeat_time;
  const refusal = whyUnchangeable();
  const labels = Object.entries(worker.labels).map(([name, value]) => `${name}=${value}`);
  const problem = isNow && worker.disk_free_bytes !== null && worker.disk_free_bytes < 1 << 30 ? "disk nearly full" : "";
  return (
    <tr>
      <th scope="row" data-label="Worker">
        <a href={link("/timeline", { worker: worker.name })} title="Its timeline">
          {worker.name}
        </a>
        <small title={[worker.address, ...labels].join("\n")}>{labels.join(" ")}</small>
      </th>
      <td data-label="Health">
        <StateMark state={worker.state} note={worker.draining ? "draining" : ""} />
        {worker.reason || problem ? <small>{worker.reason ?? problem}</small> : null}
      </td>
      <td data-label="CPUs">
        <Bar label="CPUs promised" used={cpus} all={worker.cpus} text={`${count(cpus)} / ${count(worker.cpus)}`} />
      </td>
      <td data-label="Memory">
        <Bar
          label="Memory promised"
          used={memory}
          all={worker.memory_bytes}
          text={`${bytes(memory)} / ${bytes(worker.memory_bytes)}`}
        />
      </td>
      <td data-label="Resources">
        {Object.entries(worker.resources).map(([name, all]) => {
          const used = all - (worker.resources_free[name] ?? 0);
          return <Bar key={name} label={`${name} promised`} used={used} all={all} text={`${name} ${count(used)} / ${count(all)}`} />;
        })}
        {Object.keys(worker.resources).length === 0 ? "–" : null}
      </td>
      {isNow ? (
        <td data-label="Measured" class="measured">
          {worker.cpu_percent === null ? (
            "–"
          ) : (
            <>
              cpu {Math.round(worker.cpu_percent)}%, load {worker.load_1m}
              <small>
                memory {bytes(worker.memory_used_bytes)}, disk {bytes(worker.disk_free_bytes)} free
              </small>
            </>
          )}
        </td>
      ) : null}
      <td data-label="Running" class="number">
        {count(worker.running)}
      </td>
      <td data-label="Queued" class="number">
        {count(worker.queued)}
      </td>
      <td data-label="Heard" title={exactly(heard)}>
        {heard === null ? "–" : isNow ? `${age(now.value - heard)} ago` : clock(heard)}
      </td>
      <td class="actions">
        <button
          type="button"
          disabled={refusal !== ""}
          title={refusal || (worker.draining ? "Give it tasks again" : "Give it no new tasks; what runs there goes on")}
          aria-label={`${worker.draining ? "Undrain" : "Drain"} ${worker.name}`}
          onClick={worker.draining ? onUndrain : onDrain}
        >
          {worker.draining ? "Undrain" : "Drain"}
        </button>
      </td>
    </tr>
  );
}

function DrainDialog({ worker, onClose, onDrain }: { worker: Worker; onClose: () => void; onDrain: (reason: string) => void }) {
  const [reason, setReason] = useState("");
  return (
    <Dialog title={`Drain ${worker.name}`} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          onDrain(reason);
        }}
      >
        <p>
          It gets no new tasks. {plural(worker.running, "task")} that {worker.running === 1 ? "runs" : "run"} there{" "}
          {worker.running === 1 ? "goes" : "go"} on.
        </p>
        <label>
          Reason, for others to read
          <input value={reason} maxLength={200} onInput={(event) => setReason(event.currentTarget.value)} />
        </label>
        <div class="dialog-end">
          <button type="button" onClick={onClose}>
            Close
          </button>
          <button type="submit" class="primary">
            Drain
          </button>
        </div>
      </form>
    </Dialog>
  );
}
