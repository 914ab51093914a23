// What ran, from the tables in SQL: how long tasks waited, what ended, how much was in use, and by whom.
import { useMemo } from "preact/hooks";
import { url } from "../api";
import { bytes, clock, count, duration, now, percent } from "../format";
import { at, change, link, place } from "../location";
import { useTitle } from "../parts/page";
import { Plot, type Series } from "../parts/plot";
import { Empty, Panel, Problem, StateMark } from "../parts/small";
import { PastNotice } from "../parts/timebar";
import { useResource } from "../resource";
import type { Row, Usage } from "../types";

const STRETCHES: readonly [name: string, seconds: number, parts: number, part: string][] = [
  ["hour", 3_600, 60, "a minute"],
  ["day", 86_400, 48, "in half an hour"],
  ["week", 604_800, 56, "in 3 hours"],
];
const TOTALS = ["user", "day", "worker"];
const LIMIT = 20;
const REFRESH_SECONDS = 15;

export function HistoryPage() {
  const query = place.value.query;
  const [name, seconds, parts, part] = STRETCHES.find(([each]) => each === query.get("last")) ?? STRETCHES[0]!;
  const by = TOTALS.find((each) => each === query.get("by")) ?? "user";
  const past = at.value;
  // Whole steps, so that the addresses stay the same between them.
  const until = past !== null && !past.startsWith("lsn:") ? Number(past) : Math.ceil(now.value / REFRESH_SECONDS) * REFRESH_SECONDS;
  const span = { since: until - seconds, until };
  const key = `${name} ${past}`;
  const usage = useResource<Usage>(url("/history/usage", { ...span, count: parts }), key);
  const totals = useResource<Row[]>(url("/history/totals", { ...span, by }), `${key} ${by}`);
  const slowest = useResource<Row[]>(url("/history/attempts", { ...span, slowest: 1, limit: LIMIT }), key);
  const failing = useResource<Row[]>(url("/history/failing", { ...span, limit: LIMIT }), key);
  useTitle("History");
  const problem = usage.error ?? totals.error ?? slowest.error ?? failing.error;
  return (
    <>
      <h1 class="hidden">History</h1>
      <PastNotice time={null} lsn={undefined} />
      <div class="toolbar">
        <div class="chips" role="group" aria-label="Time that is shown">
          {STRETCHES.map(([each]) => (
            <button key={each} type="button" class="chip" aria-pressed={each === name} onClick={() => change({ last: each })}>
              The last {each}
            </button>
          ))}
        </div>
      </div>
      <Problem error={problem} />
      {usage.data ? <UsagePlots usage={usage.data} part={part} /> : problem ? null : <Empty>Loading…</Empty>}
      {totals.data ? (
        <Panel
          title="Totals"
          extra={
            <label class="inline">
              by{" "}
              <select value={by} onChange={(event) => change({ by: event.currentTarget.value })}>
                {TOTALS.map((each) => (
                  <option key={each}>{each}</option>
                ))}
              </select>
            </label>
          }
        >
          <Table label="Totals" rows={totals.data} columns={[[by, titleOf(by)], ...OF_TOTALS]} />
        </Panel>
      ) : null}
      {slowest.data ? (
        <Panel title="Slowest attempts">
          <Table label="Slowest attempts" rows={slowest.data} columns={OF_ATTEMPTS} />
        </Panel>
      ) : null}
      {failing.data ? (
        <Panel title="Most failing">
          <Table label="Most failing" rows={failing.data} columns={OF_FAILING} />
        </Panel>
      ) : null}
    </>
  );
}

function UsagePlots({ usage, part }: { usage: Usage; part: string }) {
  const { series } = usage;
  const times = useMemo(() => [...series.ended, 0].map((_, place) => usage.since_time + place * series.seconds), [usage]);
  const plots = useMemo(
    (): [string, Series[]][] => [
      ["Tasks waiting", [{ name: "waiting", colour: "--fill-pending", values: series.waiting_tasks }]],
      [
        `Attempts ended ${part}`,
        [
          { name: "ended", colour: "--fill-completed", values: series.ended },
          { name: "failed", colour: "--fill-failed", values: series.failed },
        ],
      ],
      [
        "CPUs",
        [
          { name: "in use", colour: "--fill-running", values: series.busy_cpus },
          { name: "offered", colour: "--muted", values: series.cpus, isLine: true },
        ],
      ],
    ],
    [usage, part],
  );
  const figures: [string, string][] = [
    ["Half waited at most", duration(usage.wait_p50_seconds)],
    ["95% waited at most", duration(usage.wait_p95_seconds)],
    ["99% waited at most", duration(usage.wait_p99_seconds)],
    ["Attempts ended", count(usage.ended)],
    ["Failed", count(usage.failed)],
    ["Ended a minute", (usage.ended_per_second * 60).toFixed(1)],
    ["CPUs in use", percent(usage.utilisation)],
  ];
  return (
    <>
      <dl class="facts figures">
        {figures.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <div class="plots">
        {plots.map(([title, each]) => (
          <Plot key={title} title={title} times={times} series={each} sync="history" />
        ))}
      </div>
    </>
  );
}

type Columns = [name: string, title: string][];

const OF_TOTALS: Columns = [
  ["attempts", "Attempts"],
  ["completed", "Completed"],
  ["failed", "Failed"],
  ["run_hours", "Run, hours"],
  ["cpu_hours", "CPU hours"],
  ["used_cpu_hours", "Of them used"],
  ["cpu_efficiency", "CPU used"],
  ["memory_efficiency", "Memory used"],
];
const OF_ATTEMPTS: Columns = [
  ["job_id", "Job"],
  ["name", "Name"],
  ["user", "User"],
  ["state", "State"],
  ["worker", "Worker"],
  ["end_time", "Ended"],
  ["wait_seconds", "Waited"],
  ["run_seconds", "Ran"],
  ["cpu_efficiency", "CPU used"],
  ["max_rss_bytes", "Peak memory"],
];
const OF_FAILING: Columns = [
  ["name", "Name"],
  ["user", "User"],
  ["failed", "Failed"],
  ["attempts", "Attempts"],
  ["last_end_time", "The last ended"],
];
const TEXTS = new Set(["name", "user", "state", "worker", "day", "end_time", "last_end_time"]);

function Table({ label, rows, columns }: { label: string; rows: Row[]; columns: Columns }) {
  if (rows.length === 0) return <Empty>None in this time.</Empty>;
  const classOf = (name: string) => (TEXTS.has(name) ? "" : "number");
  return (
    <div class="scroll-x limited" tabIndex={0} role="region" aria-label={label}>
      <table class="table">
        <thead>
          <tr>
            {columns.map(([name, title]) => (
              <th scope="col" key={name} class={classOf(name)}>
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, place) => (
            <tr key={place}>
              {columns.map(([name]) => (
                <td key={name} class={classOf(name)}>
                  {shown(name, row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function shown(name: string, row: Row) {
  const value = row[name];
  if (value === null || value === undefined) return "–";
  if (name === "job_id" && typeof value === "number" && value > 0) {
    return <a href={link(`/jobs/${value}`, { task: row["index"] || null })}>{row["index"] ? `${value}.${row["index"]}` : value}</a>;
  }
  if (name === "state") return <StateMark state={String(value)} />;
  if (typeof value === "string") return value;
  if (name.endsWith("_time")) return clock(value);
  if (name.endsWith("_seconds")) return duration(value);
  if (name.endsWith("_bytes")) return bytes(value);
  if (name.endsWith("_efficiency")) return percent(value);
  return name.endsWith("_hours") ? value.toFixed(2) : count(value);
}

function titleOf(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1);
}
