// What happened to a job, as the log has it.
import { useEffect, useState } from "preact/hooks";
import { url } from "../api";
import { clock, exactly } from "../format";
import { useResource } from "../resource";
import type { LogEvent } from "../types";
import { Empty, Panel, Problem } from "./small";

const LIMIT = 1_000;

/** `until`: the last position that is told of; null: all. */
export function EventTable({ id, changes, until }: { id: number; changes: number; until: number | null }) {
  const [after, setAfter] = useState(0);
  const address = url(`/jobs/${id}/events`, { limit: LIMIT, after_lsn: after || null });
  const found = useResource<{ lsn: number; more: boolean; events: LogEvent[] }>(address, `${id} ${after}`);
  useEffect(() => {
    // What is new stands at the end, which is elsewhere then.
    if (changes > 0 && !found.data?.more) found.reload();
  }, [changes]);
  const events = (found.data?.events ?? []).filter((event) => until === null || event.lsn <= until);
  return (
    <Panel title="Events" extra={
        <div class="panel-tools">
          {after > 0 ? (
            <button type="button" onClick={() => setAfter(0)}>
              The first
            </button>
          ) : null}
          {found.data?.more && events.length > 0 ? (
            <button type="button" onClick={() => setAfter(found.data!.lsn)}>
              Later ones
            </button>
          ) : null}
        </div>
      }>
      <Problem error={found.error} />
      {found.data && events.length === 0 ? <Empty>The log holds none of them any more.</Empty> : null}
      {events.length > 0 ? (
        <div class="scroll-x limited" tabIndex={0} role="region" aria-label="Events">
          <table class="table">
            <thead>
              <tr>
                <th scope="col" class="number">
                  Record
                </th>
                <th scope="col">Time</th>
                <th scope="col">Event</th>
                <th scope="col">Fields</th>
              </tr>
            </thead>
            <tbody>
              {events.map((event, place) => (
                <tr key={`${event.lsn} ${place}`}>
                  <td class="number">{event.lsn}</td>
                  <td title={exactly(event.time)}>{clock(event.time)}</td>
                  <td>{event.event}</td>
                  <td class="wrap fields">{fieldsOf(event)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : null}
    </Panel>
  );
}

function fieldsOf({ lsn: _lsn, time: _time, event: _event, ...fields }: LogEvent): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && value.length === 0))
    .map(([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : String(value)}`)
    .join("  ");
}
