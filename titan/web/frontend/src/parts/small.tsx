// Small things that many pages show.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { ApiError } from "../api";
import { link } from "../location";

const SIGNS: Record<string, string> = {
  PENDING: "○",
  SCHEDULED: "◔",
  RUNNING: "▶",
  COMPLETED: "✓",
  FAILED: "✕",
  CANCELLED: "⊘",
  LOST: "✕",
  RECALLED: "↩",
  HEALTHY: "✓",
  UNHEALTHY: "?",
  DISCONNECTED: "✕",
  DEREGISTERED: "–",
};

/** A state as a word with a sign; the colour only repeats it. */
export function StateMark({ state, note }: { state: string; note?: string | null }) {
  return (
    <span class={`state state-${state.toLowerCase()}`}>
      <span aria-hidden="true">{SIGNS[state] ?? "•"}</span> {state}
      {note ? <small> {note}</small> : null}
    </span>
  );
}

/** How much of something is in use, as a bar and in words. */
export function Bar({ used, all, text, label }: { used: number; all: number; text: string; label: string }) {
  const share = all > 0 ? Math.min(1, Math.max(0, used / all)) : 0;
  return (
    <div class="bar">
      <div class="bar-track" role="img" aria-label={`${label}: ${text}`}>
        <div class={share > 0.9 ? "bar-fill bar-full" : "bar-fill"} style={{ width: `${share * 100}%` }} />
      </div>
      <span class="bar-text">{text}</span>
    </div>
  );
}

export function Problem({ error }: { error: ApiError | Error | null | undefined }) {
  return error ? (
    <p class="problem" role="alert">
      <span aria-hidden="true">⚠ </span>
      {error.message}
    </p>
  ) : null;
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

export function JobLink({ id, children }: { id: number | string; children?: ComponentChildren }) {
  return <a href={link(`/jobs/${id}`)}>{children ?? id}</a>;
}

export function Panel({ title, extra, children }: { title: string; extra?: ComponentChildren; children: ComponentChildren }) {
  return (
    <section class="panel">
      <header class="panel-head">
        <h2>{title}</h2>
        {extra}
      </header>
      {children}
    </section>
  );
}

/** A dialog that takes the focus and gives it back; Esc closes it. */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={element}
      aria-labelledby="dialog-title"
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <header class="dialog-head">
        <h2 id="dialog-title">{title}</h2>
        <button type="button" class="plain" aria-label="Close" onClick={onClose}>
          ✕
        </button>
      </header>
      {children}
    </dialog>
  );
}
