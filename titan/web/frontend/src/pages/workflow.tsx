// The jobs that depend on each other, as a graph with their states.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { url } from "../api";
import { count, plural } from "../format";
import { changedAfter, onJobs } from "../live";
import { at, link } from "../location";
import { type Drawing, LARGE, layOutGraph, type Line, NODE, type Node } from "../parts/graph";
import { useTitle } from "../parts/page";
import { Empty, Problem } from "../parts/small";
import { PastNotice } from "../parts/timebar";
import { useResource, useThrottled } from "../resource";
import { type Job, sizeOf, type Workflow } from "../types";

const ZOOM = 1.25;
const LARGEST_SCALE = 2.5;
const READABLE_SCALE = 0.35;
const NEAR_SCALE = 0.8;
// After the browser has shown what it is told before.
const PAINTED_MS = 50;
const REFRESH_MS = 2_000;

export function WorkflowPage({ id }: { id: number }) {
  const past = at.value;
  const found = useResource<Workflow>(url(`/workflow/${id}`, { at: past }), `${id} ${past}`);
  const [live, setLive] = useState<ReadonlyMap<number, Job>>(new Map());
  const known = useRef<ReadonlySet<number>>(new Set());
  useTitle(`Workflow of job ${id}`);

  // A job that waits for one of these belongs to them from then on.
  const refetch = useThrottled(found.reload, REFRESH_MS);
  useEffect(() => {
    known.current = new Set(found.data?.jobs.map((job) => job.job_id));
    const newer = found.data && past === null ? changedAfter(found.data.lsn) : [];
    setLive(new Map(newer.map((job) => [job.job_id, job])));
  }, [found.data]);
  useEffect(
    () =>
      onJobs((jobs) => {
        const ours = jobs.filter((job) => known.current.has(job.job_id));
        if (ours.length > 0) setLive((old) => new Map([...old, ...ours.map((job): [number, Job] => [job.job_id, job])]));
        if (jobs.some((job) => !known.current.has(job.job_id) && job.after.some((each) => known.current.has(each.job_id)))) refetch();
      }),
    [],
  );

  const data = found.data;
  return (
    <div class="fill">
      <h1 class="page-title">
        Workflow of job <a href={link(`/jobs/${id}`)}>{id}</a>{" "}
        {data ? (
          <small>
            {plural(data.jobs.length, "job")}, {data.edges.length === 1 ? "1 dependency" : `${count(data.edges.length)} dependencies`}
            {data.more ? "; there are more, which are not shown" : ""}
          </small>
        ) : null}
      </h1>
      <PastNotice time={data?.at_time} lsn={data?.lsn} />
      <Problem error={found.error} />
      {data ? <Graph data={data} live={live} chosen={id} /> : found.error ? null : <Empty>Loading…</Empty>}
    </div>
  );
}

interface Properties {
  data: Workflow;
  live: ReadonlyMap<number, Job>;
  chosen: number;
}

/** Lays it out when it is another one; what takes long says so first. */
function Graph({ data, live, chosen }: Properties) {
  const [drawing, setDrawing] = useState<Drawing | null>(null);
  const shape = JSON.stringify([data.jobs.map((job) => job.job_id), data.edges]);
  useLayoutEffect(() => {
    const begin = () => setDrawing(layOutGraph(data.jobs.map((job) => job.job_id), data.edges));
    if (data.jobs.length < LARGE) {
      begin();
      return undefined;
    }
    const timer = setTimeout(begin, PAINTED_MS);
    return () => clearTimeout(timer);
  }, [shape]);
  if (!drawing) return <Empty>Laying out {plural(data.jobs.length, "job")}…</Empty>;
  return <Picture drawing={drawing} data={data} live={live} chosen={chosen} />;
}

