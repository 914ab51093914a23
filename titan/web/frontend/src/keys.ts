// Keys for the whole page. Lists have their own, in parts/list.tsx.
import { signal } from "@preact/signals";
import { go, link } from "./location";

export const isHelpOpen = signal(false);

export const PLACES: readonly [key: string, path: string, name: string][] = [
  ["c", "/", "Cluster"],
  ["j", "/jobs", "Jobs"],
  ["t", "/timeline", "Timeline"],
  ["h", "/history", "History"],
  ["a", "/api", "API"],
];

const CHORD_MS = 1_200;
let chordUntil = 0;

export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "range", "button", "radio"].includes(target.type);
  return target.isContentEditable || ["TEXTAREA", "SELECT"].includes(target.tagName);
}

export function listenToKeys(): void {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") (event.target as HTMLElement).blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    if (chordUntil > Date.now()) {
      chordUntil = 0;
      const found = PLACES.find(([key]) => key === event.key);
      if (found) {
        event.preventDefault();
        go(link(found[1]));
        document.getElementById("main")?.focus();
      }
      return;
    }
    if (event.key === "g") chordUntil = Date.now() + CHORD_MS;
    else if (event.key === "?") isHelpOpen.value = true;
    else if (event.key === "/") {
      const filter = document.querySelector<HTMLElement>("[data-filter]");
      if (!filter) return;
      event.preventDefault();
      filter.focus();
    }
  });
}
