// Numbers, sizes and times for people.
import { signal } from "@preact/signals";
import { clockAhead } from "./live";

/** The server's time in Unix seconds, new each second, for ages. */
export const now = signal(Date.now() / 1000);
setInterval(() => (now.value = Date.now() / 1000 + clockAhead.peek()), 1000);

const two = (value: number) => String(value).padStart(2, "0");

/** 14:02:07 today, else with the date in front; local time. */
export function clock(time: number | null | undefined): string {
  if (time === null || time === undefined) return "–";
  const date = new Date(time * 1000);
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return date.toDateString() === new Date().toDateString() ? text : `${day(time)} ${text}`;
}

export function day(time: number): string {
  const date = new Date(time * 1000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** Date and time to the millisecond. */
export function exactly(time: number | null | undefined): string {
  if (time === null || time === undefined) return "";
  const date = new Date(time * 1000);
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day(time)} ${text}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** 0.42 s, 12 s, 3m 12s, 2h 5m, 3d 4h. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0) seconds = 0;
  if (seconds < 10) return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const [s, m, h] = [Math.floor(seconds % 60), Math.floor(seconds / 60) % 60, Math.floor(seconds / 3600) % 24];
  if (seconds < 3600) return `${m}m ${s}s`;
  if (seconds < 86400) return `${h}h ${m}m`;
  return `${Math.floor(seconds / 86400)}d ${h}h`;
}

/** A duration that runs: whole seconds. */
export function age(seconds: number): string {
  return seconds < 10 ? `${Math.max(0, Math.floor(seconds))} s` : duration(seconds);
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 3 });

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? "–" : grouped.format(value);
}

export function percent(share: number | null | undefined): string {
  return share === null || share === undefined ? "–" : `${Math.round(share * 100)}%`;
}

/** One task, two tasks. */
export function plural(value: number, word: string): string {
  return `${count(value)} ${word}${value === 1 ? "" : "s"}`;
}
