// Attempts: where each ran, how it ended and what it took.
import { bytes, clock, count, duration, exactly, now } from "../format";
import { at, link } from "../location";
import type { Attempt } from "../types";
import { Empty, StateMark } from "./small";

interface Properties {
  attempts: Attempt[];
  isArray: boolean;
  onChoose?: ((index: number) => void) | undefined;
}

export function AttemptTable({ attempts, isArray, onChoose }: Properties) {
  if (attempts.length === 0) return <Empty>None has been made.</Empty>;
  return (
    <div class="scroll-x limited" tabIndex={0} role="region" aria-label="Attempts">
      <table class="table">
        <thead>
          <tr>
            {isArray ? (
              <th scope="col" class="number">
                Task
              </th>
            ) : null}
            <th scope="col" class="number">
              Attempt
            </th>
            <th scope="col">State</th>
            <th scope="col">Worker</th>
            <th scope="col">Started</th>
            <th scope="col" class="number">
              Ran
            </th>
            <th scope="col">Exit</th>
            <th scope="col" class="number">
              CPU time
            </th>
            <th scope="col" class="number">
              Peak memory
            </th>
            <th scope="col">Detail</th>
          </tr>
        </thead>
        <tbody>
          {attempts.map((each) => (
            <tr key={`${each.index} ${each.attempt}`}>
              {isArray ? (
                <td class="number">
                  {onChoose ? (
                    <button type="button" class="linklike" aria-label={`Attempts of task ${each.index}`} onClick={() => onChoose(each.index)}>
                      {each.index}
                    </button>
                  ) : (
                    each.index
                  )}
                </td>
              ) : null}
              <td class="number">{each.attempt}</td>
              <td>
                <StateMark state={each.state} />
              </td>
              <td>{each.worker === null ? "–" : <a href={link("/", { worker: each.worker })}>{each.worker}</a>}</td>
              <td title={exactly(each.start_time)}>{clock(each.start_time)}</td>
              <td class="number">{duration(ranSeconds(each))}</td>
              <td>{each.signal !== null ? `signal ${each.signal}` : count(each.exit_code)}</td>
              <td class="number">
                {each.cpu_user_seconds === null ? "–" : duration(each.cpu_user_seconds + (each.cpu_system_seconds ?? 0))}
              </td>
              <td class="number">{bytes(each.max_rss_bytes ?? each.rss_bytes)}</td>
              <td class="wrap">{each.detail ?? (each.state === "COMPLETED" ? "" : each.reason)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function ranSeconds(attempt: Attempt): number | null {
  if (attempt.start_time === null) return null;
  if (attempt.end_time !== null) return attempt.end_time - attempt.start_time;
  return at.value === null ? Math.floor(now.value - attempt.start_time) : null;
}
