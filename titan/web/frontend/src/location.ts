// Where the page is: path and query of the URL, in which all of a page's state is, so that a link
// shows another what one sees.
import { computed, signal } from "@preact/signals";

const read = () => ({ path: window.location.pathname, query: new URLSearchParams(window.location.search) });

export const place = signal(read());
/** The moment of the past that is looked at, as the API takes it; null for now. */
export const at = computed(() => place.value.query.get("at"));

window.addEventListener("popstate", () => (place.value = read()));

/** A path on this server, with the moment that is looked at. */
export function link(path: string, query: Record<string, string | number | null> = {}): string {
  const all = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== null && value !== "") all.set(key, String(value));
  }
  if (at.value !== null) all.set("at", at.value);
  const text = all.toString();
  return text ? `${path}?${text}` : path;
}

/** Goes to what `link` returned. */
export function go(url: string, how: "push" | "replace" = "push"): void {
  if (how === "push") window.history.pushState(null, "", url);
  else window.history.replaceState(null, "", url);
  place.value = read();
}

/** The same page with other values in its query; null takes one out. */
export function change(values: Record<string, string | number | null>, how: "push" | "replace" = "replace"): void {
  const query = new URLSearchParams(place.value.query);
  for (const [key, value] of Object.entries(values)) {
    if (value === null || value === "") query.delete(key);
    else query.set(key, String(value));
  }
  const text = query.toString();
  go(text ? `${place.value.path}?${text}` : place.value.path, how);
}

/** Follows links within these pages without loading them anew. */
export function followLinks(): void {
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const anchor = (event.target as Element).closest("a");
    if (!anchor || anchor.target || anchor.origin !== window.location.origin) return;
    if (anchor.hash || anchor.hasAttribute("download") || anchor.pathname.includes(".")) return;
    event.preventDefault();
    go(anchor.pathname + anchor.search);
    document.getElementById("main")?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  });
}
