// What every page asks.
import { useEffect } from "preact/hooks";
import { session } from "../api";
import { at } from "../location";

/** Why nothing can be changed now; empty when it can. */
export function whyUnchangeable(): string {
  if (at.value !== null) return "The past cannot be changed.";
  if (!session.value?.writable) return "This server is read-only.";
  return "";
}

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} – Titan`;
  }, [title]);
}
