// Calls to /api/v1. An error is a sentence for whoever sees it.
import { signal } from "@preact/signals";
import type { Session } from "./types";

export const PREFIX = "/api/v1";

/** Who is logged in; null when nobody is, undefined until that is known. */
export const session = signal<Session | null | undefined>(undefined);

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }

  /** Whether the same may work later without anybody changing it. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

/** A path below the prefix, with those of the values that are something; a list is repeated. */
export function url(path: string, query: Record<string, string | number | string[] | null | undefined> = {}): string {
  const all = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") continue;
    for (const each of Array.isArray(value) ? value : [value]) all.append(key, String(each));
  }
  const text = all.toString();
  return PREFIX + path + (text ? `?${text}` : "");
}

export async function get<T>(address: string, abort?: AbortSignal): Promise<T> {
  return (await call(address, { signal: abort ?? null })) as T;
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  return (await call(PREFIX + path, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "content-type": "application/json", "x-csrf-token": session.value?.csrf ?? "" },
  })) as T;
}

/** Asks who we are. */
export async function loadSession(): Promise<void> {
  try {
    session.value = await get<Session>(url("/session"));
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    session.value = null;
  }
}

export async function logIn(token: string): Promise<void> {
  await post("/session", { token });
  await loadSession();
}

export async function logOut(): Promise<void> {
  try {
    await call(url("/session"), { method: "DELETE", headers: { "x-csrf-token": session.value?.csrf ?? "" } });
  } finally {
    session.value = null;
  }
}

async function call(address: string, how: RequestInit): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(address, { ...how, credentials: "same-origin" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "UNREACHABLE", "The server of these pages does not answer. Is titan web still running?");
  }
  if (response.status === 204) return null;
  let body: unknown = null;
  try {
    body = await response.json();
  } catch (error) {
    // What stands between here and the server answers in its own words.
    if (how.signal?.aborted) throw error;
    if (response.ok) throw new ApiError(502, "UNREADABLE", "The answer of the server was cut off.");
  }
  if (response.ok) return body;
  const { error, code } = (body ?? {}) as { error?: string; code?: string };
  if (response.status === 401 && !address.endsWith("/session")) session.value = null;
  throw new ApiError(response.status, code ?? "UNKNOWN", error ?? `The server answered with status ${response.status}.`);
}
