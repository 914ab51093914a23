// The pages of `titan web`: which page an address shows, and what starts at the beginning.
import { render } from "preact";
import { useEffect } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/pages.css";
import { get, loadSession, session, url } from "./api";
import { listenToKeys } from "./keys";
import { startLive } from "./live";
import { at, change, followLinks, place } from "./location";
import { ApiPage } from "./pages/api";
import { ClusterPage } from "./pages/cluster";
import { HistoryPage } from "./pages/history";
import { JobPage } from "./pages/job";
import { JobsPage } from "./pages/jobs";
import { TimelinePage } from "./pages/timeline";
import { WorkflowPage } from "./pages/workflow";
import { Login } from "./parts/login";
import { Shell } from "./parts/shell";
import { Empty } from "./parts/small";
import { applyTheme } from "./theme";
import type { Dated, Stats } from "./types";

const RETRY_MS = 2_000;

function Page() {
  const path = place.value.path.replace(/(.)\/$/, "$1");
  const job = /^\/jobs\/(\d+)(?:\.(\d+))?$/.exec(path);
  const workflow = /^\/workflow\/(\d+)$/.exec(path);
  if (path === "/" || path === "/workers") return <ClusterPage />;
  if (path === "/jobs") return <JobsPage />;
  if (job) return <JobPage key={job[1]} id={Number(job[1])} index={job[2] === undefined ? null : Number(job[2])} />;
  if (path === "/timeline") return <TimelinePage />;
  if (workflow) return <WorkflowPage key={workflow[1]} id={Number(workflow[1])} />;
  if (path === "/history") return <HistoryPage />;
  if (path === "/api") return <ApiPage />;
  return <Empty>There is no page {path}.</Empty>;
}

function App() {
  useEffect(() => {
    let retry: ReturnType<typeof setTimeout> | undefined;
    const ask = () => loadSession().catch(() => (retry = setTimeout(ask, RETRY_MS)));
    void ask();
    return () => clearTimeout(retry);
  }, []);
  const moment = at.value;
  const user = session.value?.user;
  useEffect(() => {
    // All pages know what a time is; some of what they show knows no positions in the log.
    if (!user || !moment?.startsWith("lsn:")) return;
    get<Stats & Dated>(url("/stats", { at: moment })).then(
      ({ at_time }) => at_time && change({ at: at_time.toFixed(6) }),
      () => undefined, // the page says what is wrong with it
    );
  }, [moment, user]);
  if (session.value === undefined) return <Empty>Connecting…</Empty>;
  if (session.value === null) return <Login />;
  return (
    <Shell>
      <Page />
    </Shell>
  );
}

applyTheme();
followLinks();
listenToKeys();
startLive();
const root = document.getElementById("app")!;
root.textContent = "";
render(<App />, root);
