// Light or dark: what the system prefers, unless one is chosen here. Canvases read its colours.
import { signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
const KEY = "titan-theme";
const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const system = window.matchMedia("(prefers-color-scheme: dark)");

function stored(): Theme {
  try {
    const value = window.localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system"; // storage may be forbidden
  }
}

export const theme = signal<Theme>(stored());
/** Grows when the colours have changed. */
export const repaint = signal(0);

export function applyTheme(): void {
  const chosen = theme.value;
  const isDark = chosen === "dark" || (chosen === "system" && system.matches);
  document.documentElement.dataset["theme"] = isDark ? "dark" : "light";
  repaint.value += 1;
}

system.addEventListener("change", applyTheme);

export function nextTheme(): void {
  theme.value = NEXT[theme.value];
  try {
    if (theme.value === "system") window.localStorage.removeItem(KEY);
    else window.localStorage.setItem(KEY, theme.value);
  } catch {
    // Then it lasts as long as the page.
  }
  applyTheme();
}

/** The value of a custom property, such as --running. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