function Picture({ drawing, data, live, chosen }: Properties & { drawing: Drawing }) {
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ x: 0, y: 0, scale: 1 });
  const drag = useRef<{ x: number; y: number; moved: number } | null>(null);
  const isMoved = useRef(false);
  const jobs = new Map(data.jobs.map((job) => [job.job_id, live.get(job.job_id) ?? job]));

  const showAll = () => {
    isMoved.current = false;
    const { clientWidth, clientHeight } = box.current!;
    const scale = Math.min(1, clientWidth / Math.max(1, drawing.width), clientHeight / Math.max(1, drawing.height));
    setView({ scale, x: (clientWidth - drawing.width * scale) / 2, y: (clientHeight - drawing.height * scale) / 2 });
    return scale;
  };
  // Of what would be too small to be read, the job that was asked for comes first, and its surroundings.
  const begin = () => {
    const node = drawing.nodes.find((each) => each.id === chosen);
    if (showAll() >= READABLE_SCALE || !node) return;
    const { clientWidth, clientHeight } = box.current!;
    setView({ scale: NEAR_SCALE, x: clientWidth / 2 - node.x * NEAR_SCALE, y: clientHeight / 2 - node.y * NEAR_SCALE });
  };
  // Until somebody moves it, all of it is shown, also when the window changes.
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      if (!isMoved.current) begin();
    });
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, [drawing]);
  const zoom = (factor: number, x = box.current!.clientWidth / 2, y = box.current!.clientHeight / 2) => {
    isMoved.current = true;
    setView((old) => {
      const scale = Math.max(0.02, Math.min(LARGEST_SCALE, old.scale * factor));
      const by = scale / old.scale;
      return { scale, x: x - (x - old.x) * by, y: y - (y - old.y) * by };
    });
  };
  const pan = (x: number, y: number) => {
    isMoved.current = true;
    setView((old) => ({ ...old, x: old.x + x, y: old.y + y }));
  };
  useEffect(() => {
    const element = box.current!;
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const place = element.getBoundingClientRect();
      zoom(ZOOM ** -Math.sign(event.deltaY), event.clientX - place.left, event.clientY - place.top);
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, []);
  const onKeyDown = (event: KeyboardEvent) => {
    const keys: Record<string, () => void> = {
      "+": () => zoom(ZOOM),
      "=": () => zoom(ZOOM),
      "-": () => zoom(1 / ZOOM),
      "0": () => void showAll(),
      ArrowLeft: () => pan(60, 0),
      ArrowRight: () => pan(-60, 0),
      ArrowUp: () => pan(0, 60),
      ArrowDown: () => pan(0, -60),
    };
    const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };
  return (
    <div
      class="graph"
      ref={box}
      tabIndex={0}
      role="region"
      aria-label="Dependency graph. Plus and minus zoom, arrows move, 0 shows all."
      onKeyDown={onKeyDown}
      onPointerDown={(event) => (drag.current = { x: event.clientX, y: event.clientY, moved: 0 })}
      onPointerMove={(event) => {
        const from = drag.current;
        if (!from || event.buttons === 0) return;
        const [x, y] = [event.clientX - from.x, event.clientY - from.y];
        drag.current = { x: event.clientX, y: event.clientY, moved: from.moved + Math.abs(x) + Math.abs(y) };
        pan(x, y);
      }}
      onClickCapture={(event) => {
        // Whoever has dragged did not mean the job beneath.
        if (drag.current && drag.current.moved > 4) event.preventDefault();
        drag.current = null;
      }}
    >
      <svg width="100%" height="100%" role="group" aria-label="Jobs">
        <defs>
          <marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">
            <path d="M0 0L8 4L0 8z" class="arrow" />
          </marker>
        </defs>
        <g transform={`translate(${view.x} ${view.y}) scale(${view.scale})`}>
          {drawing.lines.map((line, place) => (
            <Edge key={place} line={line} />
          ))}
          {drawing.nodes.map((node) => {
            const job = jobs.get(node.id);
            return job ? <Box key={node.id} node={node} job={job} isChosen={node.id === chosen} /> : null;
          })}
        </g>
      </svg>
      <div class="graph-tools">
        <button type="button" aria-label="Zoom in" onClick={() => zoom(ZOOM)}>
          +
        </button>
        <button type="button" aria-label="Zoom out" onClick={() => zoom(1 / ZOOM)}>
          −
        </button>
        <button type="button" onClick={showAll}>
          All
        </button>
      </div>
    </div>
  );
}

function Edge({ line }: { line: Line }) {
  const [first, ...rest] = line.points;
  const middle = line.points[Math.floor(line.points.length / 2)]!;
  const words = [line.condition === "OK" ? "" : line.condition.toLowerCase(), line.sameIndex ? "each its own" : ""].filter(Boolean);
  return (
    <>
      <path
        class={`edge edge-${line.condition.toLowerCase()}`}
        d={`M${first!.x} ${first!.y}${rest.map(({ x, y }) => `L${x} ${y}`).join("")}`}
        marker-end="url(#arrow)"
      />
      {words.length > 0 ? (
        <text class="edge-text" x={middle.x} y={middle.y - 4} text-anchor="middle">
          {words.join(", ")}
        </text>
      ) : null}
    </>
  );
}

const NAME_SIGNS = 22;

function Box({ node, job, isChosen }: { node: Node; job: Job; isChosen: boolean }) {
  const { width, height } = NODE;
  const ended = job.tasks.completed + job.tasks.failed + job.tasks.cancelled;
  const name = job.name.length > NAME_SIGNS ? `${job.name.slice(0, NAME_SIGNS - 1)}…` : job.name;
  return (
    <a href={link(`/jobs/${job.job_id}`)} data-node={job.job_id} data-state={job.state}>
      <g transform={`translate(${node.x - width / 2} ${node.y - height / 2})`} class={`node node-${job.state.toLowerCase()}${isChosen ? " is-chosen" : ""}`}>
        {name === job.name ? null : <title>{job.name}</title>}
        <rect width={width} height={height} rx="5" />
        <rect class="node-stripe" width="5" height={height} rx="2" />
        <text x="13" y="18" class="node-name">
          {name}
        </text>
        <text x="13" y="36" class="node-state">
          {job.job_id} · {job.state}
          {job.array === null ? "" : ` ${ended}/${sizeOf(job)}`}
        </text>
      </g>
    </a>
  );
}

