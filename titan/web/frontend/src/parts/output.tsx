// What a task writes, while it writes it. It is shown as text: nothing in it is acted upon.
import { useEffect, useRef, useState } from "preact/hooks";
import { url } from "../api";
import { bytes } from "../format";
import { at } from "../location";
import type { Attempt } from "../types";
import { plainText } from "../words";
import { Panel } from "./small";

interface Properties {
  id: number;
  index: number;
  isArray: boolean;
  hasStarted: boolean;
  attempts: Attempt[];
}

type Stream = "stdout" | "stderr";

const TAIL_LINES = 1_000;
// As much as a browser lays out without effort; older text goes first.
const KEPT_MAX = 1_000_000;
const NEAR_END_PX = 40;

export function Output({ id, index, isArray, hasStarted, attempts }: Properties) {
  const [stream, setStream] = useState<Stream>("stdout");
  const [follows, setFollows] = useState(true);
  const [status, setStatus] = useState("");
  const [attempt, setAttempt] = useState<number | null>(null);
  const screen = useRef<HTMLPreElement>(null);
  const isFollowing = useRef(true);
  isFollowing.current = follows;
  const numbers = attempts.filter((each) => each.index === index).map((each) => each.attempt);

  useEffect(() => setAttempt(null), [id, index]);
  useEffect(() => {
    const element = screen.current;
    if (!element || !hasStarted) return undefined;
    element.textContent = "";
    setStatus("connecting");
    const text = new TextEnd(element);
    const source = new EventSource(url(`/jobs/${id}/output`, { index, attempt, stream, tail: TAIL_LINES }));
    let shownAttempt: number | null = null;
    source.addEventListener("open", () => {
      // A connection that was lost begins with the same lines again.
      text.clear();
      shownAttempt = null;
      setStatus("following");
    });
    source.addEventListener("data", (event) => {
      const data = JSON.parse(event.data) as { text: string; attempt: number; hole_bytes?: number };
      if (shownAttempt !== null && data.attempt !== shownAttempt) text.append(`\n[attempt ${data.attempt}]\n`);
      shownAttempt = data.attempt;
      if (data.hole_bytes) text.append(`\n[${bytes(data.hole_bytes)} are missing here]\n`);
      text.append(data.text);
      if (isFollowing.current) element.scrollTop = element.scrollHeight;
    });
    source.addEventListener("end", () => {
      text.finish();
      setStatus(text.isEmpty ? "ended; nothing was written" : "ended");
      source.close();
    });
    source.addEventListener("error", (event) => {
      const sentence = event instanceof MessageEvent ? (JSON.parse(event.data) as { error: string }).error : null;
      if (sentence !== null || source.readyState === EventSource.CLOSED) source.close();
      setStatus(sentence ?? (source.readyState === EventSource.CLOSED ? "the output cannot be read now" : "reconnecting"));
    });
    return () => source.close();
  }, [id, index, stream, attempt, hasStarted]);

  return (
    <Panel
      title={isArray ? `Output of task ${id}.${index}` : "Output"}
      extra={
        <div class="panel-tools">
          <div class="chips" role="group" aria-label="Stream">
            {(["stdout", "stderr"] as const).map((each) => (
              <button key={each} type="button" class="chip" aria-pressed={stream === each} onClick={() => setStream(each)}>
                {each}
              </button>
            ))}
          </div>
          {numbers.length > 1 ? (
            <label class="inline">
              Attempt{" "}
              <select value={attempt ?? ""} onChange={(event) => setAttempt(event.currentTarget.value ? Number(event.currentTarget.value) : null)}>
                <option value="">the latest</option>
                {numbers.map((each) => (
                  <option key={each} value={each}>
                    {each}
                  </option>
                ))}
              </select>
            </label>
          ) : null}
          <label class="inline">
            <input type="checkbox" checked={follows} onChange={(event) => setFollows(event.currentTarget.checked)} /> Follow
          </label>
          <span class="fine" role="status">
            {hasStarted ? status : ""}
            {at.value === null ? "" : " (as it is now, not as it was)"}
          </span>
        </div>
      }
    >
      {hasStarted ? (
        <pre
          class="output"
          ref={screen}
          tabIndex={0}
          aria-label={`${stream} of the task`}
          onScroll={(event) => {
            const { scrollHeight, scrollTop, clientHeight } = event.currentTarget;
            const isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
            if (isAtEnd !== follows) setFollows(isAtEnd);
          }}
        />
      ) : (
        <p class="empty">It has not started.</p>
      )}
    </Panel>
  );
}

/** The end of a long text, in an element. A line is taken for whole once its end is there. */
class TextEnd {
  private rest = "";
  private kept = 0;
  private readonly last = document.createTextNode("");

  constructor(private readonly element: HTMLElement) {
    element.append(this.last);
  }

  get isEmpty(): boolean {
    return this.kept === 0 && this.rest === "";
  }

  append(text: string): void {
    const all = this.rest + text;
    const end = all.lastIndexOf("\n") + 1;
    if (end > 0) {
      const whole = plainText(all.slice(0, end));
      this.element.insertBefore(document.createTextNode(whole), this.last);
      this.kept += whole.length;
    }
    // Of a line that is written over and over the last state is enough.
    this.rest = all.slice(end).replace(/[^]*\r(?=[^\r])/, "").slice(-KEPT_MAX);
    this.last.data = plainText(this.rest);
    while (this.kept > KEPT_MAX && this.element.firstChild !== this.last) {
      const oldest = this.element.firstChild as Text;
      this.kept -= oldest.length;
      oldest.remove();
    }
  }

  finish(): void {
    this.last.data = plainText(this.rest);
  }

  clear(): void {
    this.element.textContent = "";
    this.element.append(this.last);
    this.last.data = "";
    this.rest = "";
    this.kept = 0;
  }
}
