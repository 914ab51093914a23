// What a task writes, while it writes it. It is shown as text: nothing in it is acted upon.
import { useEffect, useRef, useState } from "preact/hooks";
import { url } from "../api";
import { bytes } from "../format";
import { isAway } from "../live";
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
type Choice = Stream | "both";

const TAIL_LINES = 1_000;
// As much as a browser lays out without effort; older text goes first.
const KEPT_MAX = 1_000_000;
const NEAR_END_PX = 40;

export function Output({ id, index, isArray, hasStarted, attempts }: Properties) {
  const [stream, setStream] = useState<Choice>("both");
  const [follows, setFollows] = useState(true);
  const [status, setStatus] = useState("");
  const [attempt, setAttempt] = useState<number | null>(null);
  const screen = useRef<HTMLPreElement>(null);
  const isFollowing = useRef(true);
  isFollowing.current = follows;
  const isOver = useRef(false);
  // What has ended needs no connection, and stays.
  const away = isAway.value && !isOver.current;
  const numbers = attempts.filter((each) => each.index === index).map((each) => each.attempt);

  useEffect(() => setAttempt(null), [id, index]);
  useEffect(() => {
    const element = screen.current;
    if (!element || !hasStarted || away) return undefined;
    element.textContent = "";
    setStatus("connecting");
    isOver.current = false;
    const text = new TextEnd(element);
    const source = new EventSource(url(`/jobs/${id}/output`, { index, attempt, stream: stream === "both" ? null : stream, tail: TAIL_LINES }));
    let shownAttempt: number | null = null;
    source.addEventListener("open", () => {
      // A connection that was lost begins with the same lines again.
      text.clear();
      shownAttempt = null;
      setStatus("following");
    });
    source.addEventListener("data", (event) => {
      const data = JSON.parse(event.data) as { stream: Stream; text: string; attempt: number; hole_bytes?: number };
      if (shownAttempt !== null && data.attempt !== shownAttempt) text.append(data.stream, `\n[attempt ${data.attempt}]\n`);
      shownAttempt = data.attempt;
      if (data.hole_bytes) text.append(data.stream, `\n[${bytes(data.hole_bytes)} are missing here]\n`);
      text.append(data.stream, data.text);
      if (isFollowing.current) element.scrollTop = element.scrollHeight;
    });
    source.addEventListener("end", () => {
      isOver.current = true;
      setStatus(text.isEmpty ? "ended; nothing was written" : "ended");
      source.close();
    });
    source.addEventListener("error", (event) => {
      const sentence = event instanceof MessageEvent ? (JSON.parse(event.data) as { error: string }).error : null;
      if (sentence !== null || source.readyState === EventSource.CLOSED) source.close();
      setStatus(sentence ?? (source.readyState === EventSource.CLOSED ? "the output cannot be read now" : "reconnecting"));
    });
    return () => source.close();
  }, [id, index, stream, attempt, hasStarted, away]);

  return (
    <Panel
      title={isArray ? `Output of task ${id}.${index}` : "Output"}
      extra={
        <div class="panel-tools">
          <div class="chips" role="group" aria-label="Stream">
            {(["both", "stdout", "stderr"] as const).map((each) => (
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
          role="region"
          aria-label={stream === "both" ? "Output of the task" : `${stream} of the task`}
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

/** The end of a long text of two streams, in an element. A line is plain text once its end is there. */
class TextEnd {
  private kept = 0;
  private rests: Record<Stream, string> = { stdout: "", stderr: "" };
  private readonly lasts: Record<Stream, HTMLElement> = { stdout: piece("stdout", ""), stderr: piece("stderr", "") };

  constructor(private readonly element: HTMLElement) {
    element.append(this.lasts.stdout, this.lasts.stderr);
  }

  get isEmpty(): boolean {
    return this.kept === 0 && this.rests.stdout === "" && this.rests.stderr === "";
  }

  append(stream: Stream, text: string): void {
    const all = this.rests[stream] + text;
    const end = all.lastIndexOf("\n") + 1;
    if (end > 0) {
      const whole = plainText(all.slice(0, end));
      this.element.insertBefore(piece(stream, whole), this.lasts.stdout);
      this.kept += whole.length;
    }
    // Of a line that is written over and over the last state is enough.
    this.rests[stream] = all
      .slice(end)
      .replace(/[^]*\r(?=[^\r])/, "")
      .slice(-KEPT_MAX);
    this.lasts[stream].textContent = plainText(this.rests[stream]);
    while (this.kept > KEPT_MAX && this.element.firstChild !== this.lasts.stdout) {
      const oldest = this.element.firstChild!;
      this.kept -= oldest.textContent?.length ?? 0;
      oldest.remove();
    }
  }

  clear(): void {
    this.kept = 0;
    this.rests = { stdout: "", stderr: "" };
    this.lasts.stdout.textContent = this.lasts.stderr.textContent = "";
    this.element.replaceChildren(this.lasts.stdout, this.lasts.stderr);
  }
}

function piece(stream: Stream, text: string): HTMLElement {
  const element = document.createElement("span");
  element.className = stream;
  element.textContent = text;
  return element;
}
