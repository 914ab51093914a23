// What is around every page: where one can go, whether it is live, who one is, and the slider.
import type { ComponentChildren } from "preact";
import { logOut, session } from "../api";
import { age, clock, now } from "../format";
import { isHelpOpen, PLACES } from "../keys";
import { contact } from "../live";
import { at, link, place } from "../location";
import { nextTheme, theme } from "../theme";
import { Dialog } from "./small";
import { TimeBar } from "./timebar";

export function Shell({ children }: { children: ComponentChildren }) {
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={skip}>
        Skip to the page
      </a>
      <header class="top">
        <a class="brand" href={link("/")}>
          Titan
        </a>
        <nav aria-label="Pages">
          {PLACES.map(([, path, name]) => (
            <a key={path} href={link(path)} aria-current={isWithin(path) ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <Contact />
        <div class="top-end">
          {session.value && !session.value.writable ? (
            <span class="chip" title="This server shows and changes nothing: whoever started it did not allow changes.">
              read-only
            </span>
          ) : null}
          <span class="who" title={`Manager ${session.value?.manager ?? ""}, Titan ${session.value?.version ?? ""}`}>
            {session.value?.user}
          </span>
          <button type="button" class="plain" onClick={nextTheme} aria-label={`Colours: ${theme.value}. Change.`} title={`Colours: ${theme.value}`}>
            {{ system: "◐", light: "☀", dark: "☾" }[theme.value]}
          </button>
          <button type="button" class="plain" onClick={() => (isHelpOpen.value = true)} aria-label="Keys and help" title="Keys and help (?)">
            ?
          </button>
          <button type="button" class="plain" onClick={() => void logOut().catch(() => undefined)} aria-label="Log out" title="Log out">
            <svg width="14" height="14" viewBox="0 0 14 14" fill="none" stroke="currentColor" stroke-width="1.5" aria-hidden="true">
              <path d="M5.5 1.5h-4v11h4M5.5 7h7M9.5 4l3 3-3 3" />
            </svg>
          </button>
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        {children}
      </main>
      <TimeBar />
      {isHelpOpen.value ? <Help /> : null}
    </div>
  );
}

function skip(event: Event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function isWithin(path: string): boolean {
  const here = place.value.path;
  if (path === "/") return here === "/" || here === "/workers";
  if (path === "/jobs") return here.startsWith("/jobs") || here.startsWith("/workflow");
  return here.startsWith(path);
}

function Contact() {
  const state = contact.value;
  const words = {
    live: () => "live",
    paused: () => (at.value === null ? "paused" : "past"),
    connecting: () =>
      "since" in state && now.value - state.since > 2
        ? `no connection since ${clock(state.since)} (${age(now.value - state.since)}), reconnecting`
        : "connecting",
    "manager-away": () =>
      "since" in state ? `manager away since ${clock(state.since)} (${age(now.value - state.since)}), reconnecting` : "",
  }[state.kind]();
  return (
    <div class={`contact contact-${state.kind}`} role="status" data-contact={state.kind} title={"error" in state ? state.error : undefined}>
      <span aria-hidden="true">{{ live: "●", paused: "❚❚", connecting: "◌", "manager-away": "⚠" }[state.kind]}</span> {words}
    </div>
  );
}

const KEYS: readonly [string, string][] = [
  ...PLACES.map(([key, , name]): [string, string] => [`g ${key}`, name]),
  ["/", "Filter"],
  ["↑ ↓ PgUp PgDn Home End", "Move in a list"],
  ["Enter", "Open"],
  ["Space", "Select a job; with Shift, all up to it"],
  ["+ − ← → 0", "Zoom and move in a timeline or a workflow; show all"],
  ["Esc", "Close, leave a field"],
  ["?", "This help"],
];

function Help() {
  return (
    <Dialog title="Keys" onClose={() => (isHelpOpen.value = false)}>
      <dl class="keys">
        {KEYS.map(([key, what]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <p class="fine">
        Titan {session.value?.version}, manager {session.value?.manager}. The same from a terminal: <code>titan --help</code>.{" "}
        <a href="/assets/licenses.txt" target="_blank" rel="noreferrer">
          Licences of what is bundled here
        </a>
      </p>
    </Dialog>
  );
}
