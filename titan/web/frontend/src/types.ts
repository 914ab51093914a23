// What /api/v1 answers, with the names of `titan … --json`: times are Unix seconds, states are upper
// case. Only what these pages read is named here.

export type State = "PENDING" | "SCHEDULED" | "RUNNING" | "COMPLETED" | "FAILED" | "CANCELLED";
export const STATES: readonly State[] = ["PENDING", "SCHEDULED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"];
export const ENDED: ReadonlySet<string> = new Set(["COMPLETED", "FAILED", "CANCELLED"]);

export type Counts = Record<"pending" | "scheduled" | "running" | "completed" | "failed" | "cancelled", number>;

export interface Session {
  user: string;
  writable: boolean;
  csrf: string;
  version: string;
  manager: string;
  cluster_id: string;
  history: boolean;
}

/** What every answer about the cluster's state carries. */
export interface Dated {
  lsn: number;
  at_time?: number | null;
}

export interface Job {
  job_id: number;
  name: string;
  user: string;
  state: State;
  reason: string | null;
  detail: string | null;
  cancel_requested: boolean;
  waiting_for: string | null;
  command: string[];
  cwd: string | null;
  cpus: number;
  memory_bytes: number;
  resources: Record<string, number>;
  priority: number;
  retries: number;
  time_limit_seconds: number | null;
  on: string | null;
  array: string | null;
  after: { job_id: number; condition: string; index: number | null; same_index: boolean }[];
  constraints: string[];
  held: boolean;
  suspended: boolean;
  submit_time: number | null;
  start_time: number | null;
  end_time: number | null;
  exit_code: number | null;
  signal: number | null;
  tasks: Counts;
  attempts_total: number;
}

/** How many tasks it has. */
export function sizeOf(job: Job): number {
  return Object.values(job.tasks).reduce((sum, each) => sum + each, 0);
}

export interface Attempt {
  index: number;
  attempt: number;
  worker: string | null;
  state: string;
  reason: string | null;
  detail: string | null;
  exit_code: number | null;
  signal: number | null;
  start_time: number | null;
  end_time: number | null;
  cpu_user_seconds: number | null;
  cpu_system_seconds: number | null;
  max_rss_bytes: number | null;
  rss_bytes: number | null;
}

export type Shown = Job & { attempts: Attempt[] };

export interface Worker {
  worker_id: string;
  name: string;
  address: string | null;
  state: string;
  reason: string | null;
  cpus: number;
  cpus_free: number;
  memory_bytes: number;
  memory_free_bytes: number;
  resources: Record<string, number>;
  resources_free: Record<string, number>;
  labels: Record<string, string>;
  running: number;
  queued: number;
  last_heartbeat_time: number | null;
  version: string | null;
  draining: boolean;
  cpu_percent: number | null;
  load_1m: number | null;
  memory_used_bytes: number | null;
  memory_total_bytes: number | null;
  disk_free_bytes: number | null;
}

export interface Stats {
  lsn: number;
  time: number | null;
  start_time: number | null;
  version: string | null;
  jobs: Counts;
  tasks: Counts;
  workers: Record<string, number>;
  cpus: number;
  cpus_free: number;
  memory_bytes: number;
  memory_free_bytes: number;
  resources: Record<string, number>;
  resources_free: Record<string, number>;
}

export interface Explanation {
  state: State;
  verdict: string | null;
  sentence: string;
  turned_away: { workers: number; why: string; never: boolean }[];
  tasks_ahead: number | null;
  candidates: { worker: string; had_room: boolean; chosen: boolean }[];
}

export interface LogEvent {
  lsn: number;
  time: number;
  event: string;
  [field: string]: unknown;
}

export interface Timeline {
  lsn: number;
  since: number;
  until: number;
  more: boolean;
  workers: string[];
  users: string[];
  jobs: { job_id: number; name: string; user: number }[];
  bars: {
    worker: number[];
    job: number[];
    index: number[];
    attempt: number[];
    start: number[];
    end: (number | null)[];
    state: string;
  };
}

export interface Workflow extends Dated {
  jobs: Job[];
  edges: { from: number; to: number; condition: string; same_index: boolean }[];
  more?: boolean;
}

export interface Usage {
  since_time: number;
  until_time: number;
  wait_p50_seconds: number | null;
  wait_p95_seconds: number | null;
  wait_p99_seconds: number | null;
  ended: number;
  failed: number;
  ended_per_second: number;
  utilisation: number | null;
  series: {
    seconds: number;
    ended: number[];
    failed: number[];
    busy_cpus: number[];
    cpus: number[];
    waiting_tasks: number[];
  };
}

export type Row = Record<string, string | number | null>;

export interface Moments {
  first: { lsn: number; time: number };
  last: { lsn: number; time: number };
}
